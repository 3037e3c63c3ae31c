//! `gossip-node`: a native member of a gossip cluster.
//!
//! It reads its arguments, opens a socket, joins, serves HTTP and admin commands, and leaves when a signal
//! arrives. The gossip protocol is the library's; nothing here handles a message. With a subcommand it is
//! no member, and sends one admin command to a node that runs. Invariant: exactly one line of a node goes to
//! stdout, once everything is bound. All its other output goes to stderr.

mod admin;
mod any_network;
mod args;
mod credential_file;
mod descriptors;
mod headers;
mod hidden;
mod http;
mod http_stats;
mod kind;
mod log;
mod member_status;
mod membership_log;
mod metrics;
mod name_log;
mod node;
mod own_address;
mod page_config;
mod private_file;
mod ready_file;
mod run;
mod seed_log;
mod shutdown;
mod status;
mod trust_files;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::args::Args;
use crate::log::StderrLog;

/// Exit code of a failure at run time. The reason is on stderr.
const EXIT_FAILURE: u8 = 1;
/// Exit code of invalid arguments, the same as clap's. What to change is on stderr.
const EXIT_USAGE: u8 = 2;
/// A shutdown takes at most two seconds in all.
const SHUTDOWN: Duration = Duration::from_millis(1_900);
/// Limit for ending the runtime after leaving.
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(200);
/// Limit for writing the last lines of the log after a signal.
const LAST_LINES: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let args = Args::from_command_line();
    if let Some(command) = &args.command {
        return ExitCode::from(command.run());
    }
    if let Some(path) = &args.make_secret {
        return report(credential_file::make_secret(path).map(|()| {
            let _ = writeln!(std::io::stderr(), "wrote {}", path.display());
        }));
    }
    if let Err(help) = args.check() {
        let _ = writeln!(std::io::stderr(), "error: {help}");
        return ExitCode::from(EXIT_USAGE);
    }
    let started = StderrLog::start().and_then(|log| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Ok((log, runtime.enable_all().build()?))
    });
    let (log, runtime) = match started {
        Ok(started) => started,
        Err(error) => return report(Err(error.into())),
    };
    let outcome = runtime.block_on(run::run(&args));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    if let Err(error) = &outcome {
        log.line(&describe(error));
    }
    log.flush(match &outcome {
        Ok(signalled) => LAST_LINES.min(SHUTDOWN.saturating_sub(signalled.elapsed())),
        Err(_) => SHUTDOWN,
    });
    code(&outcome)
}

fn report(outcome: anyhow::Result<()>) -> ExitCode {
    if let Err(error) = &outcome {
        let _ = writeln!(std::io::stderr(), "{}", describe(error));
    }
    code(&outcome)
}

fn describe(error: &anyhow::Error) -> String {
    format!("error: {error:#}")
}

fn code<T>(outcome: &anyhow::Result<T>) -> ExitCode {
    match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAILURE),
    }
}
