//! Frames directly over TCP: each frame follows its length, a big-endian `u16`.
//!
//! It does not interpret frames. Invariant: bytes that were read but not returned yet are in
//! `buffer`, and frames that were not written yet stay in the caller's [`FrameBuffer`], so both
//! directions can be cancelled at any point. A connection that waits between frames holds no
//! buffer.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::acks::{Acks, Attention};
use crate::secure::{FrameBuffer, FrameEvent};

/// The size of a frame's length, in bytes.
const LENGTH_LEN: usize = 2;
/// The fewest bytes that a read asks for. A new or quiet connection reads this much.
const MIN_READ: u32 = 1000;
/// The most bytes that a read asks for: a few of the longest frames.
const MAX_READ: u32 = 256 << 10;

/// Splits `stream` into a reader and a writer of frames. `sniffed` holds the bytes of it that have
/// been read already. `acks` is shared with the other connections of the network.
pub(in crate::tcp) fn split(
    stream: TcpStream,
    sniffed: BytesMut,
    acks: &Acks,
) -> (RawReader, RawWriter) {
    let (reading, writing) = stream.into_split();
    let reader = RawReader {
        stream: reading,
        acks: acks.clone(),
        attention: Attention::default(),
        buffer: sniffed,
        read_len: MIN_READ,
    };
    (reader, RawWriter { stream: writing })
}

#[derive(Debug)]
pub(in crate::tcp) struct RawReader {
    stream: OwnedReadHalf,
    acks: Acks,
    attention: Attention,
    buffer: BytesMut,
    // Bytes that the next read asks for. It doubles after a full read, and halves after one that
    // returned less than a quarter.
    read_len: u32,
}

#[derive(Debug)]
pub(in crate::tcp) struct RawWriter {
    stream: OwnedWriteHalf,
}

impl RawReader {
    pub(super) async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        loop {
            if let Some(frame) = self.split_frame() {
                return Ok(Some(FrameEvent::Frame(frame)));
            }
            if self.buffer.is_empty() {
                poll_fn(|cx| self.poll_ready(cx)).await?;
            }
            let read_len = self.read_len as usize;
            self.buffer.reserve(read_len);
            let read = self.stream.read_buf(&mut self.buffer).await?;
            if read == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            self.attention.note_read();
            if read >= read_len {
                self.read_len = (self.read_len * 2).min(MAX_READ);
            } else if read < read_len / 4 {
                self.read_len = (self.read_len / 2).max(MIN_READ);
            }
        }
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

    /// Splits the first complete frame off the buffer, without copying it.
    fn split_frame(&mut self) -> Option<BytesMut> {
        let len = usize::from(u16::from_be_bytes(*self.buffer.first_chunk()?));
        if self.buffer.len() < LENGTH_LEN + len {
            return None;
        }
        self.buffer.advance(LENGTH_LEN);
        if self.buffer.len() == len {
            // The frame gets the buffer itself: sharing the memory would need an allocation.
            return Some(std::mem::take(&mut self.buffer));
        }
        Some(self.buffer.split_to(len))
    }
}

impl RawWriter {
    #[cfg(test)]
    pub(super) fn stream(&self) -> &TcpStream {
        self.stream.as_ref()
    }

    pub(super) async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        while !frames.is_empty() {
            let bytes = frames.bytes_mut();
            // `write_buf` would make a vectored write of one slice, which costs more.
            let written = self.stream.write(bytes).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes.advance(written);
        }
        Ok(())
    }

    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}
