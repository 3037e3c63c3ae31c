//! Frames that the stream has not taken yet.
//!
//! The writer and the reader share them: the reader answers pings and closes. Invariant: few pongs are
//! queued, however many pings arrive, and nothing follows a close frame.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;

use super::header::{Opcode, SentHeader};
use crate::tcp::stream::Outlet;

/// The most pongs that wait. A peer that pings faster than it reads gets the last ones, which RFC 6455
/// allows (section 5.5.3).
const MAX_PONGS: usize = 16;
/// The most pieces of memory that one write takes.
const MAX_SLICES: usize = 64;

/// Queued frames, in the order in which they are sent.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Frame>,
    /// Bytes of the first frame that have been written.
    written: usize,
    /// Bytes of all queued frames that have not been written.
    len: usize,
    /// Whether a close frame has been queued.
    is_closing: bool,
    /// Whether the reader has queued something that it must write.
    is_owed: bool,
}

#[derive(Debug)]
struct Frame {
    header: SentHeader,
    payload: Bytes,
}

impl Frame {
    fn new(opcode: Opcode, payload: Bytes) -> Self {
        let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        Self {
            header: SentHeader::new(opcode, len),
            payload,
        }
    }

    fn len(&self) -> usize {
        self.header.bytes().len() + self.payload.len()
    }
}

impl Outgoing {
    /// Returns the number of bytes that have not been written.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns whether a close frame has been queued, after which nothing may be sent.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Returns whether the reader must write.
    pub(super) fn is_owed(&self) -> bool {
        self.is_owed
    }

    /// Queues a message of at most 65,535 bytes, or a ping.
    pub(super) fn push(&mut self, opcode: Opcode, payload: Bytes) {
        if !self.is_closing {
            let place = self.queue.len();
            self.insert(place, Frame::new(opcode, payload));
        }
    }

    /// Queues the answer to a ping, before all frames that have not been begun. If too many answers wait
    /// there, the oldest is dropped.
    pub(super) fn answer(&mut self, ping: Bytes) {
        if self.is_closing {
            return;
        }
        let first = self.first_unbegun();
        let unbegun = self.queue.iter().skip(first);
        let mut waiting = unbegun.take_while(|frame| frame.header.is_pong()).count();
        if waiting >= MAX_PONGS
            && let Some(oldest) = self.queue.remove(first)
        {
            self.len -= oldest.len();
            waiting -= 1;
        }
        self.insert(first + waiting, Frame::new(Opcode::Pong, ping));
        self.is_owed = true;
    }

    /// Queues a close frame, in place of all frames that have not been begun.
    pub(super) fn close(&mut self, code: Option<u16>) {
        if self.is_closing {
            return;
        }
        self.queue.truncate(self.first_unbegun());
        self.len = self.queue.iter().map(Frame::len).sum::<usize>() - self.written;
        let payload = code.map_or(Bytes::new(), |code| {
            Bytes::copy_from_slice(&code.to_be_bytes())
        });
        let place = self.queue.len();
        self.insert(place, Frame::new(Opcode::Close, payload));
        self.is_closing = true;
        self.is_owed = true;
    }

    /// Writes until the stream takes no more. Returns whether everything has been written.
    pub(super) fn write(&mut self, outlet: Outlet<'_>) -> io::Result<bool> {
        while self.len > 0 {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.slices(&mut slices);
            match outlet.try_write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if !outlet.try_flush()? {
            return Ok(false);
        }
        self.is_owed = false;
        Ok(true)
    }

    fn first_unbegun(&self) -> usize {
        usize::from(self.written > 0)
    }

    fn insert(&mut self, place: usize, frame: Frame) {
        self.len += frame.len();
        self.queue.insert(place, frame);
    }

    /// Fills `slices` with what is to be written next. Returns their number.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.written;
        let pieces = self
            .queue
            .iter()
            .flat_map(|frame| [frame.header.bytes(), &frame.payload[..]])
            .filter_map(|piece| {
                let skipped = skip.min(piece.len());
                skip -= skipped;
                piece.get(skipped..).filter(|rest| !rest.is_empty())
            });
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    fn advance(&mut self, written: usize) {
        self.len -= written;
        self.written += written;
        while let Some(len) = self.queue.front().map(Frame::len) {
            if self.written < len {
                return;
            }
            self.written -= len;
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes up to `len` bytes out of the queue, as a stream would.
    fn take(out: &mut Outgoing, len: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = out.slices(&mut slices);
        let slices = slices[..count].iter();
        let mut bytes: Vec<u8> = slices.flat_map(|slice| slice.iter().copied()).collect();
        bytes.truncate(len);
        out.advance(bytes.len());
        bytes
    }

    #[test]
    fn frames_are_written_in_order_in_pieces_of_any_size() {
        let frames: [&[u8]; 4] = [b"one", b"", &[7; 125], &[8; 300]];
        let expected = [
            &b"\x82\x03one\x82\x00\x82\x7d"[..],
            &[7; 125],
            b"\x82\x7e\x01\x2c",
            &[8; 300],
        ]
        .concat();
        for step in [1, 2, 3, 7, 128, 1000] {
            let mut out = Outgoing::default();
            for frame in frames {
                out.push(Opcode::Binary, Bytes::copy_from_slice(frame));
            }
            let mut written = Vec::new();
            while out.len() > 0 {
                assert_eq!(out.len(), expected.len() - written.len());
                written.extend(take(&mut out, step));
            }
            assert_eq!(written, expected);
            assert!(out.queue.is_empty() && out.written == 0);
        }
    }

    #[test]
    fn the_latest_pings_are_answered_in_order_and_before_other_frames() {
        let mut out = Outgoing::default();
        out.push(Opcode::Binary, "begun".into());
        out.push(Opcode::Binary, "later".into());
        assert_eq!(take(&mut out, 3), b"\x82\x05b");
        for n in 0..1000 {
            out.answer(format!("{n:03}").into());
            assert!(out.queue.len() <= 2 + MAX_PONGS, "{n}");
        }
        assert_eq!(take(&mut out, 7), b"egun\x8a\x039");
        // The oldest answer has been begun, and stays.
        for n in 0..=MAX_PONGS {
            out.answer(n.to_string().into());
        }
        let answers = (1..=MAX_PONGS).map(|n| n.to_string());
        let answers: String = answers
            .map(|n| format!("\u{8a}{}{n}", char::from(n.len() as u8)))
            .collect();
        let expected = format!("84{answers}\u{82}\u{5}later");
        let expected: Vec<u8> = expected.chars().map(|c| c as u8).collect();
        assert_eq!(take(&mut out, 1000), expected);
        assert_eq!((out.len(), out.queue.len()), (0, 0));
    }

    #[test]
    fn a_close_frame_takes_the_place_of_what_has_not_been_begun() {
        let mut out = Outgoing::default();
        out.push(Opcode::Binary, "begun".into());
        out.push(Opcode::Binary, "later".into());
        assert_eq!(take(&mut out, 3), b"\x82\x05b");
        out.close(Some(1002));
        out.close(Some(1000));
        out.push(Opcode::Binary, "late".into());
        out.answer("late".into());
        assert_eq!(out.len(), 4 + 4);
        assert_eq!(take(&mut out, 100), b"egun\x88\x02\x03\xea");
    }
}
