//! `cargo xtask`: builds, tests and demonstrates the workspace.
//!
//! Each command does its own set-up ([`setup`]). Invariant: whatever ends a command (success, a
//! failure, a panic, Ctrl-C, SIGKILL), no process that it started stays behind ([`process`]).

#![allow(
    clippy::disallowed_methods,
    reason = "a native tool: its clock is the machine's, and nothing here reaches a browser"
)]

mod bench;
mod browser;
mod check;
mod cluster;
mod command;
mod demo;
mod glue;
mod http;
mod interrupt;
mod module;
mod npm;
mod page;
mod parts;
mod process;
mod sections;
mod setup;
mod site;
mod size;
mod test;
mod tools;
mod wait;
mod webdriver;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::interrupt::Interrupted;

/// Builds, tests and demonstrates the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure speed beside peers, natively or in a headless browser
    Bench(bench::Options),
    /// Start a cluster on this machine, and a page whose tabs join it
    Demo(demo::Options),
    /// Say what a browser downloads, by parts, and fail if it has grown
    Size(size::Options),
    /// Run every check and test, cheap ones first
    Test(test::Options),
}

/// What a shell reports of a program that SIGINT ended.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = interrupt::catch().and_then(|()| match args.command {
        Command::Bench(options) => bench::run(&options),
        Command::Demo(options) => demo::run(&options),
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
