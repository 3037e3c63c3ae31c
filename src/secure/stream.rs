//! The stream of messages inside the records.
//!
//! Each message is its length as a big-endian `u32` and its bytes, whatever records they fall
//! into. A length from `0xFFFF_FF00` up is a control word instead; version 1 has one,
//! `0xFFFF_FFFF` and a `u16` code: goodbye. A record may be empty: a keepalive. Sealed and opened
//! elsewhere; no carrier here. Invariant: memory is taken for bytes that have arrived, never for a
//! length that was announced.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::frame::LENGTH_LEN;
use super::record::{MAX_PLAINTEXT_LEN, Sealer};
use super::{FrameBuffer, FrameError};
use crate::net::CloseCode;

/// Lengths from here up are control words.
const FIRST_CONTROL: u32 = 0xFFFF_FF00;
const GOODBYE: u32 = 0xFFFF_FFFF;
/// The longest message that the stream can express, in bytes.
pub(super) const LONGEST_MESSAGE: usize = FIRST_CONTROL as usize - 1;

const HEADER_LEN: usize = 4;

/// Sealed bytes at which filling stops until they are written.
const FLUSH_LEN: usize = 256 << 10;

/// A message no shorter than its record's plaintext divided by this, and than [`KEEP_LEN`], is
/// handed on inside the record's memory, a shorter one is copied: so what is kept never holds much
/// more than its own size, or a slab.
const KEEP_RATIO: usize = 4;

/// Copying costs less than sharing for anything shorter; and a short record may lie in a long read
/// buffer, which it would hold.
const KEEP_LEN: usize = 8 << 10;

/// Short messages of a record are copied into slabs of so many bytes at most: one allocation for
/// many, and no more than this is held by one that is kept.
const SLAB_LEN: usize = 4 << 10;

/// Messages on their way out: sealed, and not yet written.
pub(super) struct Outbox {
    pub(super) frames: FrameBuffer,
    sealer: Sealer,
    /// What is not sealed yet of a message whose header is.
    rest: Bytes,
}

impl Outbox {
    pub(super) fn new(sealer: Sealer) -> Self {
        Self {
            frames: FrameBuffer::default(),
            sealer,
            rest: Bytes::new(),
        }
    }

    /// Seals messages until a flush is worth while or `batch` is empty. Nothing was sealed, and
    /// nothing is waiting to be written, if and only if `frames` is empty then.
    ///
    /// # Errors
    ///
    /// [`FrameError::MessageTooLong`] takes the message off `batch`, once what came before it is
    /// written. Anything else is fatal.
    pub(super) fn fill(
        &mut self,
        batch: &mut VecDeque<Bytes>,
        max_message_len: usize,
    ) -> Result<(), FrameError> {
        let mut record = OpenRecord::new(&mut self.frames, &mut self.sealer);
        let refused = loop {
            if !self.rest.is_empty() {
                record.append(&mut self.rest)?;
            }
            if !self.rest.is_empty() || record.frames.len() >= FLUSH_LEN {
                break None;
            }
            let Some(message) = batch.front() else {
                break None;
            };
            let len = message.len();
            match u32::try_from(len) {
                Ok(header) if len <= max_message_len && header < FIRST_CONTROL => {
                    if record.append_message(header, message) {
                        batch.pop_front();
                        continue;
                    }
                    record.append_whole(&header.to_be_bytes())?;
                    self.rest = batch.pop_front().unwrap_or_default();
                }
                _ => break Some(len),
            }
        };
        record.seal()?;
        match refused {
            Some(len) if self.frames.is_empty() => {
                batch.pop_front();
                Err(FrameError::MessageTooLong {
                    len,
                    max: max_message_len,
                })
            }
            _ => Ok(()),
        }
    }

    /// Seals an empty record, unless bytes are waiting that will tell the peer as much.
    pub(super) fn keepalive(&mut self) -> Result<(), FrameError> {
        if !self.frames.is_empty() {
            return Ok(());
        }
        // Idle: a good time to give back what a burst has grown.
        self.frames = FrameBuffer::default();
        let mut record = OpenRecord::new(&mut self.frames, &mut self.sealer);
        record.open();
        record.seal()
    }

    /// Seals the goodbye. Only at a message's end: inside one it would be taken for its bytes.
    pub(super) fn goodbye(&mut self, code: CloseCode) -> Result<(), FrameError> {
        let mut record = OpenRecord::new(&mut self.frames, &mut self.sealer);
        record.append_whole(&GOODBYE.to_be_bytes())?;
        record.append_whole(&code.0.to_be_bytes())?;
        record.seal()
    }
}

/// The record that is being filled, at the end of the frames.
struct OpenRecord<'a> {
    frames: &'a mut BytesMut,
    sealer: &'a mut Sealer,
    start: Option<usize>,
}

impl<'a> OpenRecord<'a> {
    fn new(frames: &'a mut FrameBuffer, sealer: &'a mut Sealer) -> Self {
        Self {
            frames: frames.bytes_mut(),
            sealer,
            start: None,
        }
    }

    /// Starts a record unless one is open, and gives the room left in it.
    fn open(&mut self) -> usize {
        let len = self.frames.len();
        let start = *self.start.get_or_insert(len);
        if start == len {
            self.frames.put_u16(0);
        }
        let filled = self
            .frames
            .len()
            .saturating_sub(start.saturating_add(LENGTH_LEN));
        MAX_PLAINTEXT_LEN.saturating_sub(filled)
    }

    /// Appends a message that fits into the record with its header, which is the common case;
    /// false if it does not.
    fn append_message(&mut self, header: u32, message: &[u8]) -> bool {
        let needed = HEADER_LEN.saturating_add(message.len());
        // One that fills the record would have to seal it.
        if self.open() <= needed {
            return false;
        }
        self.frames.reserve(needed);
        self.frames.put_u32(header);
        self.frames.put_slice(message);
        true
    }

    /// Appends bytes that are not to be cut.
    fn append_whole(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if self.open() < bytes.len() {
            self.seal()?;
            self.open();
        }
        self.frames.put_slice(bytes);
        Ok(())
    }

    /// Moves bytes into as many records as they need, up to the flush.
    fn append(&mut self, bytes: &mut Bytes) -> Result<(), FrameError> {
        while !bytes.is_empty() && self.frames.len() < FLUSH_LEN {
            let room = self.open();
            let piece = bytes.split_to(room.min(bytes.len()));
            self.frames.put_slice(&piece);
            if piece.len() == room {
                self.seal()?;
            }
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), FrameError> {
        match self.start.take() {
            Some(start) => self.sealer.seal(self.frames, start),
            None => Ok(()),
        }
    }
}

/// What the peer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Message(Bytes),
    Goodbye(CloseCode),
}

/// Messages on their way in: opened, and not yet taken.
pub(super) struct Inbox {
    max_message_len: usize,
    plaintext: BytesMut,
    /// The length of the record that `plaintext` is the rest of.
    record_len: usize,
    /// Empty, with room for short messages of the same record.
    slab: BytesMut,
    partial: Option<Partial>,
}

/// A message that does not lie within one record.
struct Partial {
    bytes: Vec<u8>,
    len: usize,
}

impl Inbox {
    pub(super) fn new(max_message_len: usize) -> Self {
        Self {
            max_message_len,
            plaintext: BytesMut::new(),
            record_len: 0,
            slab: BytesMut::new(),
            partial: None,
        }
    }

    /// Adds a record's plaintext. Call it when [`next`](Self::next) has given `None`.
    pub(super) fn feed(&mut self, record: BytesMut) {
        self.record_len = record.len();
        if self.plaintext.is_empty() {
            self.plaintext = record;
        } else {
            // A header cut in two: legal, though this side never does it.
            self.plaintext.extend_from_slice(&record);
        }
    }

    /// What lies ready; `None` if another record is needed.
    pub(super) fn next(&mut self) -> Result<Option<Event>, FrameError> {
        if self.partial.is_some() {
            return Ok(self.continue_partial());
        }
        let Some(header) = self.plaintext.first_chunk::<HEADER_LEN>() else {
            if self.plaintext.is_empty() {
                // Even an empty rest would hold the record's memory.
                self.plaintext = BytesMut::new();
                self.slab = BytesMut::new();
            }
            return Ok(None);
        };
        let header = u32::from_be_bytes(*header);
        if header >= FIRST_CONTROL {
            return self.control(header);
        }
        let len = usize::try_from(header).unwrap_or(usize::MAX);
        if len > self.max_message_len {
            return Err(FrameError::PeerMessageTooLong {
                len,
                max: self.max_message_len,
            });
        }
        self.plaintext.advance(HEADER_LEN);
        if len <= self.plaintext.len() {
            let keep = len >= KEEP_LEN && len.saturating_mul(KEEP_RATIO) >= self.record_len;
            return Ok(Some(Event::Message(if keep {
                self.plaintext.split_to(len).freeze()
            } else {
                self.copy_out(len)
            })));
        }
        self.partial = Some(Partial {
            bytes: Vec::new(),
            len,
        });
        Ok(self.continue_partial())
    }

    /// Takes `len` bytes, which are there, out of the record's memory.
    fn copy_out(&mut self, len: usize) -> Bytes {
        let rest = self.plaintext.len();
        let message = self.plaintext.get(..len).unwrap_or_default();
        let copy = if self.slab.capacity() < len && rest <= len.saturating_add(HEADER_LEN) {
            // The last one of the record shares with nobody.
            Bytes::copy_from_slice(message)
        } else {
            if self.slab.capacity() < len {
                self.slab = BytesMut::with_capacity(rest.min(SLAB_LEN).max(len));
            }
            self.slab.extend_from_slice(message);
            self.slab.split().freeze()
        };
        self.plaintext.advance(len);
        copy
    }

    fn continue_partial(&mut self) -> Option<Event> {
        let partial = self.partial.as_mut()?;
        let missing = partial.len.saturating_sub(partial.bytes.len());
        let piece = self.plaintext.split_to(missing.min(self.plaintext.len()));
        partial.append(&piece);
        if piece.len() < missing {
            // The record is used up: do not hold its memory while waiting for the next.
            self.plaintext = BytesMut::new();
            return None;
        }
        let whole = self.partial.take()?;
        Some(Event::Message(whole.bytes.into()))
    }

    fn control(&mut self, word: u32) -> Result<Option<Event>, FrameError> {
        if word != GOODBYE {
            return Err(FrameError::Malformed {
                what: "unknown control word",
            });
        }
        let code = self.plaintext.get(HEADER_LEN..);
        let Some(code) = code.and_then(|code| code.first_chunk::<2>()) else {
            return Ok(None);
        };
        let code = CloseCode(u16::from_be_bytes(*code));
        // The last word: what may come after it is not read.
        self.plaintext = BytesMut::new();
        Ok(Some(Event::Goodbye(code)))
    }
}

impl Partial {
    /// Doubles the memory as bytes arrive, up to what the message needs.
    fn append(&mut self, piece: &[u8]) {
        let needed = self.bytes.len().saturating_add(piece.len());
        if needed > self.bytes.capacity() {
            let capacity = needed.saturating_mul(2).min(self.len);
            let more = capacity.saturating_sub(self.bytes.len());
            self.bytes.reserve_exact(more);
        }
        self.bytes.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests;
