//! What the peer's control messages and frames change.
//!
//! Invariant: whatever the peer sends, each frame and message costs a bounded amount of work and is kept only within the
//! limits; a violation ends all channels.

use bytes::Bytes;

use super::channels::Channels;
use super::config::{MAX_CREDIT, MAX_FRAME_LEN};
use super::entry::{Entry, OurEnd, Phase};
use super::error::Violation;
use super::event::{ChannelCode, ChannelEnd, ChannelEvent};
use super::number::ChannelNumber;
use super::wire::{Control, Kind};

impl Channels {
    /// Handles the plaintext of a record of control messages. Does nothing once the carrier has ended.
    ///
    /// # Errors
    ///
    /// Fails if the peer has broken a rule. All channels have ended then, and the caller closes the carrier.
    pub fn on_control(&mut self, mut messages: &[u8]) -> Result<(), Violation> {
        while !messages.is_empty() && !self.has_ended {
            let handled = Control::decode(&mut messages).and_then(|control| self.handle(control));
            handled.map_err(|violation| self.violated(violation))?;
        }
        Ok(())
    }

    /// Handles a frame of a channel. `number` is the one that the frame carries. Does nothing once the carrier has ended.
    ///
    /// A frame that shares memory with others keeps all of that memory while it waits, so the caller copies short ones.
    ///
    /// # Errors
    ///
    /// Fails if the peer has broken a rule of the carrier. All channels have ended then, and the caller closes the carrier.
    pub fn on_frame(&mut self, number: u32, frame: Bytes) -> Result<(), Violation> {
        if self.has_ended {
            return Ok(());
        }
        self.common.stats.frames_received += 1;
        let arrived = self.arrive(ChannelNumber(number), frame);
        arrived.map_err(|violation| {
            self.common.stats.breach_dropped += 1;
            self.violated(violation)
        })
    }

    fn violated(&mut self, violation: Violation) -> Violation {
        self.common.stats.violations += 1;
        self.end_with(ChannelEnd::Violation(violation));
        violation
    }

    fn arrive(&mut self, number: ChannelNumber, frame: Bytes) -> Result<(), Violation> {
        let (len, max) = (frame.len(), MAX_FRAME_LEN);
        if len > max {
            return Err(Violation::FrameTooLong { len, max });
        }
        let entry = self.entries.get_mut(&number);
        let Some(entry) = entry.filter(|entry| entry.their_end.is_none()) else {
            return Err(self.unknown(number));
        };
        let common = &mut self.common;
        if entry.has_ended_here() {
            let spent = entry.incoming.spend(&frame);
            spent.map_err(|_| Violation::LateOverrun { number })?;
            common.stats.late_dropped += 1;
            return Ok(());
        }
        if entry.phase != Phase::Open || entry.is_unsent_answer() {
            common.stats.early += 1;
            common.stats.breach_dropped += 1;
            entry.breach(number, ChannelCode::EARLY, common);
            return Ok(());
        }
        let was_empty = entry.incoming.is_empty();
        if entry.incoming.push(frame).is_err() {
            common.stats.overruns += 1;
            common.stats.breach_dropped += 1;
            entry.breach(number, ChannelCode::OVERRUN, common);
            return Ok(());
        }
        if entry.our_end != OurEnd::No {
            // It is finishing. The peer gets credit as if the frame was taken: it may be finishing as well.
            entry.incoming.drop_frames();
            common.stats.late_dropped += 1;
            if entry.incoming.is_grant_due() {
                entry.mark(number, common);
            }
            return Ok(());
        }
        common.stats.unread_now += 1;
        if was_empty {
            common.events.push_back(ChannelEvent::Readable { number });
        }
        Ok(())
    }

    fn handle(&mut self, control: Control) -> Result<(), Violation> {
        let number = control.number;
        if let Kind::Open { credit, request } = control.kind {
            return self.requested(number, credit, request);
        }
        let entry = self.entries.get_mut(&number);
        let Some(entry) = entry.filter(|entry| entry.their_end.is_none()) else {
            return Err(self.unknown(number));
        };
        let common = &mut self.common;
        let answers = matches!(control.kind, Kind::Opened { .. } | Kind::Refuse(_));
        // The peer that has asked for a channel says nothing before its end, until it has the answer.
        let fits = match entry.phase {
            Phase::Asked => answers && entry.text.is_none(),
            Phase::Requested => matches!(control.kind, Kind::Close(_)),
            Phase::Open if entry.is_unsent_answer() => matches!(control.kind, Kind::Close(_)),
            Phase::Open => !answers,
        };
        if !fits {
            return Err(Violation::Unexpected { number });
        }
        match control.kind {
            Kind::Open { .. } => {}
            Kind::Opened { credit, answer } => {
                if !entry.outgoing.add_credit(credit) {
                    let amount = credit;
                    return Err(Violation::Credit { number, amount });
                }
                entry.phase = Phase::Open;
                if !entry.has_ended_here() {
                    let opened = ChannelEvent::Opened { number, answer };
                    common.events.push_back(opened);
                }
            }
            Kind::Credit(amount) => {
                if amount == 0 || !entry.outgoing.add_credit(amount) {
                    return Err(Violation::Credit { number, amount });
                }
                if entry.can_write_frame() {
                    self.turns.enter(number, &mut entry.place);
                } else if entry.outgoing.must_tell() {
                    entry.mark(number, common);
                }
            }
            Kind::Blocked => entry.incoming.want_larger(),
            Kind::Refuse(code) => {
                common.stats.refused_by_peer += 1;
                let end = ChannelEnd::Refused(code);
                entry.their_end = Some(end);
                entry.end(number, ChannelCode::NORMAL, end, common);
                self.settle(number);
            }
            Kind::Close(code) => {
                let end = ChannelEnd::Remote(code);
                entry.their_end = Some(end);
                if entry.incoming.is_empty() {
                    entry.end(number, ChannelCode::NORMAL, end, common);
                } else {
                    // The user takes what has arrived first.
                    entry.drop_unsent(common);
                }
                self.settle(number);
            }
        }
        Ok(())
    }

    fn requested(
        &mut self,
        number: ChannelNumber,
        credit: u32,
        request: Bytes,
    ) -> Result<(), Violation> {
        if self.their_numbers.next() != Some(number) {
            return Err(Violation::OutOfOrder { number });
        }
        let max = self.config.max_channels;
        if self.theirs >= max {
            return Err(Violation::TooMany { max });
        }
        if credit > MAX_CREDIT {
            let amount = credit;
            return Err(Violation::Credit { number, amount });
        }
        self.their_numbers.advance();
        self.theirs = self.theirs.saturating_add(1);
        let common = &mut self.common;
        common.stats.requested += 1;
        let entry = match Entry::new(Phase::Requested, &self.config, common) {
            Some(mut entry) => {
                entry.outgoing.add_credit(credit);
                let requested = ChannelEvent::Requested { number, request };
                common.events.push_back(requested);
                entry
            }
            None => {
                common.stats.refused_no_room += 1;
                let mut entry = Entry::refused(ChannelCode::NO_ROOM, &self.config);
                entry.mark(number, common);
                entry
            }
        };
        self.entries.insert(number, entry);
        Ok(())
    }

    /// Returns the violation of a frame or message for a channel that is not there, or that the peer has ended.
    fn unknown(&self, number: ChannelNumber) -> Violation {
        let numbers = if self.side.opens(number) {
            &self.our_numbers
        } else {
            &self.their_numbers
        };
        if number.0 != 0 && numbers.has_used(number) {
            Violation::AfterEnd { number }
        } else {
            Violation::NeverOpened { number }
        }
    }
}
