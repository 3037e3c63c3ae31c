//! Which record or frame is written next.
//!
//! Invariants: channel 0 never waits for more than one frame of the others, and they never wait for more than one record of
//! channel 0; control messages come before both, but never twice in a row while others wait; a frame never overtakes the message that
//! opens its channel.

use bytes::{Bytes, BytesMut};

use super::channels::{Channels, max_unsent};
use super::config::ChannelConfig;
use super::entry::{Common, Entry, OurEnd, Phase, initial_window};
use super::event::{ChannelEnd, ChannelEvent, Turn};
use super::number::ChannelNumber;
use super::wire::{Control, Kind};

/// The length of a record with control messages at which no further channel is looked at, in bytes. A few hundred channels fit, and
/// the record delays nothing for longer than a frame would.
const FULL_RECORD: usize = 4 << 10;

impl Channels {
    /// Returns what is written next, or `None` if there is nothing. `zero_waits` tells whether channel 0 has messages to send.
    ///
    /// What is returned counts as sent.
    pub fn next_turn(&mut self, zero_waits: bool) -> Option<Turn> {
        let turn = self.choose(zero_waits)?;
        self.last_turn.was_control = matches!(turn, Turn::Control(_));
        match turn {
            Turn::Zero => self.last_turn.zero_had_turn = true,
            Turn::Frame { .. } => self.last_turn.zero_had_turn = false,
            Turn::Control(_) => {}
        }
        Some(turn)
    }

    fn choose(&mut self, zero_waits: bool) -> Option<Turn> {
        if !self.last_turn.was_control
            && let Some(control) = self.next_control()
        {
            return Some(control);
        }
        if zero_waits && !self.last_turn.zero_had_turn {
            return Some(Turn::Zero);
        }
        if let Some(frame) = self.next_frame() {
            return Some(frame);
        }
        if zero_waits {
            return Some(Turn::Zero);
        }
        self.next_control()
    }

    fn next_control(&mut self) -> Option<Turn> {
        let mut messages = BytesMut::new();
        while messages.len() < FULL_RECORD
            && let Some(number) = self.common.control.pop_front()
        {
            let Some(entry) = self.entries.get_mut(&number) else {
                continue;
            };
            entry.unmark();
            entry.write_control(number, &self.config, &mut self.common, &mut messages);
            if entry.can_write_frame() {
                self.turns.enter(number, &mut entry.place);
            }
            self.settle(number);
        }
        (!messages.is_empty()).then(|| Turn::Control(messages.freeze()))
    }

    fn next_frame(&mut self) -> Option<Turn> {
        let common = &mut self.common;
        loop {
            let number = self.turns.first()?;
            let entry = self.entries.get_mut(&number)?;
            if !entry.can_write_frame() {
                self.turns.leave(&mut entry.place);
                continue;
            }
            let cost = entry.outgoing.sendable().unwrap_or_default();
            if !self.turns.may_send(&mut entry.place, cost) {
                continue;
            }
            let Some(frame) = entry.outgoing.pop(&mut common.unsent) else {
                continue;
            };
            common.stats.unsent_now = common.stats.unsent_now.saturating_sub(1);
            common.stats.frames_sent += 1;
            entry.has_sent(number, &self.config, common);
            return Some(Turn::Frame { number, frame });
        }
    }
}

impl Entry {
    /// Does what follows when a frame has been handed to the carrier.
    fn has_sent(&mut self, number: ChannelNumber, config: &ChannelConfig, common: &mut Common) {
        match self.our_end {
            OurEnd::Finishing(code) if self.outgoing.is_empty() => {
                self.end(number, code, ChannelEnd::Local(code), common);
            }
            OurEnd::No if self.outgoing.take_has_room(max_unsent(config)) => {
                common.events.push_back(ChannelEvent::Writable { number });
            }
            _ => {}
        }
        if self.outgoing.must_tell() {
            self.mark(number, common);
        }
    }

    /// Appends the control messages that are due for this channel, in the order in which the peer expects them.
    fn write_control(
        &mut self,
        number: ChannelNumber,
        config: &ChannelConfig,
        common: &mut Common,
        to: &mut BytesMut,
    ) {
        let mut write = |kind| Control { number, kind }.encode(to);
        if let Some(text) = self.text.take() {
            let credit = initial_window(config);
            write(match self.phase {
                Phase::Asked => opening(credit, text),
                _ => opened(credit, text),
            });
        }
        if let OurEnd::Due(code) = self.our_end {
            if self.phase == Phase::Requested {
                common.stats.refused += 1;
                write(Kind::Refuse(code));
            } else {
                write(Kind::Close(code));
            }
            self.our_end = OurEnd::Sent;
        }
        if self.phase != Phase::Open || !self.is_live() {
            return;
        }
        if self.incoming.is_grant_due() {
            let max_window = u32::try_from(config.max_window).unwrap_or(u32::MAX);
            let amount = self.incoming.grant(max_window, &mut common.unread);
            write(Kind::Credit(amount));
        }
        if self.outgoing.must_tell() {
            self.outgoing.told();
            write(Kind::Blocked);
        }
    }
}

fn opening(credit: u32, request: Bytes) -> Kind {
    Kind::Open { credit, request }
}

fn opened(credit: u32, answer: Bytes) -> Kind {
    Kind::Opened { credit, answer }
}
