//! Counters of the channels of a carrier.
//!
//! Values only. Invariants, in every snapshot: `frames_queued` is the sum of `frames_sent`, `unsent_dropped` and
//! `unsent_now`; `frames_received` is the sum of `frames_taken`, `unread_dropped`, `late_dropped`, `breach_dropped` and
//! `unread_now`.

/// Counters of the channels of one end of a carrier, since it began. Those that end with `_now` can fall.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Channels that this side has asked for.
    pub opened: u64,
    /// Channels that the peer has asked for.
    pub requested: u64,
    /// Channels that the peer has asked for and this side has refused, for lack of room included.
    pub refused: u64,
    /// Channels that the peer has asked for and this side has refused for lack of room.
    pub refused_no_room: u64,
    /// Channels that this side has asked for and the peer has refused.
    pub refused_by_peer: u64,
    /// Channels that this side has ended because a frame cost more than the credit that was left.
    pub overruns: u64,
    /// Channels that this side has ended because a frame came before they were open.
    pub early: u64,
    /// Calls that found no room for a frame.
    pub send_full: u64,
    /// Frames that were accepted for sending.
    pub frames_queued: u64,
    /// Frames that were handed to the carrier.
    pub frames_sent: u64,
    /// Frames that were accepted for sending and dropped, since their channel has ended.
    pub unsent_dropped: u64,
    /// Frames that wait to be sent.
    pub unsent_now: u64,
    /// Frames that have arrived.
    pub frames_received: u64,
    /// Frames that the user has taken.
    pub frames_taken: u64,
    /// Frames that have arrived and were dropped before they were taken, since their channel has ended.
    pub unread_dropped: u64,
    /// Frames that were dropped because they arrived after this side had ended their channel.
    pub late_dropped: u64,
    /// Frames that were dropped because they have broken a rule.
    pub breach_dropped: u64,
    /// Frames that wait to be taken.
    pub unread_now: u64,
    /// Violations that have ended the carrier: 0 or 1.
    pub violations: u64,
}
