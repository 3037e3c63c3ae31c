//! Rules about the start of a file, its length, and the place of its `mod` lines.

use crate::assert_none;
use crate::source::{Source, root, sources};

/// All folders with Rust code.
pub(crate) const EVERYWHERE: &[&str] = &[
    "src", "native", "web", "xtask", "aead", "benches", "tests", "examples",
];

#[test]
fn every_file_begins_with_what_it_is() {
    let breaches: Vec<_> = sources(EVERYWHERE)
        .into_iter()
        .filter(|source| !source.is_unit_test() && !source.text.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    assert_none("a file begins with what it is, after `//! `", &breaches);
}

#[test]
fn no_file_is_too_long() {
    /// Lines of code, in the library.
    const MOST_CODE: usize = 500;
    /// Lines in all, everywhere.
    const MOST: usize = 600;
    let mut breaches = Vec::new();
    for source in sources(EVERYWHERE) {
        let (code, all) = (source.len(), source.text.lines().count());
        if all > MOST || source.is_in(&["src/"]) && code > MOST_CODE {
            breaches.push(format!("{}: {all} lines, {code} of code", source.path));
        }
    }
    assert_none(
        "a file that is too long has a second job: split it",
        &breaches,
    );
}

#[test]
fn a_module_with_a_folder_is_the_mod_rs_in_it() {
    let breaches: Vec<_> = sources(EVERYWHERE)
        .into_iter()
        .filter(|source| root().join(source.path.trim_end_matches(".rs")).is_dir())
        .map(|source| source.path)
        .collect();
    assert_none("`x.rs` beside a folder `x/` is `x/mod.rs`", &breaches);
}

#[test]
fn mod_lines_stand_before_all_other_items() {
    let breaches: Vec<_> = sources(EVERYWHERE)
        .iter()
        .flat_map(late_mod_lines)
        .collect();
    assert_none("`mod` lines stand at the top of a file", &breaches);
}

/// Returns the `mod` lines, those of unit tests included, that stand below another item.
fn late_mod_lines(source: &Source) -> Vec<String> {
    let mut late = Vec::new();
    let mut is_below = false;
    for (number, line) in source.lines_with_tests() {
        // Attributes may stand before and between, on several lines; what is indented is part of
        // something else.
        let is_item = line.starts_with(|c: char| c.is_alphabetic());
        let is_mod =
            line.trim_end().ends_with(';') && line.split_whitespace().any(|word| word == "mod");
        if is_item && is_mod && is_below {
            late.push(format!("{}:{number}: {}", source.path, line.trim()));
        }
        is_below |= is_item && !is_mod;
    }
    late
}

#[test]
fn a_mod_line_below_a_use_line_is_found() {
    let text =
        "#![allow(\n    a,\n)]\nmod b;\n#[cfg(test)]\nmod c;\nuse d::e;\npub(crate) mod f;\n";
    let found = late_mod_lines(&Source::new("x.rs", text));
    assert_eq!(found, ["x.rs:8: pub(crate) mod f;"]);
}
