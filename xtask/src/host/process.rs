//! A child process that runs beside this program and ends with it.
//!
//! Each child gets a process group of its own. Ctrl-C in the terminal therefore reaches only this
//! program, which ends the children in order, together with everything that they have started. A
//! small shell guards each group: it reads from a pipe that only this program holds open, so it
//! notices even a SIGKILL of this program, and then ends the group. (A death signal set with
//! `prctl` would need unsafe code and work on Linux only.)

use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
#[cfg(unix)]
use rustix::process::{Pid, kill_process, kill_process_group};

/// The time in which a process must exit after SIGTERM. A node says goodbye within 2 s.
const GRACE: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running child process. Dropping it ends the process and waits for its exit.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: Option<Child>,
}

impl Process {
    /// Starts `command`. Pipes that it asks for are available through [`Process::child`].
    pub(crate) fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        own_group(command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut process = Self { child, guard: None };
        process.guard = guard(process.child.id())?;
        Ok(process)
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status, or `None` while the process runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends the process with SIGKILL, so that it cannot say goodbye to its peers.
    pub(crate) fn kill(mut self) {
        self.kill_group();
        let _ = self.child.wait();
    }

    /// Asks the process to exit. [`Drop`] waits for the exit.
    pub(crate) fn terminate(&mut self) {
        if self.ended().is_none() {
            signal_group(&mut self.child, Signal::Terminate);
        }
    }

    fn kill_group(&mut self) {
        signal_group(&mut self.child, Signal::Kill);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.terminate();
        let start = Instant::now();
        while self.ended().is_none() && start.elapsed() < GRACE {
            thread::sleep(POLL_INTERVAL);
        }
        // Even if the process has ended, processes that it started may still run.
        self.kill_group();
        let _ = self.child.wait();
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
    }
}

/// A signal to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Terminate,
    Kill,
    /// SIGHUP.
    Hangup,
    /// SIGUSR2.
    User2,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
}

/// Sends a signal to one process, if it still exists.
#[cfg(unix)]
pub(crate) fn signal(id: u32, signal: Signal) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // An error means that the process no longer exists.
        let _ = kill_process(id, signal.number());
    }
}

#[cfg(not(unix))]
pub(crate) fn signal(_id: u32, _signal: Signal) {}

#[cfg(unix)]
impl Signal {
    fn number(self) -> rustix::process::Signal {
        use rustix::process::Signal as Unix;
        match self {
            Self::Terminate => Unix::TERM,
            Self::Kill => Unix::KILL,
            Self::Hangup => Unix::HUP,
            Self::User2 => Unix::USR2,
            Self::Stop => Unix::STOP,
            Self::Continue => Unix::CONT,
        }
    }
}

#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_command: &mut Command) {}

#[cfg(unix)]
fn signal_group(child: &mut Child, signal: Signal) {
    // An error means that the group no longer exists, which is the goal.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal.number());
    }
}

#[cfg(not(unix))]
fn signal_group(child: &mut Child, _signal: Signal) {
    let _ = child.kill();
}

/// The guard's script. Its `read` returns when this program is gone, since nothing else holds the
/// other end of the pipe.
#[cfg(unix)]
const GUARD: &str = "trap '' INT TERM HUP; read -r _; kill -s TERM -- \"-$1\" 2>/dev/null && sleep 3; \
                     kill -s KILL -- \"-$1\" 2>/dev/null";

#[cfg(unix)]
fn guard(group: u32) -> anyhow::Result<Option<Child>> {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", GUARD, "guard", &group.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    own_group(&mut command);
    Ok(Some(command.spawn().context("cannot start /bin/sh")?))
}

#[cfg(not(unix))]
fn guard(_group: u32) -> anyhow::Result<Option<Child>> {
    Ok(None)
}
