//! The code map of ARCHITECTURE.md, and the imports that its column "may use" allows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::assert_none;
use crate::imports::Crate;
use crate::source::{root, sources};

/// Returns the rows of the code map: the place, and its cell "may use".
fn rows() -> BTreeMap<String, String> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table: BTreeMap<_, _> = page
        .lines()
        .skip_while(|line| *line != "| folder | one job | may use |")
        .skip(2)
        .map_while(|line| line.strip_prefix("| `")?.strip_suffix(" |"))
        .map(|line| {
            let (place, rest) = line.split_once("` |").expect("a place in backticks");
            let (_, may_use) = rest.rsplit_once(" | ").expect("a third cell");
            (place.to_owned(), may_use.to_owned())
        })
        .collect();
    assert!(!table.is_empty(), "ARCHITECTURE.md has no code map");
    table
}

/// Returns the names in a cell "may use". Names after a semicolon are crates of others.
///
/// A cell is "nothing", or module names in backticks with commas between them. Any other form is
/// refused, since a reader could see a permission in it that the test does not.
fn modules_in(cell: &str) -> Option<BTreeSet<&str>> {
    let modules = cell.split(';').next()?;
    if modules == "nothing" {
        return Some(BTreeSet::new());
    }
    let names = modules.split(", ");
    names
        .map(|name| name.strip_prefix('`')?.strip_suffix('`'))
        .collect()
}

/// Returns the module of `src/` that a place of the code map is.
fn module(place: &str) -> Option<&str> {
    let name = place.strip_prefix("src/")?;
    Some(name.trim_end_matches('/').trim_end_matches(".rs"))
}

#[test]
fn each_module_uses_what_the_code_map_allows() {
    let rows = rows();
    let allowed: BTreeMap<_, _> = rows
        .iter()
        .filter_map(|(place, cell)| {
            let module = module(place)?;
            let names = modules_in(cell);
            Some((
                module,
                names.unwrap_or_else(|| panic!("{place} may use: {cell}")),
            ))
        })
        .collect();
    let mut breaches = Vec::new();
    for used in Crate::new("src/", &sources(&["src"])).uses_of_modules() {
        let may = allowed
            .get(&*used.from)
            .is_some_and(|names| names.contains(&*used.to));
        if !may {
            breaches.push(format!("{}:{}: {}", used.file, used.line, used.path));
        }
    }
    assert_none(
        "the code map of ARCHITECTURE.md says which modules each module may use",
        &breaches,
    );
}

#[test]
fn the_code_map_names_existing_modules_and_leaves_none_out() {
    let rows = rows();
    let mut breaches = Vec::new();
    for (place, cell) in &rows {
        if !root().join(place).exists() {
            breaches.push(format!("{place} is in the code map, and does not exist"));
        }
        let names = module(place).and_then(|_| modules_in(cell));
        for name in names.into_iter().flatten() {
            if !rows.keys().any(|place| module(place) == Some(name)) {
                breaches.push(format!("{place} may use `{name}`, which is no module"));
            }
        }
    }
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = rows
            .keys()
            .any(|place| module(place) == Some(name.trim_end_matches(".rs")));
        if name != "lib.rs" && !known {
            breaches.push(format!("src/{name} is not in the code map"));
        }
    }
    assert_none("the code map of ARCHITECTURE.md is complete", &breaches);
}
