//! `cargo xtask bench`: measures speed beside other libraries, natively and in a headless browser.
//!
//! The programs are in `benches/`. This builds them, starts a browser for those that need one, and
//! shows the tables that they print. Their machine-readable results are in `target/bench`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::browser::programs::Programs;
use crate::browser::{Browser, Settings};
use crate::host::process::Process;
use crate::host::workspace::Workspace;
use crate::host::{command, interrupt, wait};
use crate::wasm::bundle;
use crate::wasm::module::{self, Optimisers};

const PACKAGE: &str = "gossip-benches";
/// The package of the program `members`, which needs other features of tokio.
const MEMBERS: &str = "gossip-bench-members";
/// The files in `benches/benches`.
const MICRO: [&str; 3] = ["codec", "records", "queues"];
/// The programs that take the number of rounds from this command's own option.
const TAKES_ROUNDS: [&str; 2] = ["transport", "tls"];
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Limit from the start of the native node until it prints the page's address.
const PAGE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Measure in a headless browser instead, beside a plain WebSocket
    #[arg(long)]
    browser: bool,

    /// Number of rounds; the results are medians of them
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,

    /// After the rounds, exchange this many messages with the browser and observe its memory
    #[arg(
        long,
        value_name = "MESSAGES",
        requires = "browser",
        default_value_t = 0
    )]
    soak: u64,

    /// The program to run: transport, tls, memory, connections, members, spread, rest, mesh, or micro
    /// for the codec, the record layer and the queues by themselves
    #[arg(
        long,
        value_name = "NAME",
        default_value = "transport",
        conflicts_with = "browser"
    )]
    program: String,

    /// Arguments that are passed on to the program
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    if options.browser {
        in_browser(&workspace, options)
    } else if options.program == "micro" {
        let mut cargo = workspace.cargo(&["bench", "--quiet", "--package", PACKAGE]);
        for bench in MICRO {
            cargo.args(["--bench", bench]);
        }
        cargo.arg("--").args(&options.rest);
        command::run(&mut cargo)
    } else {
        let mut program = Command::new(build(&workspace, &options.program)?);
        if TAKES_ROUNDS.contains(&options.program.as_str()) {
            program.args(["--rounds", &options.rounds.to_string()]);
        }
        program.args(&options.rest).current_dir(&workspace.root);
        command::run(&mut program)
    }
}

fn build(workspace: &Workspace, name: &str) -> anyhow::Result<PathBuf> {
    println!("Building {name}");
    let package = if name == "members" { MEMBERS } else { PACKAGE };
    let mut cargo = workspace.cargo(&["build", "--quiet", "--release", "--package", package]);
    cargo.args(["--bin", name]);
    command::run(&mut cargo)?;
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    Ok(workspace.target.join("release").join(file))
}

fn in_browser(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let programs = Programs::ensure()?;
    let node = build(workspace, "browser")?;
    println!("Building the page");
    let page = tempfile::Builder::new().prefix("gossip-bench.").tempdir()?;
    // Optimised, since that is what users run.
    let optimisers = Optimisers::ensure()?;
    module::BENCH.build(workspace, Some(&optimisers), &page.path().join("pkg"))?;
    bundle::copy_files(&workspace.root.join("benches/page/static"), page.path())?;

    let log = page.path().join("node.log");
    let mut node = Command::new(node);
    node.arg("--page")
        .arg(page.path())
        .args(["--rounds", &options.rounds.to_string()])
        .args(["--soak", &options.soak.to_string()])
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&log)?);
    let mut node = Process::spawn(&mut node)?;
    let url = page_url(&mut node, &log)?;
    let settings = Settings {
        arguments: &["--enable-precise-memory-info"],
        ..Settings::default()
    };
    let browser = Browser::start(&programs, settings)?;
    browser.session.navigate(&url)?;
    let status = loop {
        interrupt::check()?;
        match node.ended() {
            Some(status) => break status,
            None => thread::sleep(POLL_INTERVAL),
        }
    };
    for line in BufReader::new(fs::File::open(&log)?).lines().skip(1) {
        println!("{}", line?);
    }
    ensure!(
        status.success(),
        "the benchmark in the browser failed ({status})"
    );
    Ok(())
}

/// Reads the page's address from the first line that the node prints.
fn page_url(node: &mut Process, log: &Path) -> anyhow::Result<String> {
    wait::until(PAGE_WITHIN, || {
        ensure!(node.ended().is_none(), "the native node ended at once");
        let text = fs::read_to_string(log).context("cannot read the node's output")?;
        let url = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("page "));
        Ok(url
            .filter(|_| text.contains('\n'))
            .map(str::to_owned)
            .ok_or_else(|| "the native node has not printed the page's address".to_owned()))
    })
}
