//! `cargo xtask test`: every check and test, cheap ones first.
//!
//! The output of cargo and of the test runners is shown as it is.

use std::thread;

use anyhow::bail;

use crate::host::command;
use crate::host::workspace::Workspace;
use crate::stages::{self, FEATURES, Stage, clippy};
use crate::wasm::size;
use crate::wasm::target::{self, WASM};
use crate::{browser_tests, dependencies, node, programs};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Skip the tests that need a browser
    #[arg(long)]
    skip_browser: bool,

    /// Run only the stages whose name contains TEXT
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    target::ensure(&workspace)?;
    let mut stages = cargo_stages(&workspace);
    stages.push(Stage::new("sizes", || size::check(&workspace)));
    stages.push(Stage::new("tests, Node.js", || node::tests(&workspace)));
    if !options.skip_browser {
        stages.push(Stage::new("browser tests, Chromium", || {
            browser_tests::run(&workspace, &browser_tests::chromium()?)
        }));
        stages.push(Stage::new("browser tests, Firefox", || {
            browser_tests::run(&workspace, &browser_tests::firefox()?)
        }));
        stages.push(Stage::new("browser tests, shared memory", || {
            browser_tests::run_with_shared_memory(&workspace, &browser_tests::chromium()?)
        }));
    }
    if let Some(text) = &options.only {
        stages.retain(|stage| stage.name.contains(text.as_str()));
        if stages.is_empty() {
            bail!("no stage has a name that contains {text:?}");
        }
    }
    stages::run(&stages)
}

/// Returns the stages that need no tool but cargo and its subcommands.
fn cargo_stages(workspace: &Workspace) -> Vec<Stage<'_>> {
    const LIBRARY: [&str; 5] = ["--target", WASM, "--package", "gossip-transport", "--lib"];
    const PAGE: [&str; 5] = [
        "--target",
        WASM,
        "--package=gossip-web",
        "--package=gossip-web-transport",
        "--package=gossip-web-values",
    ];
    const TESTS: [&str; 6] = [
        "--target",
        WASM,
        "--package=gossip-transport",
        "--package=gossip-web",
        "--package=gossip-web-transport",
        "--tests",
    ];
    let docs = |what: &[&str]| {
        let mut command = workspace.cargo(&["doc", "--quiet", "--no-deps"]);
        command.args(what).env("RUSTDOCFLAGS", "-D warnings");
        command::run(&mut command)
    };
    vec![
        Stage::format(workspace),
        Stage::new("wasm dependencies", || dependencies::wasm(workspace)),
        Stage::new("beside a pinned wasm-bindgen", || {
            dependencies::beside_pinned(workspace)
        }),
        Stage::new("unused dependencies", || dependencies::unused(workspace)),
        Stage::new("allowed dependencies", || dependencies::allowed(workspace)),
        Stage::native_clippy(workspace),
        Stage::new("clippy, wasm", || {
            clippy(workspace, &LIBRARY)?;
            clippy(workspace, &PAGE)?;
            clippy(workspace, &TESTS)
        }),
        Stage::new("docs, native", move || {
            docs(&[&["--workspace"][..], &FEATURES].concat())
        }),
        Stage::new("docs, wasm", move || {
            docs(&["--target", WASM, "--package=gossip-transport"])
        }),
        Stage::new("tests, native", || {
            programs::ensure()?;
            let all = ["test", "--workspace", "--no-fail-fast"];
            let mut tests = workspace.cargo(&[&all[..], &FEATURES].concat());
            if let Ok(cores) = thread::available_parallelism() {
                // Many of them wait for most of their time.
                tests.env("RUST_TEST_THREADS", (2 * cores.get()).to_string());
            }
            command::run(&mut tests)
        }),
        // A million lies instead of twenty thousand. All other tests would take minutes more to build.
        Stage::new("tests, release", || {
            let lib = ["test", "--release", "--package=gossip-transport", "--lib"];
            let mut tests = workspace.cargo(&[&lib[..], &FEATURES].concat());
            command::run(tests.args(["--", "::lies::"]))
        }),
    ]
}
