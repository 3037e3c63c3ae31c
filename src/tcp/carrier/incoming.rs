//! The reading half of a TCP stream, with the bytes that have arrived and were not taken yet.
//!
//! It knows no frames. Invariant: bytes that were read stay in the buffer until they are taken, so a
//! read can be cancelled at any point. A connection that waits with nothing in its buffer holds none, and
//! one that waits for the rest of a frame at most that frame and the longest read.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::acks::{Acks, Attention};

/// The fewest bytes that a read asks for. A new or quiet connection reads this much.
const MIN_READ: u32 = 1000;
/// The most bytes that a read asks for: a few of the longest frames.
const MAX_READ: u32 = 256 << 10;

#[derive(Debug)]
pub(super) struct Incoming {
    stream: OwnedReadHalf,
    acks: Acks,
    attention: Attention,
    /// Bytes that have arrived and were not taken yet.
    pub(super) buffer: BytesMut,
    // Bytes that the next read asks for. It doubles after a full read, and halves after one that
    // returned less than a quarter.
    read_len: u32,
}

impl Incoming {
    /// `buffer` holds the bytes of `stream` that have been read already. `acks` is shared with the
    /// other connections of the network.
    pub(super) fn new(stream: OwnedReadHalf, buffer: BytesMut, acks: &Acks) -> Self {
        Self {
            stream,
            acks: acks.clone(),
            attention: Attention::default(),
            buffer,
            read_len: MIN_READ,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.stream.as_ref()
    }

    /// Reads more bytes into the buffer. Returns their number, which is 0 at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            ready!(self.poll_ready(cx))?;
        }
        let read_len = self.read_len as usize;
        self.reserve(read_len);
        let read = pin!(self.stream.read_buf(&mut self.buffer)).poll(cx);
        let read = ready!(read)?;
        if read > 0 {
            self.attention.note_read();
        }
        if read >= read_len {
            self.read_len = (self.read_len * 2).min(MAX_READ);
        } else if read < read_len / 4 {
            self.read_len = (self.read_len / 2).max(MIN_READ);
        }
        Poll::Ready(Ok(read))
    }

    /// Makes room for a read of `len` bytes. By itself, the buffer would double, and a peer that stops
    /// inside of a frame would hold the more.
    fn reserve(&mut self, len: usize) {
        let have = self.buffer.len();
        if self.buffer.capacity().saturating_sub(have) >= len || self.buffer.try_reclaim(len) {
            return;
        }
        // Room for as much as there is, so that a frame that arrives in many short reads is not copied
        // for each of them. No more than a frame waits here.
        let mut larger = BytesMut::with_capacity(have + len.max(have));
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
    }

    /// Completes when there is something to read. The buffer must be empty.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.stream.as_ref();
        let ready = stream.poll_read_ready(cx);
        if ready.is_pending() {
            self.attention.before_wait(stream, &self.acks, cx);
            // Frees the buffer while idle. Frames that were split off share its memory and keep it
            // alive for as long as they exist.
            self.buffer = BytesMut::new();
        }
        ready
    }
}
