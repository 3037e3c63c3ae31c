//! One end of a carrier: what its user calls.
//!
//! What the peer sends is handled in `receiving`, and what is written in `sending`. Invariant: the memory of the control messages
//! that wait to be sent is part of their channels, so it is bounded as those are.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use bytes::Bytes;

use super::config::{ChannelConfig, MAX_FRAME_LEN};
use super::entry::{Common, Entry, OurEnd, Phase};
use super::error::{OpenError, SendError};
use super::event::{ChannelCode, ChannelEnd, ChannelEvent};
use super::number::{ChannelNumber, Numbers, Side};
use super::pool::Pool;
use super::stats::ChannelStats;
use super::turns::{LastTurn, Turns};
use super::wire::MAX_TEXT_LEN;

/// The channels of one end of a carrier.
///
/// See the [module](super) for the rules, and for how it is driven.
pub struct Channels {
    pub(super) side: Side,
    pub(super) config: ChannelConfig,
    /// The most channels that the peer allows this side to have open.
    max_ours: usize,
    pub(super) our_numbers: Numbers,
    pub(super) their_numbers: Numbers,
    /// The channels that this side has asked for and that are not over.
    pub(super) ours: usize,
    /// The channels that the peer has asked for and that are not over.
    pub(super) theirs: usize,
    pub(super) entries: BTreeMap<ChannelNumber, Entry>,
    pub(super) common: Common,
    pub(super) turns: Turns,
    pub(super) last_turn: LastTurn,
    pub(super) has_ended: bool,
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels")
            .field("side", &self.side)
            .field("ours", &self.ours)
            .field("theirs", &self.theirs)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}

impl Channels {
    /// Returns the end of a new carrier on `side`. `max_ours` is the
    /// [limit](ChannelConfig::max_channels) that the peer has stated. `config` must be valid.
    pub fn new(side: Side, config: ChannelConfig, max_ours: usize) -> Self {
        Self {
            side,
            max_ours,
            our_numbers: Numbers::of(side),
            their_numbers: Numbers::of(side.other()),
            ours: 0,
            theirs: 0,
            entries: BTreeMap::new(),
            common: Common {
                unread: Pool::new(config.max_unread_bytes),
                unsent: Pool::new(config.max_unsent_bytes),
                events: VecDeque::new(),
                control: VecDeque::new(),
                stats: ChannelStats::default(),
            },
            turns: Turns::default(),
            last_turn: LastTurn::default(),
            has_ended: false,
            config,
        }
    }

    /// Asks the peer for a channel. [`Opened`](ChannelEvent::Opened) or [`Ended`](ChannelEvent::Ended) follows.
    ///
    /// # Errors
    ///
    /// Fails if no number, place or memory is left, if `request` is longer than 512 bytes, or if the carrier has ended.
    pub fn open(&mut self, request: Bytes) -> Result<ChannelNumber, OpenError> {
        if self.has_ended {
            return Err(OpenError::CarrierEnded);
        }
        let (len, max) = (request.len(), MAX_TEXT_LEN);
        if len > max {
            return Err(OpenError::TooLong { len, max });
        }
        let number = self.our_numbers.next().ok_or(OpenError::Exhausted)?;
        if self.ours >= self.max_ours {
            return Err(OpenError::TooMany { max: self.max_ours });
        }
        let entry = Entry::new(Phase::Asked, &self.config, &mut self.common);
        let mut entry = entry.ok_or(OpenError::NoRoom)?;
        entry.text = Some(request);
        entry.mark(number, &mut self.common);
        self.entries.insert(number, entry);
        self.our_numbers.advance();
        self.ours = self.ours.saturating_add(1);
        self.common.stats.opened += 1;
        Ok(number)
    }

    /// Opens the channel that the peer has asked for.
    ///
    /// # Errors
    ///
    /// Fails if `answer` is longer than 512 bytes, or if the channel does not wait for an answer: it was answered, or the peer
    /// has ended it.
    pub fn accept(&mut self, number: ChannelNumber, answer: Bytes) -> Result<(), SendError> {
        let (len, max) = (answer.len(), MAX_TEXT_LEN);
        if len > max {
            return Err(SendError::TooLong { len, max });
        }
        let entry = self.entries.get_mut(&number);
        let entry = entry.filter(|entry| entry.phase == Phase::Requested && entry.is_live());
        let entry = entry.ok_or(SendError::NotOpen { number })?;
        entry.phase = Phase::Open;
        entry.text = Some(answer);
        entry.mark(number, &mut self.common);
        Ok(())
    }

    /// Refuses the channel that the peer has asked for. Does nothing unless it waits for an answer.
    pub fn refuse(&mut self, number: ChannelNumber, code: ChannelCode) {
        let entry = self.entries.get(&number);
        if entry.is_some_and(|entry| entry.phase == Phase::Requested) {
            self.abort(number, code);
        }
    }

    /// Queues a frame. The empty frame is a frame as well.
    ///
    /// # Errors
    ///
    /// Fails if too many frames wait, if the frame is longer than [`MAX_FRAME_LEN`], or if the channel is not open.
    pub fn send(&mut self, number: ChannelNumber, frame: Bytes) -> Result<(), SendError> {
        let (len, max) = (frame.len(), MAX_FRAME_LEN);
        if len > max {
            return Err(SendError::TooLong { len, max });
        }
        let entry = self
            .entries
            .get_mut(&number)
            .filter(|entry| entry.may_send());
        let entry = entry.ok_or(SendError::NotOpen { number })?;
        let (max, common) = (max_unsent(&self.config), &mut self.common);
        let pushed = entry.outgoing.push(frame, max, &mut common.unsent);
        pushed.map_err(|frame| {
            common.stats.send_full += 1;
            SendError::Full(frame)
        })?;
        common.stats.frames_queued += 1;
        common.stats.unsent_now += 1;
        if entry.can_write_frame() {
            self.turns.enter(number, &mut entry.place);
        } else if entry.outgoing.must_tell() {
            entry.mark(number, common);
        }
        Ok(())
    }

    /// Returns whether [`send`](Self::send) would take a frame of this length. A relay asks before it takes the frame from the
    /// channel on the other side.
    pub fn can_send(&self, number: ChannelNumber, len: usize) -> bool {
        let entry = self.entries.get(&number);
        let entry = entry.filter(|entry| len <= MAX_FRAME_LEN && entry.may_send());
        entry.is_some_and(|entry| {
            let (max, pool) = (max_unsent(&self.config), &self.common.unsent);
            entry.outgoing.has_room(len, max, pool)
        })
    }

    /// Returns the length of the next frame that [`receive`](Self::receive) would return.
    pub fn next_len(&self, number: ChannelNumber) -> Option<usize> {
        self.entries.get(&number)?.incoming.next_len()
    }

    /// Takes the next frame that has arrived on the channel.
    pub fn receive(&mut self, number: ChannelNumber) -> Option<Bytes> {
        let common = &mut self.common;
        let entry = self.entries.get_mut(&number)?;
        let frame = entry.incoming.take()?;
        common.stats.frames_taken += 1;
        common.stats.unread_now = common.stats.unread_now.saturating_sub(1);
        match entry.their_end {
            Some(end) if entry.incoming.is_empty() => {
                entry.end(number, ChannelCode::NORMAL, end, common);
                self.forget_after_end(number);
            }
            None if entry.incoming.is_grant_due() => entry.mark(number, common),
            _ => {}
        }
        Some(frame)
    }

    /// Ends the channel once all frames that wait have been sent. Frames that have arrived, or arrive from now on, are
    /// dropped. That takes as long as the peer gives no credit, so the caller limits the time and calls
    /// [`abort`](Self::abort). Does nothing if the channel has ended.
    pub fn finish(&mut self, number: ChannelNumber, code: ChannelCode) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        if !entry.may_send() || entry.outgoing.is_empty() {
            self.abort(number, code);
            return;
        }
        entry.our_end = OurEnd::Finishing(code);
        let unread = entry.incoming.drop_frames() as u64;
        self.common.stats.unread_now = self.common.stats.unread_now.saturating_sub(unread);
        self.common.stats.unread_dropped += unread;
        if entry.incoming.is_grant_due() {
            entry.mark(number, &mut self.common);
        }
    }

    /// Ends the channel now, and drops the frames that wait in either direction. Does nothing if the channel has ended.
    pub fn abort(&mut self, number: ChannelNumber, code: ChannelCode) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        // The peer may have ended it first, and the user has not taken everything.
        let end = entry.their_end.unwrap_or(ChannelEnd::Local(code));
        entry.end(number, code, end, &mut self.common);
        self.forget_after_end(number);
    }

    /// Removes a channel that has ended, if nothing more is sent because the carrier has.
    fn forget_after_end(&mut self, number: ChannelNumber) {
        if self.has_ended {
            self.entries.remove(&number);
            self.common.control.clear();
        }
    }

    /// Ends all channels, because the carrier has ended. Frames that have arrived can still be taken.
    pub fn end(&mut self) {
        self.end_with(ChannelEnd::CarrierEnded);
    }

    /// Ends all channels. After a violation, frames that have arrived are dropped.
    pub(super) fn end_with(&mut self, end: ChannelEnd) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let common = &mut self.common;
        let keeps_unread = end == ChannelEnd::CarrierEnded;
        self.entries.retain(|number, entry| {
            let end = *entry.their_end.get_or_insert(end);
            if keeps_unread && !entry.has_ended_here() && !entry.incoming.is_empty() {
                entry.drop_unsent(common);
                return true;
            }
            entry.end(*number, ChannelCode::NORMAL, end, common);
            false
        });
        common.control.clear();
        self.turns.clear();
    }

    /// Returns the next event. The driver takes all of them after each call of another method.
    pub fn next_event(&mut self) -> Option<ChannelEvent> {
        self.common.events.pop_front()
    }

    /// Returns the counters.
    pub fn stats(&self) -> ChannelStats {
        self.common.stats
    }

    /// Returns the number of channels that are not over, those that either side has asked for.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no channel that is not over.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes the channel if both sides have sent their end.
    pub(super) fn settle(&mut self, number: ChannelNumber) {
        if self.entries.get(&number).is_some_and(Entry::is_over) {
            if let Some(entry) = self.entries.remove(&number) {
                self.turns.remove(number, &entry.place);
            }
            let open = if self.side.opens(number) {
                &mut self.ours
            } else {
                &mut self.theirs
            };
            *open = open.saturating_sub(1);
        }
    }
}

/// Returns the most that the frames of a channel which wait to be sent may cost.
pub(super) fn max_unsent(config: &ChannelConfig) -> u32 {
    u32::try_from(config.max_unsent_per_channel).unwrap_or(u32::MAX)
}
