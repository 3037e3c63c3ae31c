//! Each test that `tests/MUTANTS.md` names in a table exists.
//!
//! A name is the last part of a path in a cell below "test that fails" or "tests". One that ends with
//! `tests` or `*` names all tests of a module, whose file or folder must exist.

use crate::assert_none;
use crate::source::{Source, root, sources};

/// Returns the paths of tests that the tables of `page` name.
fn named(page: &str) -> Vec<&str> {
    let mut in_tests = false;
    let mut found = Vec::new();
    for line in page.lines() {
        let Some(last) = line
            .strip_suffix('|')
            .and_then(|row| row.split('|').next_back())
        else {
            in_tests = false;
            continue;
        };
        in_tests |= ["test that fails", "tests"].contains(&last.trim());
        if in_tests {
            let words = last.split('`').skip(1).step_by(2);
            found.extend(words.filter(|word| !word.contains(['/', '.'])));
        }
    }
    found
}

/// Returns whether a path names a test of `sources`, or a module.
fn exists(path: &str, sources: &[Source]) -> bool {
    let path = path.strip_suffix("::*").unwrap_or(path);
    let path = path.strip_suffix("::tests").unwrap_or(path);
    let name = path.rsplit("::").next().unwrap_or(path);
    let test = format!("fn {name}(");
    let ends = [format!("/{name}.rs"), format!("/{name}/mod.rs")];
    sources.iter().any(|source| {
        source.text.contains(&test) || ends.iter().any(|end| source.path.ends_with(end))
    })
}

#[test]
fn each_test_that_notices_a_defect_exists() {
    let page = std::fs::read_to_string(root().join("tests/MUTANTS.md")).unwrap();
    let sources = sources(&["src", "tests"]);
    let named = named(&page);
    assert!(named.len() > 50, "{named:?}");
    let gone = named.into_iter().filter(|path| !exists(path, &sources));
    let gone: Vec<_> = gone.map(str::to_owned).collect();
    assert_none("tests/MUTANTS.md names tests that do not exist:", &gone);
}

#[test]
fn only_the_columns_of_tests_name_tests() {
    let page =
        "| defect | test that fails |\n|---|---|\n| `a` | `b::c`, `d/e.rs` |\n\n| `f` | `g` |\n";
    assert_eq!(named(page), ["b::c"]);
    let sources = [Source::new("src/h.rs", "fn c() {}")];
    for (path, expected) in [
        ("b::c", true),
        ("c", true),
        ("h::tests::*", true),
        ("b::d", false),
    ] {
        assert_eq!(exists(path, &sources), expected, "{path}");
    }
}
