//! [`Cores`]: which members belong to core peers, which are leaves, and which were heard of over UDP only.
//!
//! A member is *core* if a peer with the role of a core member has sent a message from its address, or if a core member
//! has passed on its [proof](super::reserved::CORE). It is a *leaf* if it has the key address of an identity, which
//! nobody can dial, and is not core. Of all others nothing is proved: they are reached over UDP, or have not been met yet.
//!
//! | first reported by | until | what it may be |
//! |---|---|---|
//! | a core member: *reported* | it has sent a datagram; in a cluster with secrets also for so long that its proof would have arrived | core: nobody over UDP speaks for it |
//! | a peer over UDP: *unconfirmed* | the next digest of a core member, if it has sent a datagram itself, or else for a while; none of these digests lists its address. If no core member sends digests, for a shorter while | core: nobody but peers over UDP is told of it. If a core member lists it, all that was said of it before is dropped |
//!
//! Invariant: what others report over UDP makes no member core, and reaches no core member that knows better.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use litemap::LiteMap;

use crate::credential::is_key_address;

/// The addresses of core members, of those that may be, and of those that are reached over UDP.
#[derive(Debug, Default)]
pub(super) struct Cores {
    addrs: LiteMap<SocketAddr, Standing>,
    /// The number of those that are or may be core, and of those that are unconfirmed.
    core: usize,
    unconfirmed: usize,
    /// When a core member has last sent a digest.
    last_digest: Duration,
}

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// A core member has sent a message from it, or has proved that it has it; most recently then.
    Core(Duration),
    /// Core members were the first to report a member at it, at that time.
    Reported(Duration),
    /// Peers over UDP were the first to report a member at it, at that time, and core members may know better. A
    /// datagram may have come from it, which may be forged.
    Unconfirmed { since: Duration, has_sent: bool },
    /// Members at it are reached over UDP.
    OverUdp,
}

/// What is known about the owner of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Core,
    Leaf,
    /// It is reached over UDP, or not met yet.
    Unproved,
}

/// The kind of peer that has sent a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reporter {
    /// A core member with an identity.
    Core,
    /// An unauthenticated peer.
    OverUdp,
    /// A leaf, or a member of a network without identities.
    Other,
}

impl Cores {
    /// Notes that a core member is at `addr`.
    pub(super) fn mark(&mut self, addr: SocketAddr, now: Duration) {
        self.set(addr, Standing::Core(now));
    }

    /// Notes that a member at `addr`, of which nobody had before, was reported.
    pub(super) fn note_first_report(&mut self, addr: SocketAddr, by: Reporter, now: Duration) {
        if self.addrs.get(&addr).is_some() || is_key_address(addr) {
            return;
        }
        let (since, has_sent) = (now, false);
        match by {
            Reporter::Core => self.set(addr, Standing::Reported(now)),
            Reporter::OverUdp => self.set(addr, Standing::Unconfirmed { since, has_sent }),
            Reporter::Other => {}
        }
    }

    /// Notes that a core member has reported a member at `addr`, of which only peers over UDP had before.
    pub(super) fn contradict(&mut self, addr: SocketAddr, now: Duration) {
        self.set(addr, Standing::Reported(now));
    }

    /// Notes a plain datagram from `addr`. Returns true if a core member has reported it for `patience`, so that it is
    /// reached over UDP unless it has proved to be core.
    pub(super) fn note_datagram(
        &mut self,
        addr: SocketAddr,
        patience: Duration,
        now: Duration,
    ) -> bool {
        match self.addrs.get_mut(&addr) {
            Some(Standing::Unconfirmed { has_sent, .. }) => {
                *has_sent = true;
                false
            }
            Some(Standing::Reported(since)) => now.saturating_sub(*since) >= patience,
            _ => false,
        }
    }

    /// Notes that a member at `addr` is reached over UDP.
    pub(super) fn note_over_udp(&mut self, addr: SocketAddr) {
        self.set(addr, Standing::OverUdp);
    }

    /// Notes a digest of a core member, or the start.
    pub(super) fn note_digest(&mut self, now: Duration) {
        self.last_digest = now;
    }

    /// Returns true if no core member has sent a digest for this time, so that none may be there.
    pub(super) fn are_silent_for(&self, time: Duration, now: Duration) -> bool {
        now.saturating_sub(self.last_digest) >= time
    }

    /// Ends the wait of those of which no core member has said otherwise: members at the unconfirmed addresses that have
    /// sent datagrams, or have been unconfirmed for `patience`, are reached over UDP.
    pub(super) fn confirm(&mut self, patience: Duration, now: Duration) {
        if !self.has_unconfirmed() {
            return;
        }
        for (_, standing) in &mut self.addrs {
            if let Standing::Unconfirmed { since, has_sent } = *standing
                && (has_sent || now.saturating_sub(since) >= patience)
            {
                *standing = Standing::OverUdp;
            }
        }
        self.count();
    }

    /// Returns true if only core members have reported members at `addr`, and it is not known to be reached over UDP.
    pub(super) fn is_reported(&self, addr: SocketAddr) -> bool {
        matches!(self.addrs.get(&addr), Some(Standing::Reported(_)))
    }

    /// Returns true if only peers over UDP have reported members at `addr`, and core members may know better.
    pub(super) fn is_unconfirmed(&self, addr: SocketAddr) -> bool {
        matches!(self.addrs.get(&addr), Some(Standing::Unconfirmed { .. }))
    }

    /// Returns true if there are unconfirmed addresses.
    pub(super) fn has_unconfirmed(&self) -> bool {
        self.unconfirmed > 0
    }

    /// Returns true if peers over UDP may have said something about members at `addr` that was believed.
    pub(super) fn is_over_udp(&self, addr: SocketAddr) -> bool {
        self.is_unconfirmed(addr) || self.addrs.get(&addr) == Some(&Standing::OverUdp)
    }

    /// Returns true if a core member is known to be at `addr`, from which none has been heard for `patience`.
    pub(super) fn is_silent(&self, addr: SocketAddr, patience: Duration, now: Duration) -> bool {
        match self.addrs.get(&addr) {
            Some(Standing::Core(heard)) => now.saturating_sub(*heard) >= patience,
            _ => false,
        }
    }

    pub(super) fn contains(&self, addr: SocketAddr) -> bool {
        matches!(self.addrs.get(&addr), Some(Standing::Core(_)))
    }

    /// Returns true if no core member is known, not even one that may be.
    pub(super) fn is_empty(&self) -> bool {
        self.core == 0
    }

    /// Returns the number of addresses.
    pub(super) fn len(&self) -> usize {
        self.addrs.len()
    }

    /// Forgets the addresses that are not among `kept`.
    pub(super) fn retain(&mut self, kept: &BTreeSet<SocketAddr>) {
        self.addrs.retain(|addr, _| kept.contains(addr));
        self.count();
    }

    pub(super) fn owner(&self, addr: SocketAddr) -> Owner {
        if self.contains(addr) {
            Owner::Core
        } else if is_key_address(addr) {
            Owner::Leaf
        } else {
            Owner::Unproved
        }
    }

    fn set(&mut self, addr: SocketAddr, standing: Standing) {
        if let Some(before) = self.addrs.get(&addr) {
            self.core -= usize::from(before.may_be_core());
            self.unconfirmed -= usize::from(before.is_unconfirmed());
        }
        self.core += usize::from(standing.may_be_core());
        self.unconfirmed += usize::from(standing.is_unconfirmed());
        self.addrs.insert(addr, standing);
    }

    fn count(&mut self) {
        let standings = self.addrs.values();
        self.core = standings.filter(|standing| standing.may_be_core()).count();
        let standings = self.addrs.values();
        self.unconfirmed = standings
            .filter(|standing| standing.is_unconfirmed())
            .count();
    }
}

impl Standing {
    fn may_be_core(self) -> bool {
        matches!(self, Self::Core(_) | Self::Reported(_))
    }

    fn is_unconfirmed(self) -> bool {
        matches!(self, Self::Unconfirmed { .. })
    }
}

/// The number of members that can be added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) all: usize,
    pub(super) leaves: usize,
}

impl Room {
    /// Takes the room of one member. Returns false if there is none.
    pub(super) fn take(&mut self, owner: Owner) -> bool {
        let is_leaf = owner == Owner::Leaf;
        if self.all == 0 || is_leaf && self.leaves == 0 {
            return false;
        }
        self.all -= 1;
        self.leaves -= usize::from(is_leaf);
        true
    }
}
