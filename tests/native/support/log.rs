//! The log of the tasks of one thread.

use std::sync::{Arc, LazyLock, Mutex};

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};

/// A second subscriber, of no thread. While there is only one, `tracing` asks that of the thread which comes to a log
/// line first, and if that is a thread without one, the line is never logged.
static OTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));

/// Collects what is logged on this thread while it lives. Tests with one thread see what their tasks log.
pub(crate) struct Log {
    written: Written,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Begins to collect what passes `filter`, such as `gossip_transport=warn`.
    pub(crate) fn collect(filter: &str) -> Self {
        LazyLock::force(&OTHER);
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self {
            written,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// Removes and returns what was logged since the last call.
    pub(crate) fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.written.0.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }
}

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_is_collected_that_a_thread_without_a_log_has_come_to_first() {
    let line = || tracing::info!("a line");
    let log = Log::collect("info");
    std::thread::spawn(line).join().unwrap();
    line();
    assert!(log.take().contains("a line"));
}
