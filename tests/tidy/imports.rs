//! A simple reader of the paths in a crate's files, and of the files that they lead to.
//!
//! It knows modules, items, `use` trees and re-exports. It does not expand macros and does not know
//! scopes below a file: methods and enum variants lead to the file of the item before them.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Source;

/// A path in the code, such as `crate::net::Alpn`, `super::Peers` or `state::Bound`.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
    /// The name that it binds, if the path is part of a `use`.
    import: Option<Import>,
}

#[derive(Debug, Clone)]
struct Import {
    /// The name that is bound; `*` for all of a module.
    name: String,
    is_public: bool,
}

/// Returns all paths of a file that may lead to another file of its crate. `code` is
/// [`Source::code`].
pub(crate) fn paths(code: &str) -> Vec<Path> {
    let tokens = tokens(code);
    let word = |i: usize| tokens.get(i).map_or("", |(_, token)| token.as_str());
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let line = tokens[i].0;
        if word(i) == "use" {
            let is_public = i > 0 && matches!(word(i - 1), "pub" | ")");
            let mut trees = Vec::new();
            i = tree(&tokens, i + 1, &[], &mut trees);
            found.extend(trees.into_iter().map(|(line, segments, name)| Path {
                line,
                segments,
                import: Some(Import { name, is_public }),
            }));
        } else if is_name(word(i)) && word(i + 1) == "::" && (i == 0 || word(i - 1) != "::") {
            let mut segments = vec![word(i).to_owned()];
            while word(i + 1) == "::" && is_name(word(i + 2)) {
                i += 2;
                segments.push(word(i).to_owned());
            }
            found.push(Path {
                line,
                segments,
                import: None,
            });
        }
        i += 1;
    }
    found
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Returns words, `::` and all other characters one by one, each with its line.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let len = if rest.starts_with("::") {
                2
            } else if word(first) {
                rest.find(|c| !word(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            tokens.push((number + 1, rest[..len].to_owned()));
            rest = rest[len..].trim_start();
        }
    }
    tokens
}

/// Reads the use tree at `i` into `found` as line, path and bound name. Returns the index of the
/// token after it.
fn tree(
    tokens: &[(usize, String)],
    mut i: usize,
    prefix: &[String],
    found: &mut Vec<(usize, Vec<String>, String)>,
) -> usize {
    let word = |i: usize| tokens.get(i).map_or("", |(_, token)| token.as_str());
    let line = tokens.get(i).map_or(0, |(line, _)| *line);
    let mut path = prefix.to_vec();
    loop {
        match word(i) {
            // A path that begins with it leads out of the crate.
            "::" if path.is_empty() => path.push(String::new()),
            "::" => {}
            "{" => {
                i += 1;
                while !matches!(word(i), "}" | "") {
                    i = tree(tokens, i, &path, found);
                    i += usize::from(word(i) == ",");
                }
                return i + 1;
            }
            "*" => {
                found.push((line, path, "*".to_owned()));
                return i + 1;
            }
            "self" if !prefix.is_empty() => {}
            "as" => {
                found.push((line, path, word(i + 1).to_owned()));
                return i + 2;
            }
            name if is_name(name) => path.push(name.to_owned()),
            _ => {
                let name = path.last().cloned().unwrap_or_default();
                found.push((line, path, name));
                return i;
            }
        }
        i += 1;
    }
}

/// The files of one crate, by module.
pub(crate) struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
}

struct Module {
    file: String,
    /// Names of the items that the file defines.
    items: BTreeSet<String>,
    paths: Vec<Path>,
}

/// The use of an item of another file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) line: usize,
    pub(crate) to: String,
    pub(crate) path: String,
}

/// The use of one module at the top of a crate by another.
#[derive(Debug)]
pub(crate) struct ModuleUse {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) path: String,
}

impl Crate {
    /// `root` is the folder of `main.rs` or `lib.rs`, with a slash at its end. Unit tests and
    /// binaries in `bin/` are left out.
    pub(crate) fn new(root: &str, sources: &[Source]) -> Self {
        let sources = sources.iter().filter(|source| {
            source.path.starts_with(root)
                && !source.path[root.len()..].starts_with("bin/")
                && !source.is_unit_test()
        });
        let modules = sources.map(|source| {
            let code = source.code();
            let module = Module {
                file: source.path.clone(),
                items: items(&code),
                paths: paths(&code),
            };
            (module_of(&source.path[root.len()..]), module)
        });
        Self {
            modules: modules.collect(),
        }
    }

    /// Returns every use of an item of another file, except re-exports of a `mod.rs` or a root.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (name, module) in &self.modules {
            let is_index = ["mod.rs", "lib.rs", "main.rs"]
                .iter()
                .any(|index| module.file.ends_with(index));
            for path in &module.paths {
                let is_reexport = path.import.as_ref().is_some_and(|i| i.is_public);
                if is_index && is_reexport {
                    continue;
                }
                let Some(target) = self.resolve(name, &path.segments, 0) else {
                    continue;
                };
                // A `use` of a module does not use any item of it yet; the paths that begin with it
                // do.
                let is_glob = path.import.as_ref().is_some_and(|i| i.name == "*");
                let to = match target {
                    Target::Module(_) if path.import.is_some() && !is_glob => continue,
                    Target::Module(module) | Target::Item(module) => &self.modules[&module].file,
                };
                if *to != module.file {
                    edges.push(Edge {
                        from: module.file.clone(),
                        line: path.line,
                        to: to.clone(),
                        path: path.segments.join("::"),
                    });
                }
            }
        }
        edges
    }

    /// Returns every use of another module at the top of the crate.
    pub(crate) fn uses_of_modules(&self) -> Vec<ModuleUse> {
        let mut uses = Vec::new();
        for (name, module) in &self.modules {
            let Some(from) = name.first() else { continue };
            for path in &module.paths {
                let Some(to) = self.top(name, &path.segments) else {
                    continue;
                };
                if to != *from {
                    uses.push(ModuleUse {
                        from: from.clone(),
                        to,
                        file: module.file.clone(),
                        line: path.line,
                        path: path.segments.join("::"),
                    });
                }
            }
        }
        uses
    }

    /// Returns the module at the top of the crate that `path` names, or leads to from the root.
    fn top(&self, module: &[String], path: &[String]) -> Option<String> {
        let supers = path.iter().take_while(|name| *name == "super").count();
        let rest = match path.first()?.as_str() {
            "crate" => &path[1..],
            "super" if supers == module.len() => &path[supers..],
            _ => return None,
        };
        let first = rest.first()?;
        if self.modules.contains_key(std::slice::from_ref(first)) {
            return Some(first.clone());
        }
        match self.resolve(&[], rest, 0)? {
            Target::Module(module) | Target::Item(module) => module.first().cloned(),
        }
    }

    /// Returns the target of `path` in the module `from`, or `None` for items of other crates.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Target> {
        // Re-exports that lead back to themselves, which this reader cannot follow.
        if depth > 16 {
            return None;
        }
        let mut module = from.to_vec();
        let mut names = path.iter().peekable();
        match names.peek()?.as_str() {
            "crate" => {
                module.clear();
                names.next();
            }
            "self" => _ = names.next(),
            "super" => {
                while names.next_if(|name| *name == "super").is_some() {
                    module.pop()?;
                }
            }
            _ => {}
        }
        let mut is_first = names.len() == path.len();
        for name in names {
            let child: Vec<_> = module.iter().chain([name]).cloned().collect();
            if self.modules.contains_key(&child) {
                module = child;
                is_first = false;
                continue;
            }
            let here = self.modules.get(&module)?;
            if here.items.contains(name) {
                return Some(Target::Item(module));
            }
            match self.imported(&module, name, depth) {
                Some(Target::Module(other)) => module = other,
                Some(item) => return Some(item),
                // A name that is neither here nor imported belongs to another crate or the prelude.
                None if is_first => return None,
                None => return Some(Target::Item(module)),
            }
            is_first = false;
        }
        Some(Target::Module(module))
    }

    /// Returns the target of `name` in `module` by one of its imports.
    fn imported(&self, module: &[String], name: &str, depth: usize) -> Option<Target> {
        let paths = &self.modules.get(module)?.paths;
        let imports = |wanted: &str| {
            let wanted = wanted.to_owned();
            paths
                .iter()
                .filter(move |p| p.import.as_ref().is_some_and(|i| i.name == wanted))
        };
        for path in imports(name) {
            // `use x::x` and the like would resolve to themselves.
            if path.segments.len() > 1
                && let Some(target) = self.resolve(module, &path.segments, depth + 1)
            {
                return Some(target);
            }
        }
        for path in imports("*") {
            let mut path = path.segments.clone();
            path.push(name.to_owned());
            if let Some(Target::Item(other)) = self.resolve(module, &path, depth + 1)
                && self.modules[&other].items.contains(name)
            {
                return Some(Target::Item(other));
            }
        }
        None
    }
}

enum Target {
    Module(Vec<String>),
    /// An item of this module.
    Item(Vec<String>),
}

/// Returns the module of a file: `a/b/mod.rs` and `a/b.rs` are `a::b`.
fn module_of(path: &str) -> Vec<String> {
    let mut module: Vec<_> = path
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    let last = module.last().map(String::as_str);
    if last == Some("mod") || module.len() == 1 && matches!(last, Some("lib" | "main")) {
        module.pop();
    }
    module
}

/// Returns the names of the items that stand outside all braces.
fn items(code: &str) -> BTreeSet<String> {
    const KINDS: [&str; 9] = [
        "struct",
        "enum",
        "union",
        "fn",
        "trait",
        "type",
        "const",
        "static",
        "macro_rules",
    ];
    let tokens = tokens(code);
    let mut items = BTreeSet::new();
    let mut depth = 0;
    for (i, (_, token)) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            kind if depth == 0 && KINDS.contains(&kind) => {
                let next = |n: usize| tokens.get(i + n).map(|(_, token)| token.clone());
                items.extend(next(if kind == "macro_rules" { 2 } else { 1 }));
            }
            _ => {}
        }
    }
    items
}

#[test]
fn paths_lead_through_modules_and_reexports_to_the_file_of_the_item() {
    let sources = [
        ("c/lib.rs", "mod a; mod b; pub use a::Public;"),
        (
            "c/a/mod.rs",
            "mod one; mod two; pub use one::{Inner as Public, *}; struct Here; fn f() { two::g() }",
        ),
        (
            "c/a/one.rs",
            "use super::Here; pub struct Inner; pub const ALL: u8 = 1;",
        ),
        (
            "c/a/two.rs",
            "use super::one::{self, Inner}; use std::fmt; fn g() { one::x() }",
        ),
        (
            "c/b.rs",
            "use crate::{Public, a::{ALL, two::g}}; use crate::a;\nfn h(_: a::Here) { fmt::y() }",
        ),
    ]
    .map(|(path, text)| Source::new(path, text));
    let edges = Crate::new("c/", &sources).edges();
    let edges: Vec<_> = edges
        .iter()
        .map(|edge| format!("{} -> {}: {}", &edge.from[2..], &edge.to[2..], edge.path))
        .collect();
    let expected = [
        "a/mod.rs -> a/two.rs: two::g",
        "a/one.rs -> a/mod.rs: super::Here",
        "a/two.rs -> a/one.rs: super::one::Inner",
        "a/two.rs -> a/one.rs: one::x",
        "b.rs -> a/one.rs: crate::Public",
        "b.rs -> a/one.rs: crate::a::ALL",
        "b.rs -> a/two.rs: crate::a::two::g",
        "b.rs -> a/mod.rs: a::Here",
    ];
    assert_eq!(edges, expected);
}
