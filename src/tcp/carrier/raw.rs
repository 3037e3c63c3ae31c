//! Frames over TCP itself: each after its length, a big-endian `u16`.
//!
//! It does not look into frames. Invariant: what has been read and not yet been given is in
//! `buffer`, and what has been given to write and not yet been taken is in the caller's
//! [`FrameBuffer`]: so both directions may be cancelled at any point. A connection that waits
//! between frames holds no buffer.

use std::future::poll_fn;
use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::secure::{FrameBuffer, FrameEvent};

/// The bytes of a frame's length.
const LENGTH_LEN: usize = 2;
/// What a read asks for at first, and again once a connection has calmed down.
const MIN_READ: usize = 4 << 10;
/// What a read asks for at most: a few of the longest frames at once.
const MAX_READ: usize = 256 << 10;

/// Splits `stream` into carriers; `sniffed` are bytes of it that have been read already.
pub(in crate::tcp) fn split(stream: TcpStream, sniffed: BytesMut) -> (RawReader, RawWriter) {
    let (reading, writing) = stream.into_split();
    let reader = RawReader {
        stream: reading,
        buffer: sniffed,
        read_len: MIN_READ,
    };
    (reader, RawWriter { stream: writing })
}

#[derive(Debug)]
pub(in crate::tcp) struct RawReader {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    // Doubles while reads fill it, halves while they do not.
    read_len: usize,
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
                let Self { stream, buffer, .. } = self;
                poll_fn(|cx| {
                    let ready = stream.as_ref().poll_read_ready(cx);
                    if ready.is_pending() {
                        // The frames split off keep the old memory for as long as they need it.
                        *buffer = BytesMut::new();
                    }
                    ready
                })
                .await?;
            }
            self.buffer.reserve(self.read_len);
            let read = self.stream.read_buf(&mut self.buffer).await?;
            if read == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            if read >= self.read_len {
                self.read_len = (self.read_len * 2).min(MAX_READ);
            } else if read < self.read_len / 4 {
                self.read_len = (self.read_len / 2).max(MIN_READ);
            }
        }
    }

    /// The first whole frame of the buffer, without a copy.
    fn split_frame(&mut self) -> Option<BytesMut> {
        let len = usize::from(u16::from_be_bytes(*self.buffer.first_chunk()?));
        if self.buffer.len() < LENGTH_LEN + len {
            return None;
        }
        self.buffer.advance(LENGTH_LEN);
        Some(self.buffer.split_to(len))
    }
}

impl RawWriter {
    pub(super) async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        while !frames.is_empty() {
            let bytes = frames.bytes_mut();
            // Not `write_buf`, which makes a vectored write of one slice: that costs more.
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
