//! The log on stderr.
//!
//! Lines wait in a queue for a thread that writes them, since a pipe or terminal that nobody reads would
//! hold up every task that logs, and with them the whole node. Invariant: writing a line never waits, and
//! at most [`MAX_WAITING`] bytes wait; what does not fit is lost and counted in the log.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The bytes that may wait: thousands of lines, for a reader that is slow for a moment.
const MAX_WAITING: usize = 1 << 20;

/// The log of this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct StderrLog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: Vec<u8>,
    /// The lines that were lost since the last one that says so.
    lost: u64,
    is_writing: bool,
}

impl StderrLog {
    /// Starts to write what `tracing` reports, and other lines, to stderr.
    ///
    /// # Errors
    ///
    /// Fails if no thread can be started.
    pub(crate) fn start() -> io::Result<Self> {
        let log = Self::to(io::stderr())?;
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(log.clone())
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .init();
        Ok(log)
    }

    fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let log = Self::default();
        let shared = Arc::clone(&log.0);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_to(out))?;
        Ok(log)
    }

    /// Writes a line that is no event of `tracing`.
    pub(crate) fn line(&self, text: &str) {
        self.0.add(format!("{text}\n").as_bytes());
    }

    /// Waits until everything is written, at most for `limit` if nobody reads it.
    pub(crate) fn flush(&self, limit: Duration) {
        let lines = self.0.lock();
        let is_busy = |lines: &mut Lines| lines.is_writing || !lines.waiting.is_empty();
        let waited = self.0.changed.wait_timeout_while(lines, limit, is_busy);
        drop(waited);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut lines = self.lock();
        if lines.waiting.len().saturating_add(line.len()) > MAX_WAITING {
            lines.lost = lines.lost.saturating_add(1);
            return;
        }
        lines.waiting.extend_from_slice(line);
        self.changed.notify_all();
    }

    /// Writes lines as they come, for as long as the process runs.
    fn write_to(&self, mut out: impl Write) {
        let mut lines = self.lock();
        loop {
            let is_idle = |lines: &mut Lines| lines.waiting.is_empty() && lines.lost == 0;
            lines = self
                .changed
                .wait_while(lines, is_idle)
                .unwrap_or_else(PoisonError::into_inner);
            let mut text = std::mem::take(&mut lines.waiting);
            let lost = std::mem::take(&mut lines.lost);
            lines.is_writing = true;
            drop(lines);
            if lost > 0 {
                let note = format!("{lost} lines of the log were lost, since nobody has read it\n");
                text.extend_from_slice(note.as_bytes());
            }
            // There is nobody to tell.
            let _ = out.write_all(&text);
            lines = self.lock();
            lines.is_writing = false;
            self.changed.notify_all();
        }
    }
}

impl Write for StderrLog {
    /// Takes a whole line, which is what `tracing` writes at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for StderrLog {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::mpsc;

    use super::*;

    /// Takes each write only after another message.
    struct Gate(mpsc::Receiver<()>, io::PipeWriter);

    impl Write for Gate {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_holds_up_nobody_and_says_how_many_lines_were_lost() {
        let (open, gate) = mpsc::channel();
        let (mut read, written) = io::pipe().unwrap();
        let log = StderrLog::to(Gate(gate, written)).unwrap();
        let line = "x".repeat(1 << 10);
        for _ in 0..4_096 {
            log.line(&line);
        }
        assert!(log.0.lock().waiting.len() <= MAX_WAITING);
        log.flush(Duration::from_millis(1));
        drop(open);
        let mut text = String::new();
        while kept_and_lost(&text, &line) < 4_096 {
            let mut part = [0; 4096];
            let len = read.read(&mut part).unwrap();
            text.push_str(std::str::from_utf8(&part[..len]).unwrap());
        }
        assert_eq!(kept_and_lost(&text, &line), 4_096);
        assert!(text.contains("were lost"));
    }

    /// Returns the number of the lines in `text`, and of those that it says were lost.
    fn kept_and_lost(text: &str, line: &str) -> u64 {
        let complete = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
        let count = complete.map(|found| match found.split_once(" lines of the log") {
            Some((lost, _)) => lost.parse().unwrap(),
            None => {
                assert_eq!(found.trim_end(), line);
                1
            }
        });
        count.sum()
    }
}
