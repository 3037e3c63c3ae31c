//! Each file that the project's pages name or link to exists.
//!
//! A page may shorten the path of a Rust file from the front, as long as what is left ends the path of a file. In the
//! tables of `tests/MUTANTS.md`, paths with a folder start at `src/` or at the root of the workspace.

use std::path::Path;

use crate::assert_none;
use crate::layout::EVERYWHERE;
use crate::source::{root, sources};

const PAGES: [&str; 8] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "tests/MUTANTS.md",
    "benches/RESULTS.md",
    "docs/internet.md",
    "docs/proxies/README.md",
];

/// Stands for any file, where ARCHITECTURE.md explains the layout.
const PLACEHOLDER: &str = "x.rs";

/// What a page names.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    /// The end of the path of a Rust file.
    End(String),
    /// A path below `src/` or the root of the workspace.
    Whole(String),
    /// The target of a link, relative to the page.
    Link(String),
}

/// Returns what a line of a page names.
fn named(page: &str, line: &str) -> Vec<Named> {
    let is_whole = page == "tests/MUTANTS.md" && line.starts_with('|');
    let quoted = line.split('`').skip(1).step_by(2);
    let paths = quoted.filter(|text| text.ends_with(".rs") && !text.contains([' ', '*']));
    let mut found: Vec<_> = paths
        .flat_map(alternatives)
        .filter(|path| path != PLACEHOLDER)
        .map(|path| match is_whole && path.contains('/') {
            true => Named::Whole(path),
            false => Named::End(path),
        })
        .collect();
    let targets = line.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split([')', '#']).next());
    let targets = targets.filter(|target| !target.is_empty() && !target.contains(':'));
    found.extend(targets.map(|target| Named::Link(target.to_owned())));
    found
}

/// Returns the paths that `a{b,c}.rs` stands for, or the path itself.
fn alternatives(path: &str) -> Vec<String> {
    let braces = path.split_once('{').and_then(|(start, rest)| {
        let (names, end) = rest.split_once('}')?;
        Some((start, names, end))
    });
    match braces {
        Some((start, names, end)) => {
            let names = names.split(',');
            names.map(|name| format!("{start}{name}{end}")).collect()
        }
        None => vec![path.to_owned()],
    }
}

#[test]
fn each_file_that_a_page_names_exists() {
    let sources = sources(EVERYWHERE);
    let mut breaches = Vec::new();
    let mut checked = 0;
    for page in PAGES {
        let folder = Path::new(page).parent().unwrap();
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        for (i, line) in text.lines().enumerate() {
            for named in named(page, line) {
                checked += 1;
                let exists = match &named {
                    Named::End(path) => sources.iter().any(|source| {
                        let before = source.path.strip_suffix(path.as_str());
                        before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
                    }),
                    Named::Whole(path) => {
                        root().join("src").join(path).exists() || root().join(path).exists()
                    }
                    Named::Link(target) => root().join(folder).join(target).exists(),
                };
                if !exists {
                    breaches.push(format!("{page}:{}: {named:?}", i + 1));
                }
            }
        }
    }
    assert!(checked > 200, "only {checked} paths were found");
    assert_none("a page names a file that does not exist", &breaches);
}

#[test]
fn paths_in_backquotes_and_links_to_files_are_found_and_nothing_else() {
    let line = "| `a/b.rs` of `c`, `d/{e,f}.rs`, `g_*.rs`, `x.rs`, [h](h.md#i), [j](#j), [k](https://k.rs) | `l.rs` |";
    let end = |path: &str| Named::End(path.to_owned());
    let whole = |path: &str| Named::Whole(path.to_owned());
    let link = Named::Link("h.md".to_owned());
    let [ab, de, df, l] = ["a/b.rs", "d/e.rs", "d/f.rs", "l.rs"];
    let found = named("README.md", line);
    assert_eq!(found, [end(ab), end(de), end(df), end(l), link]);
    let found = named("tests/MUTANTS.md", line);
    assert_eq!(found[..4], [whole(ab), whole(de), whole(df), end(l)]);
}
