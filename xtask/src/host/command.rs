//! Programs that run to their end in the foreground and write to our own output.
//!
//! Programs that run beside this one are in [`crate::host::process`].

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::host::interrupt;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Returns the command line as a user would type it.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| {
            let text = word.to_string_lossy();
            // The toolchain's own path to cargo is of no interest to a reader.
            Path::new(word)
                .file_name()
                .filter(|_| word == command.get_program())
                .map_or_else(
                    || text.clone().into_owned(),
                    |name| name.to_string_lossy().into_owned(),
                )
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs `command` to its end. Fails if it does not exit successfully.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs `command` to its end and returns its exit status. A signal to this process kills it.
pub(crate) fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    command.stdin(Stdio::null());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{}`", describe(command)))?;
    loop {
        if let Some(status) = child.try_wait()? {
            interrupt::check()?;
            return Ok(status);
        }
        if let Err(interrupted) = interrupt::check() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(interrupted.into());
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Runs `command` and returns what it prints to stdout. Fails if it does not exit successfully.
///
/// For short runs: a signal to this process is noticed only when the command has ended.
pub(crate) fn run_for_output(command: &mut Command) -> anyhow::Result<String> {
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", describe(command)))?;
    interrupt::check()?;
    if !output.status.success() {
        bail!("`{}` failed ({})", describe(command), output.status);
    }
    String::from_utf8(output.stdout).context("its output is not UTF-8")
}

/// Returns what `program` prints when run with `args`, without the final line end, or `None` if it
/// cannot be run or fails.
pub(crate) fn output(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| {
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    })
}
