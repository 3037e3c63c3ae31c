//! Short names between a module and its JavaScript.
//!
//! wasm-bindgen's names end in a hash, which does not compress, and stand on both sides.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// What wasm-opt calls the module that everything is imported from.
const MODULE: &str = "a";

/// What wasm-opt says that it has renamed.
#[derive(Debug, Deserialize)]
pub(crate) struct Renamed {
    /// Module, name and new name.
    imports: Vec<(String, String, String)>,
    /// Name and new name.
    exports: Vec<(String, String)>,
}

impl Renamed {
    /// Reads what `--minify-imports-and-exports-and-modules` prints.
    pub(crate) fn read(printed: &str) -> anyhow::Result<Self> {
        serde_json::from_str(printed).context("wasm-opt does not say what it has renamed")
    }

    /// The glue with the new names: `name:` of imports, `"module":`, and `wasm.name` of exports.
    ///
    /// # Errors
    ///
    /// Something renamed is not found: the glue is not as wasm-bindgen wrote it so far.
    pub(crate) fn apply(&self, glue: &str) -> anyhow::Result<String> {
        let imports: HashMap<_, _> = self
            .imports
            .iter()
            .map(|(_, name, new)| (format!("{name}:"), format!("{new}:")))
            .collect();
        let exports: HashMap<_, _> = self
            .exports
            .iter()
            .map(|(name, new)| (name.as_str(), new.as_str()))
            .collect();
        let mut found = BTreeSet::new();
        let mut out = String::with_capacity(glue.len());
        for word in words(glue) {
            if out.ends_with("wasm.")
                && let Some(new) = exports.get(word)
            {
                out.push_str(new);
            } else if let Some(new) = imports.get(word) {
                found.insert(word);
                out.push_str(new);
            } else {
                out.push_str(word);
            }
        }
        for name in imports.keys() {
            ensure!(
                found.contains(name.as_str()),
                "the glue does not have {name}"
            );
        }
        let modules: BTreeSet<_> = self.imports.iter().map(|(module, ..)| module).collect();
        ensure!(
            modules.len() <= 1,
            "{modules:?} would all be called {MODULE}"
        );
        for name in modules {
            let name = format!("\"{name}\":");
            ensure!(out.contains(&name), "the glue does not have {name}");
            out = out.replace(&name, &format!("\"{MODULE}\":"));
        }
        Ok(out)
    }
}

/// The text in pieces, none lost: names, with the colon that follows at once, and what lies between.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$');
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = if is_name(first) {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let colon = rest.get(end..).is_some_and(|after| after.starts_with(':'));
            end + usize::from(colon)
        } else {
            rest.find(is_name).unwrap_or(rest.len())
        };
        let (word, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed() -> Renamed {
        Renamed::read(r#"{"imports":[["./m.js","__wbg_a_1","A"]],"exports":[["a_b","b"]]}"#)
            .unwrap()
    }

    #[test]
    fn whole_names_are_replaced_where_they_cross_the_border() {
        let glue = "x = { __wbg_a_1: function(a) { return wasm.a_b.c(a, wasm.a_bc, a_b) } };\n\
                    y = { \"./m.js\": x }; // ä";
        assert_eq!(
            renamed().apply(glue).unwrap(),
            "x = { A: function(a) { return wasm.b.c(a, wasm.a_bc, a_b) } };\n\
             y = { \"a\": x }; // ä"
        );
    }

    #[test]
    fn a_glue_without_an_import_is_an_error() {
        assert!(renamed().apply("y = { \"./m.js\": x };").is_err());
    }
}
