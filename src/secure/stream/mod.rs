//! The stream of messages inside the records.
//!
//! Each message is its length as a big-endian `u32`, followed by its bytes. A record may hold many
//! messages, and a message may span many records. A length of `0xFFFF_FF00` or above is a control
//! word instead. An empty record is a keepalive.
//!
//! | control word | meaning |
//! |---|---|
//! | `0xFFFF_FFFF` | goodbye, followed by a `u16` code; nothing is read after it |
//! | `0xFFFF_FFFE` | probe: the peer is asked for an answer |
//! | `0xFFFF_FFFD` | answer to one or more probes |
//!
//! Records are encrypted by `record`, opened by `plaintext` and carried by `connection`. Invariant: memory is taken for
//! bytes that have arrived, never for a length that was announced.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::FrameError;
use super::frame::{FrameBuffer, LENGTH_LEN};
use super::owed::{Owed, Words};
use super::partial::{Partial, PartialMessages};
use super::plaintext::Plaintext;
use super::record::{MAX_PLAINTEXT_LEN, Sealer};
use crate::credential::Identity;
use crate::net::CloseCode;

/// The first control word. A header at or above it is not a length.
const FIRST_CONTROL: u32 = 0xFFFF_FF00;
/// The control word that ends the stream.
const GOODBYE: u32 = 0xFFFF_FFFF;
/// The control word that asks the peer for an answer.
const PROBE: u32 = 0xFFFF_FFFE;
/// The control word that answers probes.
const ANSWER: u32 = 0xFFFF_FFFD;
/// The longest message that the format can express, in bytes.
pub(super) const LONGEST_MESSAGE: usize = FIRST_CONTROL as usize - 1;

/// Length of a message's header, in bytes.
const HEADER_LEN: usize = 4;

/// The number of sealed bytes at which filling stops until they have been written.
const FLUSH_LEN: usize = 256 << 10;

/// Together with [`KEEP_LEN`], decides which messages of a record are copied whose memory is not counted as
/// shared (see [`Plaintext::may_share`]). A message that is at least [`KEEP_LEN`] long and at least this
/// fraction (one quarter) of the record is handed on inside the record's memory. Others are copied, so
/// that a message that is kept for long never holds much more memory than its own length or one slab.
const KEEP_RATIO: usize = 4;

/// The shortest message that is not copied, in bytes. Below this, copying costs less than sharing.
const KEEP_LEN: usize = 8 << 10;

/// The size of the pieces of memory (slabs) that the short messages of a record are copied into, in
/// bytes. Many messages need one allocation, and a message that is kept holds at most this much.
const SLAB_LEN: usize = 4 << 10;
// So that a message that fits into a slab is never one that is handed on without a copy.
const _: () = assert!(SLAB_LEN < KEEP_LEN);

/// The sending side of the stream, which packs messages into records: frames that have been sealed, but not
/// written yet.
pub(super) struct Packer {
    pub(super) frames: FrameBuffer,
    sealer: Sealer,
    /// The part of the current message that has not been sealed yet. Its header has been.
    rest: Bytes,
    /// Whether control words are among the sealed bytes. The caller clears it when it has written them.
    pub(super) has_control: bool,
}

impl Packer {
    pub(super) fn new(sealer: Sealer) -> Self {
        Self {
            frames: FrameBuffer::default(),
            sealer,
            rest: Bytes::new(),
            has_control: false,
        }
    }

    /// Seals the acceptor's confirmation as a record of its own.
    pub(super) fn confirmation(&mut self, plaintext: &[u8]) -> Result<(), FrameError> {
        let mut record = OpenRecord::new(&mut self.frames, &mut self.sealer);
        record.open();
        record.append_whole(plaintext)?;
        record.seal()
    }

    /// Seals what is owed and messages until there are [`FLUSH_LEN`] bytes to write or `batch` is empty. The caller
    /// must write `frames` and call this again until it leaves `frames` empty.
    ///
    /// # Errors
    ///
    /// Fails with [`FrameError::MessageTooLong`] if the next message is longer than
    /// `max_message_len` and everything before it has been written; the message is removed from
    /// `batch`. Any other error is fatal.
    pub(super) fn fill(
        &mut self,
        batch: &mut VecDeque<Bytes>,
        max_message_len: usize,
        owed: &Owed,
    ) -> Result<(), FrameError> {
        let mut record = OpenRecord::new(&mut self.frames, &mut self.sealer);
        // Control words go between messages. At most one of each kind waits to be written, since the
        // peer may demand answers faster than it reads them.
        let mut may_take = !self.has_control;
        let refused = loop {
            if !self.rest.is_empty() {
                record.append(&mut self.rest)?;
            }
            if !self.rest.is_empty() || record.frames.len() >= FLUSH_LEN {
                break None;
            }
            if may_take {
                may_take = false;
                self.has_control = record.append_words(owed.take())?;
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

    /// Returns whether no message has been sealed in part.
    pub(super) fn is_between_messages(&self) -> bool {
        self.rest.is_empty()
    }

    /// Seals an empty record, unless sealed bytes are waiting already, which are as good a sign of
    /// life.
    pub(super) fn keepalive(&mut self) -> Result<(), FrameError> {
        if !self.frames.is_empty() {
            return Ok(());
        }
        // The connection is idle: release the memory that a burst has taken.
        self.frames = FrameBuffer::default();
        let mut record = OpenRecord::new(&mut self.frames, &mut self.sealer);
        record.open();
        record.seal()
    }

    /// Seals the goodbye. Must be called between messages: inside one, the peer would take it for
    /// the message's bytes.
    pub(super) fn goodbye(&mut self, code: CloseCode) -> Result<(), FrameError> {
        let mut record = OpenRecord::new(&mut self.frames, &mut self.sealer);
        record.append_whole(&GOODBYE.to_be_bytes())?;
        record.append_whole(&code.0.to_be_bytes())?;
        record.seal()
    }
}

/// The record that is being filled. It is the end of `frames`.
struct OpenRecord<'a> {
    frames: &'a mut BytesMut,
    sealer: &'a mut Sealer,
    /// Where the record begins in `frames`, or `None` if no record has been begun.
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

    /// Begins a record unless one has been begun. Returns the room that is left in it.
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

    /// Appends a message with its header if both fit into the record, which is the common case.
    /// Returns whether they did.
    fn append_message(&mut self, header: u32, message: &[u8]) -> bool {
        let needed = HEADER_LEN.saturating_add(message.len());
        // A message that fills the record exactly is left to `append`, which seals full records.
        if self.open() <= needed {
            return false;
        }
        self.frames.reserve(needed);
        self.frames.put_u32(header);
        self.frames.put_slice(message);
        true
    }

    /// Appends bytes that must not be split between two records.
    fn append_whole(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if self.open() < bytes.len() {
            self.seal()?;
            self.open();
        }
        self.frames.put_slice(bytes);
        Ok(())
    }

    /// Appends control words. Returns whether there were any.
    fn append_words(&mut self, words: Words) -> Result<bool, FrameError> {
        let mut appended = false;
        for (kind, word) in [(Words::PROBE, PROBE), (Words::ANSWER, ANSWER)] {
            if words.contains(kind) {
                self.append_whole(&word.to_be_bytes())?;
                appended = true;
            }
        }
        Ok(appended)
    }

    /// Moves bytes into as many records as they need, until there are [`FLUSH_LEN`] bytes to write.
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

/// An element of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Message(Bytes),
    Probe,
    Answer,
    Goodbye(CloseCode),
}

/// The receiving side of the stream, which unpacks the messages of records: plaintext that has not been returned
/// as messages yet.
pub(super) struct Unpacker {
    max_message_len: u32,
    plaintext: Bytes,
    /// The shortest message of this record that is handed on inside its memory, in bytes.
    shortest_kept: u32,
    /// A copy of the next short messages of the record, with their headers.
    slab: Bytes,
    partial: Option<Box<Partial>>,
}

impl Unpacker {
    pub(super) fn new(max_message_len: usize) -> Self {
        Self {
            max_message_len: u32::try_from(max_message_len).unwrap_or(u32::MAX),
            plaintext: Bytes::new(),
            shortest_kept: 0,
            slab: Bytes::new(),
            partial: None,
        }
    }

    /// Adds a record's plaintext. Must be called only after [`next`](Self::next) has returned
    /// `None`.
    pub(super) fn feed(&mut self, record: Plaintext) {
        let Plaintext {
            mut bytes,
            mut may_share,
        } = record;
        if !self.plaintext.is_empty() {
            // A header is split between two records. That is legal, though our own side never does
            // it.
            bytes = [&self.plaintext[..], &bytes].concat().into();
            may_share = false;
        }
        self.shortest_kept = if may_share {
            0
        } else {
            let shortest = KEEP_LEN.max(bytes.len().div_ceil(KEEP_RATIO));
            u32::try_from(shortest).unwrap_or(u32::MAX)
        };
        self.plaintext = bytes;
    }

    /// Returns the message that has arrived in part.
    pub(super) fn partial(&mut self) -> Option<&mut Partial> {
        self.partial.as_deref_mut()
    }

    /// Drops the message that has arrived in part, since the stream has ended.
    pub(super) fn drop_partial(&mut self) {
        self.partial = None;
    }

    /// Returns the next message or control word, or `None` if another record is needed. A message that
    /// has arrived in part becomes one of `partials`, as one of the peer `identity`.
    pub(super) fn next(
        &mut self,
        partials: &PartialMessages,
        identity: Identity,
    ) -> Result<Option<Event>, FrameError> {
        if let Some(header) = self.slab.first_chunk::<HEADER_LEN>() {
            let len = u32::from_be_bytes(*header) as usize;
            self.slab.advance(HEADER_LEN);
            return Ok(Some(Event::Message(self.slab.split_to(len))));
        }
        if self.partial.is_some() {
            return self.continue_partial();
        }
        let Some(header) = self.plaintext.first_chunk::<HEADER_LEN>() else {
            // The rest would still hold the record's memory while it waits for the next.
            self.plaintext = Bytes::copy_from_slice(&self.plaintext);
            return Ok(None);
        };
        let header = u32::from_be_bytes(*header);
        if header >= FIRST_CONTROL {
            return self.control(header);
        }
        let len = usize::try_from(header).unwrap_or(usize::MAX);
        if header > self.max_message_len {
            return Err(FrameError::PeerMessageTooLong {
                len,
                max: self.max_message_len as usize,
            });
        }
        self.plaintext.advance(HEADER_LEN);
        if len <= self.plaintext.len() {
            return Ok(Some(Event::Message(if header >= self.shortest_kept {
                self.plaintext.split_to(len)
            } else {
                self.copy_out(len)
            })));
        }
        self.partial = Some(Box::new(Partial::begin(partials, identity, len)));
        self.continue_partial()
    }

    /// Returns a copy of the first `len` bytes of the plaintext, which must be there. The short
    /// messages behind it are copied with it, for the next calls: one copy and one allocation for as
    /// many as fit into a slab.
    fn copy_out(&mut self, len: usize) -> Bytes {
        let mut end = len;
        while let Some(header) = self.plaintext.get(end..).and_then(<[u8]>::first_chunk) {
            let next = u32::from_be_bytes(*header);
            let next_end = end.saturating_add(HEADER_LEN);
            let next_end = next_end.saturating_add(next as usize);
            if next_end > SLAB_LEN.min(self.plaintext.len()) || next > self.max_message_len {
                break;
            }
            end = next_end;
        }
        self.slab = Bytes::copy_from_slice(self.plaintext.get(..end).unwrap_or_default());
        self.plaintext.advance(end);
        self.slab.split_to(len)
    }

    fn continue_partial(&mut self) -> Result<Option<Event>, FrameError> {
        let Some(partial) = &mut self.partial else {
            return Ok(None);
        };
        let missing = partial.missing();
        let piece = self.plaintext.split_to(missing.min(self.plaintext.len()));
        partial.append(&piece)?;
        if piece.len() < missing {
            // The whole record has been copied: do not hold its memory while waiting for the next.
            self.plaintext = Bytes::new();
            return Ok(None);
        }
        let whole = self.partial.take().map(|partial| partial.finish());
        whole.transpose().map(|whole| whole.map(Event::Message))
    }

    fn control(&mut self, word: u32) -> Result<Option<Event>, FrameError> {
        let event = match word {
            GOODBYE => return Ok(self.goodbye()),
            PROBE => Event::Probe,
            ANSWER => Event::Answer,
            _ => {
                return Err(FrameError::Malformed {
                    what: "unknown control word",
                });
            }
        };
        self.plaintext.advance(HEADER_LEN);
        Ok(Some(event))
    }

    fn goodbye(&mut self) -> Option<Event> {
        let code = self.plaintext.get(HEADER_LEN..);
        let code = code.and_then(|code| code.first_chunk::<2>())?;
        let code = CloseCode(u16::from_be_bytes(*code));
        // Nothing is read after a goodbye.
        self.plaintext = Bytes::new();
        Some(Event::Goodbye(code))
    }
}
