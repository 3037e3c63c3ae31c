//! Short names for the imports and exports between a wasm module and its JavaScript.
//!
//! The names that wasm-bindgen generates appear on both sides and end in a hash, which does not
//! compress. wasm-opt shortens them in the module; this applies the same names to the JavaScript.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// The name that wasm-opt gives to the only module of the imports.
const MODULE: &str = "a";

/// The names that wasm-opt has replaced.
#[derive(Debug, Deserialize)]
pub(crate) struct Renamed {
    /// Module, old name and new name.
    imports: Vec<(String, String, String)>,
    /// Old name and new name.
    exports: Vec<(String, String)>,
}

impl Renamed {
    /// Parses what wasm-opt prints with `--minify-imports-and-exports-and-modules`.
    pub(crate) fn parse(printed: &str) -> anyhow::Result<Self> {
        serde_json::from_str(printed).context("wasm-opt did not print the names it has replaced")
    }

    /// Returns the JavaScript with the new names: `name:` of imports, `"module":`, and `wasm.name`
    /// of exports.
    ///
    /// # Errors
    ///
    /// Fails if a name is not found, which means that wasm-bindgen writes other JavaScript than it
    /// used to.
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
                "the JavaScript does not contain {name}"
            );
        }
        let modules: BTreeSet<_> = self.imports.iter().map(|(module, ..)| module).collect();
        ensure!(
            modules.len() <= 1,
            "the imports have several modules, which would all be called {MODULE}: {modules:?}"
        );
        for name in modules {
            let name = format!("\"{name}\":");
            ensure!(
                out.contains(&name),
                "the JavaScript does not contain {name}"
            );
            out = out.replace(&name, &format!("\"{MODULE}\":"));
        }
        Ok(out)
    }
}

/// Splits the text into names, each with a colon that directly follows it, and the text between
/// them. The pieces together are the whole text.
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
        Renamed::parse(r#"{"imports":[["./m.js","__wbg_a_1","A"]],"exports":[["a_b","b"]]}"#)
            .unwrap()
    }

    #[test]
    fn only_whole_names_of_imports_and_exports_are_replaced() {
        let glue = "x = { __wbg_a_1: function(a) { return wasm.a_b.c(a, wasm.a_bc, a_b) } };\n\
                    y = { \"./m.js\": x }; // ä";
        assert_eq!(
            renamed().apply(glue).unwrap(),
            "x = { A: function(a) { return wasm.b.c(a, wasm.a_bc, a_b) } };\n\
             y = { \"a\": x }; // ä"
        );
    }

    #[test]
    fn javascript_without_a_renamed_import_is_an_error() {
        assert!(renamed().apply("y = { \"./m.js\": x };").is_err());
    }
}
