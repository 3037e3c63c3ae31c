//! Tests that run in Node.js, against the native nodes of the browser tests.
//!
//! Each file of `web/transport/tests/node/` is a process of its own, which passes if it ends by itself,
//! without an error and in time.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::host::process::Process;
use crate::host::workspace::Workspace;
use crate::host::{tools, wait};
use crate::test_node::TestNode;
use crate::wasm::module::TRANSPORT;

/// The folder of the tests.
const FOLDER: &str = "web/transport/tests/node";

/// Limit of one test.
const WITHIN: Duration = Duration::from_secs(30);

/// Runs all tests.
pub(crate) fn tests(workspace: &Workspace) -> anyhow::Result<()> {
    let node = tools::find_program("node").context(
        "node is not on PATH: install Node.js 20 or later (on Debian: sudo apt-get install -y nodejs)",
    )?;
    let module = workspace.output("node-test")?;
    TRANSPORT.build(workspace, None, &module)?;
    // Otherwise Node.js does not take the file for a module.
    fs::write(module.join("package.json"), r#"{ "type": "module" }"#)?;

    let echo = TestNode::start(workspace, "echo")?;
    let facts = json!({ "addr": echo.facts.get("addr"), "secret": echo.facts.get("secret") });
    let mut tests = Vec::new();
    for entry in fs::read_dir(workspace.root.join(FOLDER))? {
        tests.push(entry?.path());
    }
    tests.sort();
    let mut failed = Vec::new();
    for test in tests {
        println!("-- {}", test.display());
        let mut command = Command::new(&node);
        command
            // Node.js 20 has WebSockets only with this option; later versions accept it.
            .args(["--no-warnings", "--experimental-websocket"])
            .arg(&test)
            .arg(&module)
            .arg(facts.to_string());
        if let Err(error) = run(&mut command, &test) {
            failed.push(format!("{error:#}"));
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

/// Runs a test. Fails if it does not end successfully in time.
fn run(command: &mut Command, test: &Path) -> anyhow::Result<()> {
    let mut process = Process::spawn(command)?;
    let status = wait::until(WITHIN, || {
        let running = || format!("{} still runs", test.display());
        Ok(process.ended().ok_or_else(running))
    })?;
    if !status.success() {
        bail!("{} failed ({status})", test.display());
    }
    Ok(())
}
