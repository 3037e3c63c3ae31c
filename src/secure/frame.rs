//! Frames, and what carries them.
//!
//! No cipher and no sockets: a carrier (TCP, a WebSocket) implements [`FrameReader`] and
//! [`FrameWriter`]. Invariant: a carrier delivers each frame whole and in order, or fails.

use std::future::Future;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::rt::MaybeSend;

/// The longest frame, in bytes: a Noise message's limit.
pub const MAX_FRAME_LEN: usize = 65_535;

/// The bytes of the length in front of each frame of a [`FrameBuffer`].
pub(super) const LENGTH_LEN: usize = 2;

/// The reading half of a byte carrier that keeps frame bounds.
pub trait FrameReader: MaybeSend + 'static {
    /// The next frame; `None` at the carrier's orderly end. Cancel-safe. A frame longer than
    /// [`MAX_FRAME_LEN`] is an error before memory is taken for it.
    ///
    /// The frame is decrypted in place and long messages are handed on inside it, so its memory
    /// may live as long as they do: best is a buffer that holds little else.
    fn read_frame(&mut self) -> impl Future<Output = io::Result<Option<FrameEvent>>> + MaybeSend;
}

/// What a carrier reads.
#[derive(Debug)]
pub enum FrameEvent {
    /// A whole frame.
    Frame(BytesMut),
    /// A sign of life without a frame: an answered ping.
    Activity,
}

/// The writing half of a byte carrier that keeps frame bounds.
pub trait FrameWriter: MaybeSend + 'static {
    /// Writes all of `frames` and flushes. What the carrier has taken over leaves `frames`.
    /// Cancel-safe: the next call goes on where this one was dropped.
    fn write_frames(
        &mut self,
        frames: &mut FrameBuffer,
    ) -> impl Future<Output = io::Result<()>> + MaybeSend;

    /// Asks the peer's network stack for a sign of life, where the carrier has such a thing.
    fn ping(&mut self) -> impl Future<Output = io::Result<()>> + MaybeSend {
        async { Ok(()) }
    }

    /// Ends the stream in order.
    fn shutdown(&mut self) -> impl Future<Output = io::Result<()>> + MaybeSend;
}

/// Frames one behind the other, each after its length as a big-endian `u16`: just what TCP
/// carries, so that one write takes them all; a WebSocket takes them off one by one.
///
/// A carrier uses either [`bytes_mut`](Self::bytes_mut) or [`pop`](Self::pop), never both: half a
/// frame cannot be popped.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: BytesMut,
}

impl FrameBuffer {
    /// Appends a frame whose bytes are known.
    ///
    /// # Panics
    ///
    /// If `frame` is longer than [`MAX_FRAME_LEN`].
    pub fn push(&mut self, frame: &[u8]) {
        let len = u16::try_from(frame.len());
        assert!(len.is_ok(), "a frame is at most 65,535 bytes long");
        self.bytes.reserve(LENGTH_LEN + frame.len());
        self.bytes.put_u16(len.unwrap_or_default());
        self.bytes.put_slice(frame);
    }
    /// The bytes as TCP carries them; advance as they are written.
    pub fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
    /// Takes the first frame off, without its length.
    pub fn pop(&mut self) -> Option<Bytes> {
        let len = usize::from(u16::from_be_bytes(*self.bytes.first_chunk()?));
        if self.bytes.len() < LENGTH_LEN + len {
            return None;
        }
        self.bytes.advance(LENGTH_LEN);
        Some(self.bytes.split_to(len).freeze())
    }
    /// Whether nothing is left to write.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    /// Bytes left to write, lengths included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_in_order_without_their_length() {
        let mut frames = FrameBuffer::default();
        let long = vec![7; MAX_FRAME_LEN];
        for frame in [&b"one"[..], b"", &long] {
            frames.push(frame);
        }
        assert_eq!(frames.len(), 3 + MAX_FRAME_LEN + 3 * LENGTH_LEN);
        assert_eq!(frames.pop().unwrap(), "one");
        assert_eq!(frames.pop().unwrap(), "");
        assert_eq!(frames.pop().unwrap(), long);
        assert!(frames.pop().is_none() && frames.is_empty());
    }

    #[test]
    fn a_stream_of_frames_starts_with_its_length() {
        let mut frames = FrameBuffer::default();
        frames.push(b"abc");
        assert_eq!(&frames.bytes_mut()[..], b"\0\x03abc");
    }
}
