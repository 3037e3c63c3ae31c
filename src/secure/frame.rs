//! Frames, and the traits of a carrier.
//!
//! A carrier (TCP, a WebSocket) implements [`FrameReader`] and [`FrameWriter`]; this file has no
//! cipher and no sockets. Invariant: a carrier delivers each frame whole and in order, or fails.

use std::future::Future;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::rt::MaybeSend;

/// The longest frame, in bytes. It is the limit of a Noise message.
pub const MAX_FRAME_LEN: usize = 65_535;

/// Length of the prefix before each frame of a [`FrameBuffer`], in bytes.
pub(super) const LENGTH_LEN: usize = 2;

/// The reading half of a carrier that preserves the boundaries of frames.
pub trait FrameReader: MaybeSend + 'static {
    /// Returns the next frame or sign of life, or `None` at the carrier's orderly end. Cancel-safe.
    ///
    /// The frame is decrypted to other memory and dropped before the next one is read, so it may be a part
    /// of a buffer that the carrier uses again.
    ///
    /// # Errors
    ///
    /// Fails if the carrier broke. A frame longer than [`MAX_FRAME_LEN`] must fail before memory is
    /// taken for it.
    fn read_frame(&mut self) -> impl Future<Output = io::Result<Option<FrameEvent>>> + MaybeSend;

    /// Returns whether the carrier leads to a loopback address. It is asked once, and only if the address of the peer stands
    /// for a name. Default: `false`.
    fn is_local(&self) -> bool {
        false
    }
}

/// The result of a read from a carrier.
#[derive(Debug)]
pub enum FrameEvent {
    /// A whole frame.
    Frame(BytesMut),
    /// A sign of life without a frame, such as the answer to a ping.
    Activity,
}

/// The writing half of a carrier that preserves the boundaries of frames.
pub trait FrameWriter: MaybeSend + 'static {
    /// Writes all of `frames` and flushes. Bytes that the carrier has taken are removed from
    /// `frames`. Cancel-safe: the next call continues where a dropped one stopped.
    fn write_frames(
        &mut self,
        frames: &mut FrameBuffer,
    ) -> impl Future<Output = io::Result<()>> + MaybeSend;

    /// Asks the peer's network stack for a sign of life, if the carrier has a message for that. By
    /// default it does nothing.
    fn ping(&mut self) -> impl Future<Output = io::Result<()>> + MaybeSend {
        async { Ok(()) }
    }

    /// Ends the stream in order.
    fn shutdown(&mut self) -> impl Future<Output = io::Result<()>> + MaybeSend;
}

/// A queue of frames in one buffer, each after its length as a big-endian `u16`.
///
/// These are the bytes that TCP carries, so one write takes all frames. A WebSocket takes them off
/// one by one.
///
/// A carrier must use either [`bytes_mut`](Self::bytes_mut) or [`pop`](Self::pop), never both: a
/// frame of which a part has been written cannot be popped.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: BytesMut,
}

impl FrameBuffer {
    /// Appends a frame.
    ///
    /// # Panics
    ///
    /// Panics if `frame` is longer than [`MAX_FRAME_LEN`].
    pub fn push(&mut self, frame: &[u8]) {
        let len = u16::try_from(frame.len());
        assert!(len.is_ok(), "a frame is at most 65,535 bytes long");
        self.bytes.reserve(LENGTH_LEN + frame.len());
        self.bytes.put_u16(len.unwrap_or_default());
        self.bytes.put_slice(frame);
    }
    /// Returns the bytes as TCP carries them. A carrier advances the buffer as it writes.
    pub fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
    /// Removes the first frame and returns it without its length, or returns `None` if there is no
    /// whole frame.
    pub fn pop(&mut self) -> Option<Bytes> {
        let len = usize::from(u16::from_be_bytes(*self.bytes.first_chunk()?));
        if self.bytes.len() < LENGTH_LEN + len {
            return None;
        }
        self.bytes.advance(LENGTH_LEN);
        Some(self.bytes.split_to(len).freeze())
    }
    /// Returns whether nothing is left to write.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    /// Returns the number of bytes left to write, lengths included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_popped_in_order_without_their_length() {
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
    fn a_frame_follows_its_length_in_the_buffer() {
        let mut frames = FrameBuffer::default();
        frames.push(b"abc");
        assert_eq!(&frames.bytes_mut()[..], b"\0\x03abc");
    }
}
