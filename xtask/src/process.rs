//! A process that runs beside us, and ends with us.
//!
//! Each gets a process group of its own, so that Ctrl-C in the terminal reaches us alone and we
//! end the others in order, with all that they have started. A small shell stands guard over each
//! group: it reads from a pipe that only we hold open, so it notices even our death by SIGKILL,
//! and ends the group then. (A death signal set by `prctl` would be Linux alone, and unsafe code.)

use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// What a process may take to leave in order: a node says goodbye within 2 s.
const GRACE: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running process. Dropping it ends it, and returns when it is gone.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: Option<Child>,
}

impl Process {
    /// Starts `command`. Its standard input, where piped, is left to [`Process::child`].
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

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it with SIGKILL: it gets no chance to say goodbye.
    pub(crate) fn kill(mut self) {
        self.kill_group();
        let _ = self.child.wait();
    }

    /// Asks it to leave. [`Drop`] waits for that.
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
            thread::sleep(LOOK_EVERY);
        }
        // Also when it has ended: what it started may not have.
        self.kill_group();
        let _ = self.child.wait();
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
    }
}

#[derive(Clone, Copy)]
enum Signal {
    Terminate,
    Kill,
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
    use rustix::process::{Pid, Signal as Unix, kill_process_group};
    let signal = match signal {
        Signal::Terminate => Unix::TERM,
        Signal::Kill => Unix::KILL,
    };
    // An error means that the group is gone: what we want.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}

#[cfg(not(unix))]
fn signal_group(child: &mut Child, _signal: Signal) {
    let _ = child.kill();
}

/// `read` returns when we are gone, since nobody else holds the pipe's other end.
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
