//! Child processes with a loopback interface of their own.
//!
//! Such a process sees only its own packets in the counters of `lo`. This takes Linux and either
//! root or user namespaces that everyone may create.

use std::process::{Command, Stdio};

use anyhow::Context as _;

/// The ways to enter a new network namespace, for root and for others.
const WAYS: [&[&str]; 2] = [&["--net"], &["--net", "--map-root-user"]];
/// Enables the loopback interface, and becomes the program.
const SCRIPT: &str = "ip link set lo up && exec \"$0\" \"$@\"";

/// Where child processes are started.
#[derive(Debug, Clone, Copy)]
pub struct Place(Option<&'static [&'static str]>);

impl Place {
    /// Returns a place of which every process has a loopback interface of its own, or the namespace of
    /// this process if that is not possible.
    pub fn find() -> Self {
        let works = |way: &&&[&str]| {
            let mut command = Command::new("unshare");
            command
                .args(**way)
                .args(["sh", "-c", "ip link set lo up"])
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        Self(WAYS.iter().find(works).copied())
    }

    /// Returns whether the counters of `lo` belong to the child process alone.
    pub fn is_separate(self) -> bool {
        self.0.is_some()
    }

    /// Returns a command that starts this program.
    pub fn this_program(self) -> anyhow::Result<Command> {
        let program = std::env::current_exe()?;
        let Some(way) = self.0 else {
            return Ok(Command::new(program));
        };
        let mut command = Command::new("unshare");
        command.args(way).args(["sh", "-c", SCRIPT]).arg(program);
        Ok(command)
    }
}

/// What the loopback interface of this process has carried so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Carried {
    /// Packets, each counted once, acknowledgements included.
    pub packets: u64,
    /// Bytes with the headers of all layers.
    pub bytes: u64,
}

/// Returns what the loopback interface of this process has carried so far.
pub fn carried() -> anyhow::Result<Carried> {
    let table = std::fs::read_to_string("/proc/self/net/dev")?;
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"));
    let mut fields = line.context("no interface lo")?.split_ascii_whitespace();
    let mut next = || anyhow::Ok(fields.next().context("no counter")?.parse()?);
    let bytes = next()?;
    Ok(Carried {
        packets: next()?,
        bytes,
    })
}
