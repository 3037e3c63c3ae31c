//! The reading half of a TCP stream, with the bytes that have arrived and were not taken yet.
//!
//! It knows no frames. Invariant: bytes that were read stay in the buffer until they are taken, so a
//! read can be cancelled at any point. A connection that waits with nothing in its buffer holds none, and
//! one that waits for the rest of a frame at most that frame and the longest read, which is counted.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::acks::Attention;
use super::readers::{Held, Readers};
use crate::tcp::stream::{Outlet, ReadHalf};

/// The fewest bytes that a read asks for. A new or quiet connection reads this much.
const MIN_READ: usize = 1000;
/// The doublings of that to the most bytes that a read asks for: 250 KiB, a few of the longest frames.
const MAX_DOUBLINGS: u8 = 8;

#[derive(Debug)]
pub(super) struct Incoming {
    stream: ReadHalf,
    readers: Readers,
    attention: Attention,
    // The doublings of `MIN_READ` to the bytes that the next read asks for: one more after a full read,
    // and one less after one that returned less than a quarter.
    doublings: u8,
    held: Held,
    /// Bytes that have arrived and were not taken yet.
    pub(super) buffer: BytesMut,
}

impl Incoming {
    /// `buffer` holds the bytes of `stream` that have been read already. `readers` is shared with
    /// the other connections of the network.
    pub(super) fn new(stream: ReadHalf, buffer: BytesMut, readers: &Readers) -> Self {
        Self {
            stream,
            readers: readers.clone(),
            attention: Attention::default(),
            doublings: 0,
            held: Held::default(),
            buffer,
        }
    }

    /// Returns the TCP stream, if it is known.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        self.stream.tcp()
    }

    /// Returns where the other half of the stream writes to.
    pub(super) fn outlet(&self) -> Outlet<'_> {
        self.stream.outlet()
    }

    /// Reads more bytes into the buffer. Returns their number, which is 0 at the end of the stream.
    /// `elsewhere` is the memory of the same frame that is not in the buffer, in bytes.
    pub(super) fn poll_fill(
        &mut self,
        elsewhere: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            ready!(self.poll_ready(elsewhere, cx))?;
        }
        let read_len = MIN_READ << self.doublings;
        let read = match &mut self.stream {
            ReadHalf::Plain(stream) => {
                reserve(&mut self.buffer, read_len);
                pin!(stream.read_buf(&mut self.buffer)).poll(cx)
            }
            ReadHalf::Tls(stream) => {
                let mut append = |bytes: &[u8]| {
                    reserve(&mut self.buffer, bytes.len());
                    self.buffer.extend_from_slice(bytes);
                };
                stream.poll_read(read_len, &mut append, cx)
            }
            ReadHalf::Any(stream) => {
                let mut append = |bytes: &[u8]| {
                    reserve(&mut self.buffer, bytes.len());
                    self.buffer.extend_from_slice(bytes);
                };
                stream.poll_read(read_len, &mut append, cx)
            }
        };
        if read.is_pending() {
            if self.buffer.is_empty() {
                // It was ready for something that is no data, or that had been read already.
                self.prepare_wait(elsewhere, cx);
            } else {
                self.count_part(elsewhere);
            }
        }
        let read = ready!(read)?;
        if read > 0 {
            self.attention.note_read();
        }
        if read >= read_len {
            self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
        } else if read < read_len / 4 {
            self.doublings = self.doublings.saturating_sub(1);
        }
        Poll::Ready(Ok(read))
    }

    /// Counts the part of a frame that waits for the rest, and gives back the memory beside it if all
    /// readers hold too much.
    fn count_part(&mut self, elsewhere: usize) {
        let held = self.buffer.capacity().saturating_add(elsewhere);
        if !self.readers.count(&mut self.held, held) {
            return;
        }
        // The next read is short, so that it takes little memory until it has to wait again.
        self.doublings = 0;
        self.buffer = BytesMut::from(&*self.buffer);
        let held = self.buffer.capacity().saturating_add(elsewhere);
        self.readers.count(&mut self.held, held);
    }

    /// Completes when there is something to read. The buffer must be empty.
    fn poll_ready(&mut self, elsewhere: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = self.stream.poll_read_ready(cx);
        if ready.is_pending() {
            self.prepare_wait(elsewhere, cx);
        }
        ready
    }

    /// Prepares for a wait with nothing in the buffer.
    fn prepare_wait(&mut self, elsewhere: usize, cx: &Context<'_>) {
        if let Some(stream) = self.stream.tcp() {
            self.attention.before_wait(stream, self.readers.acks(), cx);
        }
        // Frees the buffer while idle. Frames that were split off share its memory and keep it
        // alive for as long as they exist.
        self.buffer = BytesMut::new();
        self.readers.count(&mut self.held, elsewhere);
    }
}

/// Makes room for a read of `len` bytes. By itself, the buffer would double, and a peer that stops inside of a frame
/// would hold the more.
fn reserve(buffer: &mut BytesMut, len: usize) {
    let have = buffer.len();
    if buffer.capacity().saturating_sub(have) >= len || buffer.try_reclaim(len) {
        return;
    }
    // Room for as much as there is, so that a frame that arrives in many short reads is not copied for each of them. No
    // more than a frame waits here.
    let mut larger = BytesMut::with_capacity(have + len.max(have));
    larger.extend_from_slice(buffer);
    *buffer = larger;
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.readers.count(&mut self.held, 0);
    }
}
