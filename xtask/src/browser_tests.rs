//! Tests in a browser, against native nodes that are started for them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::browser;
use crate::browser::programs::{Firefox, Programs};
use crate::demo::cluster::{self, Cluster, OtherNodes, Scheme};
use crate::demo::ports::Ports;
use crate::host::command;
use crate::host::interrupt::Interrupted;
use crate::host::tools::{self, Tool};
use crate::host::workspace::Workspace;
use crate::test_node::TestNode;
use crate::wasm::target::{self, WASM};

/// Limit of one test binary in a browser, including the start of the browser.
const BROWSER_TIMEOUT_SECONDS: &str = "240";

/// The test files that run in a browser, each with the folder of its package. A file that is not
/// listed here does not run.
const BROWSER_TESTS: [(&str, &str); 7] = [
    (".", "browser_window"),
    (".", "browser_worker"),
    ("web", "arguments"),
    ("web", "join_options"),
    ("web", "joining"),
    ("web", "renewal"),
    ("web/transport", "socket"),
];

/// The flags with which the memory of a module is shared with workers, as threads need it. The exports are
/// those that wasm-bindgen needs for it.
const SHARED_MEMORY: &str = "-Ctarget-feature=+atomics,+bulk-memory,+mutable-globals \
     -Clink-arg=--shared-memory -Clink-arg=--max-memory=1073741824 -Clink-arg=--import-memory \
     -Clink-arg=--export=__wasm_init_tls -Clink-arg=--export=__tls_size \
     -Clink-arg=--export=__tls_align -Clink-arg=--export=__tls_base";

/// A browser in which the tests run.
#[derive(Debug)]
pub(crate) struct Target {
    /// The option of wasm-pack that selects it, and the one before the path of its driver.
    options: [&'static str; 2],
    /// The variable from which the test runner takes the driver. That of another browser must not be set.
    variable: &'static str,
    driver: PathBuf,
    capabilities: Value,
}

/// Returns Chromium.
pub(crate) fn chromium() -> anyhow::Result<Target> {
    let programs = Programs::ensure()?;
    Ok(Target {
        options: ["--chrome", "--chromedriver"],
        variable: "CHROMEDRIVER",
        capabilities: browser::chromium_capabilities(&programs),
        driver: programs.driver,
    })
}

/// Returns Firefox.
pub(crate) fn firefox() -> anyhow::Result<Target> {
    let programs = Firefox::ensure()?;
    Ok(Target {
        options: ["--firefox", "--geckodriver"],
        variable: "GECKODRIVER",
        capabilities: browser::firefox_capabilities(&programs),
        driver: programs.driver,
    })
}

impl Target {
    /// Sets what the test runner of wasm-bindgen reads. Its capabilities are written to a file.
    fn apply(&self, command: &mut Command, workspace: &Workspace) -> anyhow::Result<()> {
        let file = workspace.output("browser-test")?.join("webdriver.json");
        std::fs::write(&file, self.capabilities.to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        command
            .env_remove("CHROMEDRIVER")
            .env_remove("GECKODRIVER")
            .env(self.variable, &self.driver)
            .env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", file)
            .env("WASM_BINDGEN_TEST_TIMEOUT", BROWSER_TIMEOUT_SECONDS);
        Ok(())
    }
}

/// The native nodes that the tests dial.
struct TestNodes {
    _echo: TestNode,
    _scripted: TestNode,
    cluster: Cluster,
}

impl TestNodes {
    /// Starts the nodes, and writes down how to dial them.
    fn start(workspace: &Workspace) -> anyhow::Result<Self> {
        let echo = TestNode::start(workspace, "echo")?;
        let scripted = TestNode::start(workspace, "scripted_peer")?;
        let mut cluster = Cluster::prepare(workspace, None, OtherNodes::Ours, Scheme::Http)?;
        cluster.start(1, Ports::new(None))?;
        let node = cluster.nodes().first().context("no node")?;
        let facts = json!({
            "addr": echo.facts.get("addr"),
            "secret": echo.facts.get("secret"),
            "scripted": scripted.facts,
            "gossip": {
                "addr": node.gossip,
                "secret": cluster.secret.text()?,
                "cluster": cluster::NAME,
            },
        });
        write_facts(workspace, &facts)?;
        Ok(Self {
            _echo: echo,
            _scripted: scripted,
            cluster,
        })
    }
}

/// Runs all tests in a window and in a worker of a browser.
pub(crate) fn run(workspace: &Workspace, target: &Target) -> anyhow::Result<()> {
    let wasm_bindgen = Tool::wasm_bindgen(workspace)?.ensure()?;
    let wasm_pack = Tool::wasm_pack().ensure()?;
    let bindgen_folder = wasm_bindgen.parent().unwrap_or(Path::new("."));
    let search = tools::path_with(&[bindgen_folder])?;
    let nodes = TestNodes::start(workspace)?;
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
            .env("PATH", &search);
        target.apply(&mut command, workspace)?;
        match command::run(&mut command) {
            Ok(()) => {}
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => failed.push(format!("{test} of {folder}: {error:#}")),
        }
    }
    if !failed.is_empty() {
        let nodes = nodes.cluster.nodes().iter();
        nodes.for_each(|node| eprintln!("the node's last log lines:\n{}", node.last_log_lines(20)));
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

/// Runs the tests of the library in a window, in a module whose memory is shared.
///
/// The standard library must be built for it, which is an unstable feature of cargo.
pub(crate) fn run_with_shared_memory(
    workspace: &Workspace,
    browser: &Target,
) -> anyhow::Result<()> {
    target::ensure_sources(workspace)?;
    let wasm_bindgen = Tool::wasm_bindgen(workspace)?.ensure()?;
    let _nodes = TestNodes::start(workspace)?;
    let mut command = workspace.cargo(&["test", "--target", WASM, "--test", "browser_window"]);
    command
        .args(["--package=gossip-transport", "-Zbuild-std=std,panic_abort"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", SHARED_MEMORY)
        .env("CARGO_TARGET_DIR", workspace.target.join("shared-memory"))
        .env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER",
            wasm_bindgen.with_file_name("wasm-bindgen-test-runner"),
        )
        .env("WASM_BINDGEN_TEST_ONLY_WEB", "1");
    browser.apply(&mut command, workspace)?;
    command::run(&mut command)
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
