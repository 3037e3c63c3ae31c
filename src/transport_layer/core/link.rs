//! One connection of a peer.

use std::net::SocketAddr;
use std::time::Duration;

use super::census::Owner;
use super::doubt::{self, Doubt};
use super::silence::{SilenceCheck, SilenceVerdict};
use super::trusted::Trusted;
use crate::credential::{Grounds, InviteId};
use crate::host::Host;
use crate::net::{CloseCode, NetConnection, canonical};
use crate::rt::Instant;
use crate::transport_layer::config::TransportLayerConfig;
use crate::transport_layer::stats::{ConnectionInfo, Direction};

/// A live connection and when it was used.
pub(super) struct Link<C> {
    pub(super) id: u64,
    pub(super) conn: C,
    pub(super) owner: Owner,
    pub(super) host: Host,
    pub(super) direction: Direction,
    pub(super) since: Instant,
    /// The time in microseconds from when the network had made the connection until it came into service.
    delay: u32,
    /// When the last message was sent or received.
    pub(super) used: Instant,
    /// When the last message or keepalive was written.
    pub(super) written: Instant,
    /// Whether a message has been received.
    pub(super) heard: bool,
    /// Whether the connection holds bytes that the network has not taken yet.
    pub(super) unflushed: bool,
    pub(super) role: LinkRole,
    /// An older connection that was in service when this one came, or a dial that may result in one.
    /// Messages that the peer had written to it come before those of this one.
    pub(super) after: Option<u64>,
    reading: Reading,
    /// Whether the reader has found nothing more to read while the connection was quiet.
    pub(super) is_read_empty: bool,
    silence: SilenceCheck,
    /// Whether the connection has to be probed.
    pub(super) doubt: Doubt,
    pub(super) trusted: Trusted,
}

/// What a connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkRole {
    /// It is read and written.
    Active,
    /// Another connection has taken its place since this time. It is read until it is closed.
    Draining(Instant),
    /// It waits until an older connection has been probed. It is neither read nor written.
    Waiting,
    /// It was dialled to take the place of an older one that was made with another secret, and does so as soon as
    /// the peer has said goodbye there. It is read, hands in nothing, and is not written.
    Standby,
    /// This side has said goodbye on it at this time, with this code. It is read until the peer has, too.
    Leaving(Instant, CloseCode),
}

/// How a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport_layer) enum LinkEnd {
    /// This side closes it.
    Local(CloseCode),
    /// The peer has closed it in order.
    Remote(CloseCode),
    /// It has failed.
    Lost,
}

impl LinkEnd {
    /// Returns whether the end counts against a peer that was dialled. Without this, a peer that accepts
    /// and hangs up, or whose network takes nothing, would be dialled in a tight loop.
    pub(super) fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Remote(_) | Self::Lost | Self::Local(CloseCode::PROTOCOL)
        )
    }
}

/// A connection whose place another one has taken is read for this long, so that messages that are on
/// their way still arrive.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A peer that does not answer a goodbye within this time is gone. If a secret was removed, the connection ends
/// earlier: see [`Trusted`].
const LEAVE_TIME: Duration = Duration::from_secs(10);

/// A connection on which nothing has arrived for this long, and all of whose messages were handed in, is
/// taken to hold none that come before those of a newer connection.
const QUIET_TIME: Duration = Duration::from_millis(20);

/// Whether a connection is being read. While it is not, the silence of its peer means nothing.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport_layer) enum Reading {
    /// It has been read since this time.
    Since(Instant),
    /// It is not being read at present.
    Paused,
}

impl<C: NetConnection> Link<C> {
    pub(super) fn new(id: u64, conn: C, direction: Direction, now: Instant) -> Self {
        let addr = conn.remote_addr();
        let owner = Owner::of(conn.remote_identity(), addr);
        let delay = now.saturating_duration_since(conn.last_heard());
        Self {
            id,
            conn,
            owner,
            host: Host::of(addr.ip()),
            direction,
            since: now,
            delay: u32::try_from(delay.as_micros()).unwrap_or(u32::MAX),
            used: now,
            written: now,
            heard: false,
            unflushed: false,
            role: LinkRole::Active,
            after: None,
            reading: Reading::Since(now),
            is_read_empty: false,
            silence: SilenceCheck::default(),
            doubt: Doubt::default(),
            trusted: Trusted::default(),
        }
    }

    pub(super) fn info(&self, addr: SocketAddr, now: Instant) -> ConnectionInfo {
        ConnectionInfo {
            remote_addr: addr,
            network_addr: self.conn.remote_addr(),
            local_addr: self.conn.local_addr(),
            remote_identity: self.conn.remote_identity(),
            grounds: self.conn.grounds(),
            alpn: self.conn.alpn_negotiated().clone(),
            direction: self.direction,
            age: now.saturating_duration_since(self.since),
            silence: now.saturating_duration_since(self.conn.last_heard()),
        }
    }

    /// Returns when the network has made the connection.
    fn made(&self) -> Instant {
        let delay = Duration::from_micros(self.delay.into());
        self.since.checked_sub(delay).unwrap_or(self.since)
    }

    /// Returns the invite of the peer, if it holds one.
    pub(super) fn invite(&self) -> Option<InviteId> {
        match self.conn.grounds() {
            Grounds::Invite { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Returns whether the network has made this connection before another one.
    pub(super) fn was_made_before(&self, other: &Self) -> bool {
        self.made() < other.made()
    }

    /// Returns whether the peer has stated `addr`, which is in its canonical form.
    pub(super) fn states(&self, addr: SocketAddr) -> bool {
        self.conn.stated_addr().map(canonical) == Some(addr)
    }

    /// Returns whether this side has dialled `addr`, and this is the connection.
    pub(super) fn was_dialled_at(&self, addr: SocketAddr) -> bool {
        self.direction == Direction::Outgoing && self.conn.remote_addr() == addr
    }

    pub(super) fn set_reading(&mut self, reading: Reading) {
        self.reading = reading;
        self.silence.reset();
        // What has arrived is not read in time.
        self.doubt = Doubt::None;
    }

    /// Has the connection probed, since its peer may be gone, if it is written and read.
    pub(super) fn raise_doubt(&mut self) {
        if self.role == LinkRole::Active && matches!(self.reading, Reading::Since(_)) {
            self.doubt.raise();
        }
    }

    /// Returns whether nothing has arrived for a while and nothing waits to be handed in. What has arrived
    /// may still be unread if the reader has not had its turn.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        let is_read = matches!(self.reading, Reading::Since(_));
        is_read && now.saturating_duration_since(self.conn.last_heard()) >= QUIET_TIME
    }

    /// Returns when this side says goodbye on the connection because it is not trusted any more, if it does.
    pub(super) fn leave_at(&self) -> Option<Instant> {
        self.trusted.leave_at().filter(|_| !self.is_leaving())
    }

    /// Returns whether this side has said goodbye on the connection, which is read to its end.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.role, LinkRole::Leaving(..))
    }

    /// Returns whether this side should dial again, to replace a connection that it has dialled with a secret that
    /// is not the first one any more.
    pub(super) fn should_be_renewed(&self) -> bool {
        let is_used = self.role == LinkRole::Active && self.direction == Direction::Outgoing;
        is_used && self.trusted != Trusted::Current
    }

    /// Returns whether the peer may have been sent anything on this connection.
    pub(super) fn was_written(&self) -> bool {
        self.written > self.since
    }

    /// Checks whether the connection has been idle, or its peer silent, for too long. A `busy`
    /// connection is never idle. Returns when to check again, or why the connection must be closed.
    pub(super) fn check(
        &mut self,
        now: Instant,
        config: &TransportLayerConfig,
        busy: bool,
    ) -> Result<Option<Instant>, (CloseCode, &'static str)> {
        match self.role {
            LinkRole::Active => {}
            LinkRole::Waiting | LinkRole::Standby => return Ok(None),
            LinkRole::Leaving(since, code) => {
                let end = since + LEAVE_TIME;
                let end = self.trusted.end().map_or(end, |hard| hard.min(end));
                return if now >= end {
                    Err((code, "the peer has not answered the goodbye"))
                } else {
                    Ok(Some(end))
                };
            }
            LinkRole::Draining(since) => {
                // What has arrived is read first.
                let Reading::Since(reading) = self.reading else {
                    return Ok(None);
                };
                let end = since.max(reading) + DRAIN_TIME;
                return if now >= end {
                    Err((
                        CloseCode::REDUNDANT,
                        "another connection has taken its place",
                    ))
                } else {
                    Ok(Some(end))
                };
            }
        }
        let idle_at = self.used.checked_add(config.idle_timeout);
        if !busy && idle_at.is_some_and(|at| at <= now) {
            return Err((CloseCode::IDLE, "it was idle"));
        }
        // If it is busy, a time that has passed would be no reason to check again.
        let idle_at = idle_at.filter(|at| *at > now);
        let Reading::Since(reading) = self.reading else {
            return Ok(idle_at);
        };
        let conn = &self.conn;
        let doubt = match self.doubt.check(conn.last_heard(), now) {
            doubt::DoubtVerdict::Gone => return Err((CloseCode::GOING_AWAY, "it does not answer")),
            doubt::DoubtVerdict::CheckAgain(at) => at,
        };
        let verdict = self.silence.check(now, config.silence_timeout, || {
            now.saturating_duration_since(conn.last_heard().max(reading))
        });
        match verdict {
            SilenceVerdict::Silent => Err((CloseCode::GOING_AWAY, "the peer is silent")),
            SilenceVerdict::CheckAgain(at) => Ok(sooner(idle_at, sooner(at, doubt))),
        }
    }
}

/// Returns the earlier of two times, where `None` is never.
pub(super) fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
