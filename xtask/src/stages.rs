//! The parts of `cargo xtask check` and `cargo xtask test`, and the loop that runs them.
//!
//! Invariant: every stage runs, also after one has failed, and the summary names each with its time.

use std::time::Instant;

use anyhow::bail;

use crate::host::command;
use crate::host::interrupt::Interrupted;
use crate::host::workspace::Workspace;

/// The features that are tested although they are off by default.
pub(crate) const FEATURES: [&str; 2] = [
    "--features",
    "gossip-transport/acme,gossip-transport/axum,gossip-transport/chitchat",
];

/// A named part of a run.
pub(crate) struct Stage<'a> {
    pub(crate) name: &'static str,
    work: Box<dyn Fn() -> anyhow::Result<()> + 'a>,
}

impl<'a> Stage<'a> {
    /// Returns a stage that calls `work`.
    pub(crate) fn new(name: &'static str, work: impl Fn() -> anyhow::Result<()> + 'a) -> Self {
        Self {
            name,
            work: Box::new(work),
        }
    }

    /// Returns the stage that checks the format of all packages.
    pub(crate) fn format(workspace: &'a Workspace) -> Self {
        Self::new("format", || cargo(workspace, &["fmt", "--all", "--check"]))
    }

    /// Returns the stage that runs clippy natively on all targets of all packages.
    pub(crate) fn native_clippy(workspace: &'a Workspace) -> Self {
        Self::new("clippy, native", || {
            let what = [&["--workspace", "--all-targets"][..], &FEATURES].concat();
            clippy(workspace, &what)
        })
    }
}

/// Runs all stages and prints a summary. Fails if one has failed.
pub(crate) fn run(stages: &[Stage<'_>]) -> anyhow::Result<()> {
    let mut results = Vec::new();
    for stage in stages {
        println!("\n== {}", stage.name);
        let start = Instant::now();
        let outcome = (stage.work)();
        match &outcome {
            Err(error) if error.is::<Interrupted>() => return outcome,
            Err(error) => eprintln!("FAILED {}: {error:#}", stage.name),
            Ok(()) => {}
        }
        results.push((stage.name, outcome.is_ok(), start.elapsed()));
    }

    println!("\n== summary");
    for (name, passed, took) in &results {
        let word = if *passed { "  ok" } else { "FAIL" };
        println!("{word} {name} ({:.1} s)", took.as_secs_f64());
    }
    let failed = results.iter().filter(|(_, passed, _)| !passed).count();
    println!(
        "{} of {} stages passed",
        results.len() - failed,
        results.len()
    );
    if failed > 0 {
        bail!("{failed} of {} stages failed", results.len());
    }
    Ok(())
}

/// Runs cargo in the workspace.
pub(crate) fn cargo(workspace: &Workspace, args: &[&str]) -> anyhow::Result<()> {
    command::run(&mut workspace.cargo(args))
}

/// Runs clippy on `what`. Fails on any warning.
pub(crate) fn clippy(workspace: &Workspace, what: &[&str]) -> anyhow::Result<()> {
    let args = [&["clippy", "--quiet"], what, &["--", "-D", "warnings"]].concat();
    cargo(workspace, &args)
}
