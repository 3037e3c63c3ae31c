//! `gossip-node`: a native member of a gossip cluster.
//!
//! Reads its arguments, opens a socket, joins, serves HTTP and leaves in order. What gossip is
//! lives in the library; nothing here knows a message. Invariant: stdout carries exactly one line,
//! once everything is bound; what else there is to say goes to stderr.

mod args;
mod credential_file;
mod http;
mod member;
mod membership_log;
mod metrics;
mod node;
mod page;
mod ready_file;
mod shutdown;
mod status;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::args::Args;

/// A runtime failure; the reason is on stderr.
const EXIT_FAILURE: u8 = 1;
/// The arguments make no sense; what to do is on stderr. The number is clap's own.
const EXIT_USAGE: u8 = 2;
/// What is left of the two seconds that a shutdown may take, after leaving.
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let args = Args::parse();
    init_log();
    if let Some(path) = &args.make_secret {
        return report(credential_file::make_secret(path).map(|()| {
            let _ = writeln!(std::io::stderr(), "wrote {}", path.display());
        }));
    }
    if let Err(help) = args.check() {
        let _ = writeln!(std::io::stderr(), "error: {help}");
        return ExitCode::from(EXIT_USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(error.into())),
    };
    let outcome = runtime.block_on(node::run(&args));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    report(outcome)
}

fn report(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn init_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}
