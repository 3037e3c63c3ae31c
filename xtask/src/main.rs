//! `cargo xtask`: builds, checks, tests, demonstrates and measures the workspace.
//!
//! Each command installs what it needs. Invariant: however a command ends (success, a failure, a
//! panic, Ctrl-C, SIGKILL), no process that it started outlives it ([`host::process`]).
//!
//! | module | contents |
//! |---|---|
//! | `check`, `test`, `bench` | the commands of these names |
//! | [`stages`], [`dependencies`], [`browser_tests`], [`node`], [`test_node`] | the parts of `check` and `test` |
//! | [`mutants`] | defects that the tests must notice |
//! | [`demo`] | the demo, and its proof in a browser |
//! | [`acme`] | the way from a bare node to a live tab, with an automatic certificate |
//! | [`proxy`] | a cluster whose tabs reach it only through a TLS proxy |
//! | [`wasm`] | builds for the browser, and their sizes |
//! | [`gossip_node`] | builds of the native node |
//! | [`authority`] | certificates for one run |
//! | [`browser`] | a headless browser under remote control |
//! | [`host`] | processes, tools and folders of this machine |

#![allow(
    clippy::disallowed_methods,
    reason = "a native tool: its clock is the machine's, and nothing here reaches a browser"
)]

mod acme;
mod authority;
mod bench;
mod browser;
mod browser_tests;
mod check;
mod demo;
mod demo_secret;
mod dependencies;
mod gossip_node;
mod host;
mod mutants;
mod node;
mod programs;
mod proxy;
mod stages;
mod test;
mod test_node;
mod wasm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::host::interrupt::{self, Interrupted};
use crate::wasm::size;

/// Builds, checks, tests, demonstrates and measures the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Time the way from a bare node to a live tab over wss, with a certificate from a test authority (Linux)
    Acme(acme::Options),
    /// Measure speed beside other libraries, natively or in a headless browser
    Bench(bench::Options),
    /// Check format, lints, layout rules and unit tests: quick enough for every commit
    Check,
    /// Start a cluster on this machine, and a page whose tabs join it
    Demo(demo::Options),
    /// Put defects into the pure code, one at a time, and list those that no test notices
    Mutants(mutants::Options),
    /// Measure a cluster whose tabs reach it only through a TLS proxy (Linux, as root)
    Proxy(proxy::Options),
    /// Report what a browser downloads, by parts, and fail if it has grown
    Size(size::Options),
    /// Run every check and test, cheap ones first
    Test(test::Options),
}

/// The exit code that shells report for a program that SIGINT ended.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = interrupt::catch().and_then(|()| match args.command {
        Command::Acme(options) => acme::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Check => check::run(),
        Command::Demo(options) => demo::run(&options),
        Command::Mutants(options) => mutants::run(&options),
        Command::Proxy(options) => proxy::run(&options),
        Command::Size(options) => size::run(&options),
        Command::Test(options) => test::run(&options),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("interrupted");
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
