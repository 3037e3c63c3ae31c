//! `cargo xtask test`: every check and test, cheap ones first.
//!
//! The output of cargo and of the test runners is shown as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::browser;
use crate::browser::programs::{Firefox, Programs};
use crate::demo::cluster::{self, Cluster, OtherNodes};
use crate::demo::ports::Ports;
use crate::dependencies;
use crate::host::command;
use crate::host::interrupt::Interrupted;
use crate::host::tools::{self, Tool};
use crate::host::workspace::Workspace;
use crate::node;
use crate::peer::Peer;
use crate::stages::{self, FEATURES, Stage, cargo, clippy};
use crate::wasm::size;
use crate::wasm::target::{self, WASM};

/// Limit of one test binary in a browser, including the start of the browser.
const BROWSER_TIMEOUT_SECONDS: &str = "240";

/// The test files that run in a browser, each with the folder of its package. A file that is not
/// listed here does not run.
const BROWSER_TESTS: [(&str, &str); 6] = [
    (".", "browser_window"),
    (".", "browser_worker"),
    ("web", "arguments"),
    ("web", "join_options"),
    ("web", "joining"),
    ("web/transport", "socket"),
];

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
            browser_tests(&workspace, &chromium()?)
        }));
        stages.push(Stage::new("browser tests, Firefox", || {
            browser_tests(&workspace, &firefox()?)
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
            let all = ["test", "--workspace", "--no-fail-fast"];
            cargo(workspace, &[&all[..], &FEATURES].concat())
        }),
    ]
}

/// A browser in which the tests run.
#[derive(Debug)]
struct Target {
    /// The option of wasm-pack that selects it, and the one before the path of its driver.
    options: [&'static str; 2],
    /// The variable from which the test runner takes the driver. That of another browser must not be set.
    variable: &'static str,
    driver: PathBuf,
    capabilities: Value,
}

fn chromium() -> anyhow::Result<Target> {
    let programs = Programs::ensure()?;
    Ok(Target {
        options: ["--chrome", "--chromedriver"],
        variable: "CHROMEDRIVER",
        capabilities: browser::chromium_capabilities(&programs),
        driver: programs.driver,
    })
}

fn firefox() -> anyhow::Result<Target> {
    let programs = Firefox::ensure()?;
    Ok(Target {
        options: ["--firefox", "--geckodriver"],
        variable: "GECKODRIVER",
        capabilities: browser::firefox_capabilities(&programs),
        driver: programs.driver,
    })
}

/// Runs the wasm tests in a window and in a worker, against native peers that are started for them.
fn browser_tests(workspace: &Workspace, target: &Target) -> anyhow::Result<()> {
    let wasm_bindgen = Tool::wasm_bindgen(workspace)?.ensure()?;
    let wasm_pack = Tool::wasm_pack().ensure()?;
    let capabilities = workspace.output("browser-test")?.join("webdriver.json");
    std::fs::write(&capabilities, target.capabilities.to_string())
        .with_context(|| format!("cannot write {}", capabilities.display()))?;

    let echo = Peer::start(workspace, "echo")?;
    let scripted = Peer::start(workspace, "scripted_peer")?;
    let mut cluster = Cluster::prepare(workspace, None, OtherNodes::Ours)?;
    cluster.start(1, Ports::new(None))?;
    let node = cluster.nodes().first().context("no node")?;
    let facts = json!({
        "addr": echo.facts.get("addr"),
        "secret": echo.facts.get("secret"),
        "scripted": scripted.facts,
        "gossip": {
            "addr": node.gossip,
            "secret": cluster.secret,
            "cluster": cluster::NAME,
        },
    });
    write_facts(workspace, &facts)?;

    let bindgen_folder = wasm_bindgen.parent().unwrap_or(Path::new("."));
    let search = tools::path_with(&[bindgen_folder])?;
    let mut failed = Vec::new();
    for (folder, test) in BROWSER_TESTS {
        println!("-- {test} of {folder}");
        let mut command = Command::new(&wasm_pack);
        command
            .args(["test", "--headless"])
            .args(target.options)
            .arg(&target.driver)
            // Ends the options of wasm-pack, which would otherwise take what follows for a path.
            .args(["--mode", "no-install", "--", "--test", test])
            .current_dir(workspace.root.join(folder))
            .env("PATH", &search)
            .env_remove("CHROMEDRIVER")
            .env_remove("GECKODRIVER")
            .env(target.variable, &target.driver)
            .env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", &capabilities)
            .env("WASM_BINDGEN_TEST_TIMEOUT", BROWSER_TIMEOUT_SECONDS);
        match command::run(&mut command) {
            Ok(()) => {}
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => failed.push(format!("{test} of {folder}: {error:#}")),
        }
    }
    if !failed.is_empty() {
        eprintln!("the node's last log lines:\n{}", node.last_log_lines(20));
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

/// Writes `node.json` for each package with tests. The test runner serves the package's folder, so tests
/// fetch the file from their own origin.
fn write_facts(workspace: &Workspace, facts: &Value) -> anyhow::Result<()> {
    for (package, _) in BROWSER_TESTS {
        let folder = workspace.root.join(package).join("target/browser-test");
        let path = folder.join("node.json");
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, facts.to_string()))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
