//! One channel, as one end of the carrier knows it.
//!
//! Invariant: a channel has memory from its beginning until this side has decided to end it, and it then causes exactly one
//! [`Ended`](ChannelEvent::Ended).

use std::collections::VecDeque;

use bytes::Bytes;

use super::config::{ChannelConfig, MAX_COST};
use super::event::{ChannelCode, ChannelEnd, ChannelEvent};
use super::incoming::Incoming;
use super::number::ChannelNumber;
use super::outgoing::Outgoing;
use super::pool::Pool;
use super::stats::ChannelStats;
use super::turns::Place;

/// What all channels of a carrier share.
#[derive(Debug)]
pub(super) struct Common {
    /// The windows of all channels.
    pub(super) unread: Pool,
    /// The frames that wait to be sent.
    pub(super) unsent: Pool,
    pub(super) events: VecDeque<ChannelEvent>,
    /// The channels that may have a control message to send, each of them once.
    pub(super) control: VecDeque<ChannelNumber>,
    pub(super) stats: ChannelStats,
}

/// How far a channel is on its way to being open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// This side has asked for it, and the peer has not answered.
    Asked,
    /// The peer has asked for it, and this side has not answered.
    Requested,
    /// It was accepted, by either side.
    Open,
}

/// How far this side is with ending a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OurEnd {
    /// It does not end it.
    No,
    /// It ends it once all frames that wait have been sent.
    Finishing(ChannelCode),
    /// It has ended it, and the message has not been sent yet.
    Due(ChannelCode),
    /// The message has been sent.
    Sent,
}

/// One channel.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) phase: Phase,
    /// The request or answer that has not been sent yet.
    pub(super) text: Option<Bytes>,
    pub(super) our_end: OurEnd,
    /// What the user learns when it has taken all frames, if the peer or the carrier has ended the channel.
    pub(super) their_end: Option<ChannelEnd>,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) place: Place,
    /// Whether it is in [`Common::control`].
    in_control: bool,
}

impl Entry {
    /// Returns a channel with its memory, or `None` if that is not there.
    pub(super) fn new(phase: Phase, config: &ChannelConfig, common: &mut Common) -> Option<Self> {
        let window = initial_window(config);
        if !common.unread.take(window) {
            return None;
        }
        if !common.unsent.take(MAX_COST) {
            common.unread.give_back(window);
            return None;
        }
        Some(Self::without_memory(phase, OurEnd::No, config))
    }

    /// Returns a channel that is refused.
    pub(super) fn refused(code: ChannelCode, config: &ChannelConfig) -> Self {
        Self::without_memory(Phase::Requested, OurEnd::Due(code), config)
    }

    fn without_memory(phase: Phase, our_end: OurEnd, config: &ChannelConfig) -> Self {
        Self {
            phase,
            text: None,
            our_end,
            their_end: None,
            incoming: Incoming::new(initial_window(config)),
            outgoing: Outgoing::default(),
            place: Place::default(),
            in_control: false,
        }
    }

    /// Returns whether neither side has ended the channel, though this side may be about to.
    pub(super) fn is_live(&self) -> bool {
        self.their_end.is_none() && !self.has_ended_here()
    }

    /// Returns whether this side has decided to end the channel now.
    pub(super) fn has_ended_here(&self) -> bool {
        matches!(self.our_end, OurEnd::Due(_) | OurEnd::Sent)
    }

    /// Returns whether the user may send on the channel.
    pub(super) fn may_send(&self) -> bool {
        self.phase == Phase::Open && self.our_end == OurEnd::No && self.their_end.is_none()
    }

    /// Returns whether this side has accepted the channel, and the peer cannot know that yet.
    pub(super) fn is_unsent_answer(&self) -> bool {
        self.phase == Phase::Open && self.text.is_some()
    }

    /// Returns whether a frame waits that may be written now.
    pub(super) fn can_write_frame(&self) -> bool {
        // The answer goes first.
        self.text.is_none() && self.outgoing.sendable().is_some()
    }

    /// Returns whether both sides have sent their end, so that nothing more is sent for the channel.
    pub(super) fn is_over(&self) -> bool {
        self.our_end == OurEnd::Sent && self.their_end.is_some()
    }

    /// Has the channel looked at when control messages are sent.
    pub(super) fn mark(&mut self, number: ChannelNumber, common: &mut Common) {
        if !std::mem::replace(&mut self.in_control, true) {
            common.control.push_back(number);
        }
    }

    /// Notes that the channel has been taken off [`Common::control`].
    pub(super) fn unmark(&mut self) {
        self.in_control = false;
    }

    /// Ends the channel from this side, unless it has. Drops what waits in either direction.
    pub(super) fn end(
        &mut self,
        number: ChannelNumber,
        code: ChannelCode,
        end: ChannelEnd,
        common: &mut Common,
    ) {
        if self.has_ended_here() {
            return;
        }
        self.our_end = OurEnd::Due(code);
        // A peer that has broken a rule may have done so several times before it learns of the end.
        let credit = match end {
            ChannelEnd::Breach(_) => Some(MAX_COST.saturating_mul(2)),
            _ => None,
        };
        let unread = self.incoming.end(credit, &mut common.unread) as u64;
        common.stats.unread_now = common.stats.unread_now.saturating_sub(unread);
        common.stats.unread_dropped += unread;
        self.drop_unsent(common);
        common.unsent.give_back(MAX_COST);
        common.events.push_back(ChannelEvent::Ended { number, end });
        self.mark(number, common);
    }

    /// Ends the channel because the peer has broken a rule of it.
    pub(super) fn breach(&mut self, number: ChannelNumber, code: ChannelCode, common: &mut Common) {
        self.end(number, code, ChannelEnd::Breach(code), common);
    }

    /// Stops sending frames, because the other side has ended.
    pub(super) fn drop_unsent(&mut self, common: &mut Common) {
        let unsent = self.outgoing.clear(&mut common.unsent) as u64;
        common.stats.unsent_now = common.stats.unsent_now.saturating_sub(unsent);
        common.stats.unsent_dropped += unsent;
    }
}

/// Returns the credit that the peer has on a new channel.
pub(super) fn initial_window(config: &ChannelConfig) -> u32 {
    u32::try_from(config.initial_window).unwrap_or(u32::MAX)
}
