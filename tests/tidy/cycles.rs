//! No files of a crate import items from each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::assert_none;
use crate::imports::{Crate, Edge};
use crate::source::{Source, sources};

/// The crates of the workspace that have more than one file.
const CRATES: &[&str] = &[
    "src/",
    "native/src/",
    "web/src/",
    "web/transport/src/",
    "web/values/src/",
    "xtask/src/",
    "benches/src/",
    "benches/members/src/",
    "tests/native/",
    "tests/tidy/",
];

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles: Vec<_> = CRATES
        .iter()
        .flat_map(|root| circles(&Crate::new(root, &sources(&[root])).edges()))
        .collect();
    assert_none(
        "files that import each other are one file, or lack a third for what they share",
        &circles,
    );
}

/// Describes each largest set of files in which every file leads to every other.
fn circles(edges: &[Edge]) -> Vec<String> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in edges {
        next.entry(&edge.from).or_default().insert(&edge.to);
    }
    let reachable = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&str> = next.get(from).into_iter().flatten().copied().collect();
        while let Some(file) = waiting.pop() {
            if seen.insert(file) {
                waiting.extend(next.get(file).into_iter().flatten());
            }
        }
        seen
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        next.keys().map(|file| (*file, reachable(file))).collect();
    let mut circles: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
    for (file, reached) in &reach {
        if reached.contains(file) {
            let back = |other: &&&str| reach.get(**other).is_some_and(|r| r.contains(file));
            circles.insert(reached.iter().filter(back).copied().collect());
        }
    }
    let describe = |circle: &BTreeSet<&str>| {
        let mut known = BTreeSet::new();
        let lines = edges.iter().filter_map(|edge| {
            let (from, to) = (&*edge.from, &*edge.to);
            let is_first = circle.contains(from) && circle.contains(to) && known.insert((from, to));
            is_first.then(|| format!("\n    {from}:{} uses {} of {to}", edge.line, edge.path))
        });
        let lines: String = lines.collect();
        let files: Vec<_> = circle.iter().copied().collect();
        files.join(", ") + &lines
    };
    circles.iter().map(describe).collect()
}

#[test]
fn a_circle_of_three_files_is_found_and_a_reexport_is_not_one() {
    let sources = [
        ("c/lib.rs", "mod a; mod b; mod d; mod e; pub use a::A;"),
        ("c/a.rs", "use crate::b::B; pub struct A;"),
        ("c/b.rs", "pub struct B; fn f() { crate::d::D; }"),
        ("c/d.rs", "use crate::A; pub struct D;"),
        ("c/e.rs", "use crate::{A, b::B}; pub struct E;"),
    ]
    .map(|(path, text)| Source::new(path, text));
    let found = circles(&Crate::new("c/", &sources).edges());
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("c/a.rs, c/b.rs, c/d.rs\n"),
        "{found:?}"
    );
}
