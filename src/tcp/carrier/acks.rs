//! Acknowledgements that wait for the answer, on connections that are quiet most of the time.
//!
//! Members of a cluster exchange a few messages every some seconds. Linux acknowledges the first of
//! them, after a pause, with a packet of its own, although the answer follows at once; and it does so
//! again after each message that was the last of an exchange. [`delay_acks`] prevents the first, but
//! only until the second. So it is called again for each connection some time after it was read. The
//! reader of another connection of the same network wakes its reader for that, so that no timer is
//! needed. With one connection and no other activity, nothing is saved.
//!
//! Invariant: an entry keeps no connection open, and what is missed costs a packet and nothing else.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::rt::sync::Mutex;
use crate::rt::{Instant, delay_acks};

/// Linux acknowledges what was not answered within 40 ms.
const QUIET: Duration = Duration::from_millis(100);

/// The readers of a network that have read lately and now wait.
#[derive(Debug)]
pub(super) struct Acks {
    entries: Mutex<VecDeque<Entry>>,
    /// The number of entries that were removed, from 0 on again after the last number.
    removed: AtomicU32,
}

#[derive(Debug)]
struct Entry {
    since: Instant,
    reader: Waker,
}

/// A reader is not entered before this many waits: those of the handshake, which runs in another task.
const HANDSHAKE_WAITS: u8 = 4;

/// What a reader knows about its entry.
#[derive(Debug, Default)]
pub(super) struct Attention {
    has_read: bool,
    is_entered: bool,
    /// Waits after a read, up to one more than [`HANDSHAKE_WAITS`].
    waits: u8,
    /// The number of its entry, the last one if there is none.
    entry: u32,
}

impl Attention {
    /// Notes that something was read.
    pub(super) fn note_read(&mut self) {
        self.has_read = true;
    }

    /// Attends to `stream`, since its reader is about to wait.
    pub(super) fn before_wait(&mut self, stream: &TcpStream, acks: &Acks, cx: &Context<'_>) {
        if !std::mem::take(&mut self.has_read) {
            if std::mem::take(&mut self.is_entered) {
                delay_acks(stream);
            }
            return;
        }
        if self.waits <= HANDSHAKE_WAITS {
            self.waits += 1;
        }
        // An entry is gone if its wake has met something to read.
        let is_entered = self.is_entered && !acks.is_removed(self.entry);
        if self.waits > HANDSHAKE_WAITS && !is_entered {
            self.is_entered = true;
            self.entry = acks.enter(cx);
        }
    }
}

impl Default for Acks {
    fn default() -> Self {
        Self {
            entries: Mutex::new(VecDeque::with_capacity(4)),
            removed: AtomicU32::new(0),
        }
    }
}

impl Acks {
    /// Enters the reader of `cx`, and wakes those that were entered some time ago. Returns the number of the
    /// entry.
    fn enter(&self, cx: &Context<'_>) -> u32 {
        let since = Instant::now();
        let reader = cx.waker().clone();
        let mut entries = self.entries.lock();
        // More readers than numbers do not fit into memory.
        let before = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let number = self.removed.load(Ordering::Relaxed).wrapping_add(before);
        entries.push_back(Entry { since, reader });
        drop(entries);
        while let Some(reader) = self.next_quiet(since) {
            reader.wake();
        }
        number
    }

    /// Returns whether an entry was removed, given its number. Wrong after 2^31 further ones.
    fn is_removed(&self, number: u32) -> bool {
        let removed = self.removed.load(Ordering::Relaxed);
        // Numbers that are still to come are at most half of all numbers ahead.
        number.wrapping_sub(removed) > u32::MAX / 2
    }

    fn next_quiet(&self, now: Instant) -> Option<Waker> {
        let mut entries = self.entries.lock();
        let since = entries.front()?.since;
        let is_quiet = now.saturating_duration_since(since) >= QUIET;
        let entry = is_quiet.then(|| entries.pop_front()).flatten()?;
        self.removed.fetch_add(1, Ordering::Relaxed);
        Some(entry.reader)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Removes the first entry without a wake, as if its wake had met something to read.
    #[cfg(test)]
    fn remove_first(&self) {
        let entry = self.entries.lock().pop_front();
        self.removed
            .fetch_add(u32::from(entry.is_some()), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::net::TcpListener;

    use super::*;
    use crate::rt::{self, Task};
    use crate::secure::{FrameBuffer, FrameWriter as _};
    use crate::tcp::carrier::raw::{self, RawWriter};
    use crate::tcp::carrier::{Readers, TcpWriter, Writer};

    /// A connection of which one end only writes, and the other one, which is in `acks`, only reads.
    struct OneWay {
        writer: TcpWriter,
        reads: std::sync::mpsc::Receiver<()>,
        answers: RawWriter,
        _reading: Task,
    }

    impl OneWay {
        async fn open(readers: &Readers) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let (dialled, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
            let (_, writer) = raw::split(
                dialled.unwrap().into(),
                BytesMut::new(),
                &Readers::default(),
            );
            let accepted = accepted.unwrap().0;
            // As after an exchange.
            delay_acks(&accepted);
            let (mut reader, answers) = raw::split(accepted.into(), BytesMut::new(), readers);
            let (read, reads) = std::sync::mpsc::channel();
            let reading = Task::spawn(async move {
                while let Ok(Some(_)) = reader.read_frame().await {
                    let _ = read.send(());
                }
            });
            Self {
                writer: TcpWriter(Writer::Raw(writer)),
                reads,
                answers,
                _reading: reading,
            }
        }

        async fn carry(&mut self) {
            let mut frames = FrameBuffer::default();
            frames.push(b"message");
            self.writer.write_frames(&mut frames).await.unwrap();
            until(|| self.reads.try_recv().is_ok()).await;
        }

        async fn shake_hands(&mut self) {
            for _ in 0..HANDSHAKE_WAITS {
                self.carry().await;
            }
        }

        /// Returns whether the system acknowledges at once what arrives.
        #[cfg(target_os = "linux")]
        fn acknowledges_at_once(&self) -> bool {
            let socket = socket2::SockRef::from(self.answers.stream());
            socket.tcp_quickack().unwrap()
        }
    }

    async fn until(condition: impl Fn() -> bool) {
        let changed = async {
            while !condition() {
                rt::sleep(Duration::from_millis(1)).await;
            }
        };
        rt::timeout(Duration::from_secs(10), changed).await.unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_quiet_connection_is_attended_to_when_another_one_is_read() {
        let readers = Readers::default();
        let mut quiet = OneWay::open(&readers).await;
        let mut other = OneWay::open(&readers).await;
        quiet.shake_hands().await;
        other.shake_hands().await;
        quiet.carry().await;
        // Nothing has answered, so the system no longer waits for answers.
        until(|| quiet.acknowledges_at_once()).await;
        tokio::time::sleep(QUIET).await;
        other.carry().await;
        until(|| !quiet.acknowledges_at_once()).await;
    }

    #[tokio::test]
    async fn a_connection_that_is_read_again_and_again_has_one_entry() {
        let readers = Readers::default();
        let mut connection = OneWay::open(&readers).await;
        connection.shake_hands().await;
        assert_eq!(readers.acks().len(), 0);
        for _ in 0..600 {
            connection.carry().await;
        }
        assert_eq!(readers.acks().len(), 1);
    }

    #[tokio::test]
    async fn a_connection_whose_entry_is_gone_gets_another_one_when_it_is_read() {
        let readers = Readers::default();
        // Entries are told apart also when their numbers begin again.
        readers.acks().removed.store(u32::MAX, Ordering::Relaxed);
        let mut connection = OneWay::open(&readers).await;
        connection.shake_hands().await;
        for _ in 0..3 {
            connection.carry().await;
            connection.carry().await;
            assert_eq!(readers.acks().len(), 1);
            readers.acks().remove_first();
        }
    }
}
