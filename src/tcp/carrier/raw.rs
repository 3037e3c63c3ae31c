//! Frames directly over TCP: each frame follows its length, a big-endian `u16`.
//!
//! It does not interpret frames. Invariant: bytes that were read but not returned yet are in the
//! buffer of [`Incoming`], and frames that were not written yet stay in the caller's [`FrameBuffer`],
//! so both directions can be cancelled at any point.

use std::future::poll_fn;
use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncWriteExt as _;

use super::incoming::Incoming;
use super::readers::Readers;
use crate::secure::{FrameBuffer, FrameEvent};
use crate::tcp::stream::{Stream, WriteHalf};

/// The size of a frame's length, in bytes.
const LENGTH_LEN: usize = 2;

/// Splits `stream` into a reader and a writer of frames. `sniffed` holds the bytes of it that have
/// been read already. `readers` is shared with the other connections of the network.
pub(in crate::tcp) fn split(
    stream: Stream,
    sniffed: BytesMut,
    readers: &Readers,
) -> (RawReader, RawWriter) {
    let (reading, writing) = stream.split();
    let reader = RawReader(Incoming::new(reading, sniffed, readers));
    (reader, RawWriter { stream: writing })
}

#[derive(Debug)]
pub(in crate::tcp) struct RawReader(Incoming);

#[derive(Debug)]
pub(in crate::tcp) struct RawWriter {
    stream: WriteHalf,
}

impl RawReader {
    /// Returns whether the stream leads to a loopback address.
    pub(super) fn is_local(&self) -> bool {
        let peer = self.0.tcp().and_then(|stream| stream.peer_addr().ok());
        peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
    }

    pub(super) async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        loop {
            if let Some(frame) = split_frame(&mut self.0.buffer) {
                return Ok(Some(FrameEvent::Frame(frame)));
            }
            if poll_fn(|cx| self.0.poll_fill(0, cx)).await? == 0 {
                return if self.0.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }
}

/// Splits the first complete frame off the buffer, without copying it.
fn split_frame(buffer: &mut BytesMut) -> Option<BytesMut> {
    let len = usize::from(u16::from_be_bytes(*buffer.first_chunk()?));
    if buffer.len() < LENGTH_LEN + len {
        return None;
    }
    buffer.advance(LENGTH_LEN);
    if buffer.len() == len {
        // The frame gets the buffer itself: sharing the memory would need an allocation.
        return Some(std::mem::take(buffer));
    }
    Some(buffer.split_to(len))
}

impl RawWriter {
    #[cfg(test)]
    pub(super) fn stream(&self) -> &tokio::net::TcpStream {
        self.stream.tcp().unwrap()
    }

    pub(super) async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        let stream = match &mut self.stream {
            WriteHalf::Plain(stream) => stream,
            WriteHalf::Tls(stream) => return stream.write_all(frames.bytes_mut()).await,
            WriteHalf::Any(stream) => return stream.write_all(frames.bytes_mut()).await,
        };
        while !frames.is_empty() {
            let bytes = frames.bytes_mut();
            // `write_buf` would make a vectored write of one slice, which costs more.
            let written = stream.write(bytes).await?;
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
