//! `cargo xtask check`: the quick check before a commit.
//!
//! Format, lints, layout rules and unit tests: what a change most often breaks. It starts no node
//! and no browser, and takes less than a minute once everything is built.

use crate::host::workspace::Workspace;
use crate::stages::{self, FEATURES, Stage, cargo};

/// The packages with unit tests that run natively. All tests are built with the same packages and
/// features, so that the library is compiled once for them.
const PACKAGES: [&str; 6] = [
    "--package",
    "gossip-transport",
    "--package",
    "gossip-node",
    "--package",
    "xtask",
];

pub(crate) fn run() -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    let tests = |what: &[&str]| {
        let test = ["test", "--quiet"];
        cargo(
            &workspace,
            &[&test[..], &PACKAGES, &FEATURES, what].concat(),
        )
    };
    stages::run(&[
        Stage::format(&workspace),
        Stage::native_clippy(&workspace),
        Stage::new("layout rules", || tests(&["--test", "tidy"])),
        Stage::new("unit tests", || tests(&["--lib", "--bins"])),
    ])
}
