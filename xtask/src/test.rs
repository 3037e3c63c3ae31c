//! `cargo xtask test`: every check and test, cheap ones first.
//!
//! The runners' own output is shown as it is. All stages run, also after one has failed, except
//! those that could not mean anything then.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Ports};
use crate::interrupt::Interrupted;
use crate::process::Process;
use crate::setup::{self, WASM};
use crate::tools::{self, Tool};
use crate::workspace::Workspace;
use crate::{browser, command, size, wait};

/// A whole test binary, which starts a browser first.
const BROWSER_TIMEOUT_SECONDS: &str = "120";
const PEER_WITHIN: Duration = Duration::from_secs(20);

/// What is off by default and is tested as well.
const UPSTREAM: &str = "gossip-transport/chitchat";

/// The folder of a package, and one of its test files that run in a browser.
const BROWSER_TESTS: [(&str, &str); 4] = [
    (".", "browser_window"),
    (".", "browser_worker"),
    ("web", "join_options"),
    ("web/transport", "socket"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leave out the tests that need a browser
    #[arg(long)]
    skip_browser: bool,

    /// Run only stages whose name contains TEXT
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// A stage's name and what it does.
type Stage<'a> = (&'static str, Box<dyn Fn() -> anyhow::Result<()> + 'a>);

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    setup::wasm_target(&workspace)?;
    let mut stages = cargo_stages(&workspace);
    stages.push(("sizes", Box::new(|| size::check(&workspace))));
    if !options.skip_browser {
        stages.push(("browser tests", Box::new(|| browser_tests(&workspace))));
    }
    if let Some(text) = &options.only {
        stages.retain(|(name, _)| name.contains(text.as_str()));
        if stages.is_empty() {
            bail!("no stage is named like {text}");
        }
    }

    let mut results = Vec::new();
    for (name, stage) in &stages {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = stage();
        match &outcome {
            Err(error) if error.is::<Interrupted>() => return outcome,
            Err(error) => eprintln!("FAILED {name}: {error:#}"),
            Ok(()) => {}
        }
        results.push((name, outcome.is_ok(), start.elapsed()));
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

/// What cargo alone can do.
fn cargo_stages(workspace: &Workspace) -> Vec<Stage<'_>> {
    const NATIVE: [&str; 4] = ["--workspace", "--all-targets", "--features", UPSTREAM];
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
    let cargo = |words: &[&str]| command::run(&mut workspace.cargo(words));
    let clippy = move |what: &[&str]| {
        let words = [&["clippy", "--quiet"], what, &["--", "-D", "warnings"]].concat();
        cargo(&words)
    };
    let docs = move |what: &[&str]| {
        let mut command = workspace.cargo(&["doc", "--quiet", "--no-deps"]);
        command.args(what).env("RUSTDOCFLAGS", "-D warnings");
        command::run(&mut command)
    };
    vec![
        (
            "format",
            Box::new(move || cargo(&["fmt", "--all", "--check"])),
        ),
        (
            "wasm dependencies",
            Box::new(move || wasm_dependencies(workspace)),
        ),
        ("clippy, native", Box::new(move || clippy(&NATIVE))),
        (
            "clippy, wasm",
            Box::new(move || {
                clippy(&LIBRARY)?;
                clippy(&PAGE)?;
                clippy(&TESTS)
            }),
        ),
        (
            "docs, native",
            Box::new(move || docs(&["--workspace", "--features", UPSTREAM])),
        ),
        (
            "docs, wasm",
            Box::new(move || docs(&["--target", WASM, "--package=gossip-transport"])),
        ),
        (
            "tests, native",
            Box::new(move || {
                cargo(&[
                    "test",
                    "--workspace",
                    "--no-fail-fast",
                    "--features",
                    UPSTREAM,
                ])
            }),
        ),
    ]
}

/// The library's wasm build: no tokio, and no second HTTP or TLS stack by accident.
fn wasm_dependencies(workspace: &Workspace) -> anyhow::Result<()> {
    let output = workspace
        .cargo(&[
            "tree",
            "--target",
            WASM,
            "--package",
            "gossip-transport",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("`cargo tree` failed");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut names: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    for banned in ["tokio", "tokio-util", "mio", "ring", "zstd-sys"] {
        if names.contains(&banned) {
            bail!(
                "{banned} is in the browser's build of gossip-transport; \
                 `cargo tree --target {WASM} --package gossip-transport --invert {banned}` says why"
            );
        }
    }
    println!("{} packages, no tokio", names.len());
    Ok(())
}

/// The wasm tests in a window and in a worker, against native nodes started for them.
fn browser_tests(workspace: &Workspace) -> anyhow::Result<()> {
    let programs = setup::browser()?;
    let wasm_bindgen = Tool::wasm_bindgen(workspace)?.ensure()?;
    let wasm_pack = Tool::wasm_pack().ensure()?;
    let folder = workspace.output("browser-test")?;
    let capabilities = browser::write_capabilities(&programs, &folder)?;

    let echo = Peer::start(workspace, "echo")?;
    let scripted = Peer::start(workspace, "scripted_peer")?;
    let mut cluster = Cluster::prepare(workspace, None, false)?;
    cluster.start(1, Ports::new(None))?;
    let node = cluster.nodes().first().context("no node")?;
    // The test runner serves the package's folder: tests fetch this file from their own origin.
    let facts = json!({
        "addr": echo.facts.get("addr"),
        "secret": echo.facts.get("secret"),
        "scripted": scripted.facts,
        "gossip": {
            "addr": node.gossip,
            "secret": cluster.secret,
            "cluster": cluster.name(),
        },
    });
    let path = folder.join("node.json");
    std::fs::write(&path, facts.to_string())
        .with_context(|| format!("cannot write {}", path.display()))?;

    let bindgen_folder = wasm_bindgen.parent().unwrap_or(Path::new("."));
    let search = tools::path_with(&[bindgen_folder])?;
    let mut failed = Vec::new();
    for (folder, test) in BROWSER_TESTS {
        println!("-- {test} of {folder}");
        let mut command = Command::new(&wasm_pack);
        command
            .args(["test", "--headless", "--chrome", "--chromedriver"])
            .arg(&programs.driver)
            // wasm-pack takes a path here as well, and then reads what follows in another way.
            .args(["--mode", "no-install", "--", "--test", test])
            .current_dir(workspace.root.join(folder))
            .env("PATH", &search)
            .env("CHROMEDRIVER", &programs.driver)
            .env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", &capabilities)
            .env("WASM_BINDGEN_TEST_TIMEOUT", BROWSER_TIMEOUT_SECONDS);
        match command::run(&mut command) {
            Ok(()) => {}
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => failed.push(format!("{test} of {folder}: {error:#}")),
        }
    }
    if !failed.is_empty() {
        eprintln!("the node's last log lines:\n{}", node.last_words(20));
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

/// An example that says in a line of JSON where it can be dialled, and runs until its standard
/// input ends.
struct Peer {
    _process: Process,
    facts: Value,
}

impl Peer {
    fn start(workspace: &Workspace, example: &str) -> anyhow::Result<Self> {
        use std::io::{BufRead as _, BufReader};

        println!("Building the example {example}");
        let mut build = workspace.cargo(&[
            "build",
            "--quiet",
            "--package=gossip-transport",
            "--example",
            example,
        ]);
        command::run(&mut build)?;
        let program = workspace
            .target
            .join("debug/examples")
            .join(format!("{example}{}", std::env::consts::EXE_SUFFIX));
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command)?;
        let output = process.child().stdout.take().context("no output")?;
        // Read beside us: a pipe has no deadline.
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(output).read_line(&mut line);
            let _ = sender.send(read.map(|_| line));
        });
        let line = wait::until(PEER_WITHIN, || match receiver.try_recv() {
            Ok(line) => Ok(Ok(line?)),
            Err(std::sync::mpsc::TryRecvError::Empty) => Ok(Err(format!("{example} says nothing"))),
            Err(error) => Err(error.into()),
        })?;
        let facts = serde_json::from_str(&line)
            .with_context(|| format!("{example} says {line:?}, which is not JSON"))?;
        Ok(Self {
            _process: process,
            facts,
        })
    }
}
