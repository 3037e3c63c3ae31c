//! `gossip-node`: a native member of a gossip cluster.
//!
//! It reads its arguments, opens a socket, joins, serves HTTP and admin commands, and leaves when a signal
//! arrives. The gossip protocol is the library's; nothing here handles a message. With a subcommand it is
//! no member, and sends one admin command to a node that runs. Invariant: exactly one line of a node goes to
//! stdout, once everything is bound. All its other output goes to stderr.

mod acme;
mod admin;
mod any_network;
mod args;
mod check_config;
mod credential_file;
mod descriptors;
mod exit_code;
mod headers;
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
mod revocations;
mod rfc3339;
mod run;
mod seed_log;
mod shown;
mod shutdown;
mod state_dir;
mod status;
mod tls_files;
mod tls_status;
mod trust_files;
mod units;
mod values;
mod watched_file;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::args::{ArgsError, CommandLine, Invalid};
use crate::exit_code::{EXIT_FAILURE, EXIT_USAGE};
use crate::log::StderrLog;

/// A shutdown takes at most two seconds in all.
const SHUTDOWN: Duration = Duration::from_millis(1_900);
/// Limit for ending the runtime after leaving.
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(200);
/// Limit for writing the last lines of the log after a signal.
const LAST_LINES: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let mut line = match CommandLine::parse(std::env::args_os().collect()) {
        Ok(line) => line,
        Err(ArgsError::Malformed(error)) => error.exit(),
        Err(ArgsError::File(error)) => return refuse(&[error.to_string()]),
    };
    if let Some(command) = &line.args.command {
        return ExitCode::from(command.run());
    }
    if let Some(path) = &line.args.make_secret {
        return report(credential_file::make_secret(path).map(|()| {
            let _ = writeln!(std::io::stderr(), "wrote {}", path.display());
        }));
    }
    if line.args.check_config {
        let log = StderrLog::start();
        let checked = check_config::check(&mut line);
        // Warnings about the files.
        if let Ok(log) = log {
            log.flush(LAST_LINES);
        }
        return match checked {
            Ok(()) => ExitCode::SUCCESS,
            Err(errors) => refuse(&errors),
        };
    }
    if let Err(error) = line.check() {
        return refuse(&[error]);
    }
    let started = StderrLog::start().and_then(|log| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Ok((log, runtime.enable_all().build()?))
    });
    let (log, runtime) = match started {
        Ok(started) => started,
        Err(error) => return report(Err(error.into())),
    };
    let outcome = runtime.block_on(run::run(&mut line.args));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    if let Err(error) = &outcome {
        log.line(&match error.downcast_ref::<Invalid>() {
            Some(invalid) => format!("error: {}", line.describe(invalid)),
            None => describe(error),
        });
    }
    log.flush(match &outcome {
        Ok(signalled) => LAST_LINES.min(SHUTDOWN.saturating_sub(signalled.elapsed())),
        Err(_) => SHUTDOWN,
    });
    code(&outcome)
}

/// Prints what is wrong with the arguments.
fn refuse(errors: &[String]) -> ExitCode {
    for error in errors {
        let _ = writeln!(std::io::stderr(), "error: {error}");
    }
    ExitCode::from(EXIT_USAGE)
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
        // Arguments that do not fit to the content of a file.
        Err(error) if error.is::<Invalid>() => ExitCode::from(EXIT_USAGE),
        Err(_) => ExitCode::from(EXIT_FAILURE),
    }
}
