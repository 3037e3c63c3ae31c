//! `cargo xtask check`: the quick check before a commit.
//!
//! Format, lints, layout rules and unit tests: what a change most often breaks. It starts no node
//! and no browser, and takes less than a minute once everything is built.

use crate::host::workspace::Workspace;
use crate::stages::{self, Stage, cargo};

pub(crate) fn run() -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    stages::run(&[
        Stage::format(&workspace),
        Stage::native_clippy(&workspace),
        Stage::new("layout rules", || {
            cargo(&workspace, &["test", "--quiet", "--test", "tidy"])
        }),
        Stage::new("unit tests, library", || {
            let lib = ["test", "--quiet", "--lib"];
            cargo(&workspace, &[&lib[..], &stages::FEATURES].concat())
        }),
        Stage::new("unit tests, programs", || {
            let programs = ["--package", "gossip-node", "--package", "xtask", "--bins"];
            cargo(&workspace, &[&["test", "--quiet"][..], &programs].concat())
        }),
    ])
}
