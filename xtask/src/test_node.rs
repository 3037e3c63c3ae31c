//! Examples of the library that run as native nodes for the browser tests.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::host::process::Process;
use crate::host::workspace::Workspace;
use crate::host::{command, wait};

/// Limit from the start of an example until it prints its facts.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running example. It prints how to dial it as one line of JSON, and runs until its standard
/// input is closed. Dropping it ends it.
pub(crate) struct TestNode {
    _process: Process,
    /// The line of JSON that the example has printed.
    pub(crate) facts: Value,
}

impl TestNode {
    /// Builds and starts an example of the library.
    pub(crate) fn start(workspace: &Workspace, example: &str) -> anyhow::Result<Self> {
        println!("Building the example {example}");
        let build = ["build", "--quiet", "--package=gossip-transport"];
        let mut build = workspace.cargo(&build);
        command::run(build.args(["--example", example]))?;
        let program = workspace
            .target
            .join("debug/examples")
            .join(format!("{example}{}", std::env::consts::EXE_SUFFIX));
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command)?;
        let output = process.child().stdout.take().context("no output")?;
        // Read on another thread, since reading a pipe has no deadline.
        let (sender, receiver) = sync_channel(1);
        thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(output).read_line(&mut line);
            let _ = sender.send(read.map(|_| line));
        });
        let line = wait::until(READY_WITHIN, || match receiver.try_recv() {
            Ok(line) => Ok(Ok(line?)),
            Err(TryRecvError::Empty) => Ok(Err(format!("{example} has printed nothing"))),
            Err(error) => Err(error.into()),
        })?;
        let facts = serde_json::from_str(&line)
            .with_context(|| format!("{example} printed {line:?}, which is not JSON"))?;
        Ok(Self {
            _process: process,
            facts,
        })
    }
}
