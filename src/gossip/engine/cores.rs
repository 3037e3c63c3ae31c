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

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::credential::is_key_address;

/// The addresses of core members, of those that may be, and of those that are reached over UDP.
#[derive(Debug, Default)]
pub(super) struct Cores {
    /// Core members have sent messages from these, or have proved that they have them; most recently at that time.
    known: BTreeMap<SocketAddr, Duration>,
    /// Core members were the first to report members at these, at that time.
    reported: BTreeMap<SocketAddr, Duration>,
    /// Peers over UDP were the first to report members at these, and core members may know better.
    unconfirmed: BTreeMap<SocketAddr, Unconfirmed>,
    /// Members at these are reached over UDP.
    over_udp: BTreeSet<SocketAddr>,
    /// When a core member has last sent a digest.
    last_digest: Duration,
}

/// What is known of an address that only peers over UDP have reported.
#[derive(Debug, Clone, Copy)]
struct Unconfirmed {
    since: Duration,
    /// A datagram has come from it, which may be forged.
    has_sent: bool,
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
        self.known.insert(addr, now);
        self.reported.remove(&addr);
        self.unconfirmed.remove(&addr);
        self.over_udp.remove(&addr);
    }

    /// Notes that a member at `addr`, of which nobody had before, was reported.
    pub(super) fn note_first_report(&mut self, addr: SocketAddr, by: Reporter, now: Duration) {
        let is_known = self.reported.contains_key(&addr) || self.is_over_udp(addr);
        if is_known || self.owner(addr) != Owner::Unproved {
            return;
        }
        match by {
            Reporter::Core => {
                self.reported.insert(addr, now);
            }
            Reporter::OverUdp => {
                let has_sent = false;
                let since = now;
                self.unconfirmed
                    .insert(addr, Unconfirmed { since, has_sent });
            }
            Reporter::Other => {}
        }
    }

    /// Notes that a core member has reported a member at `addr`, of which only peers over UDP had before.
    pub(super) fn contradict(&mut self, addr: SocketAddr, now: Duration) {
        self.unconfirmed.remove(&addr);
        self.reported.insert(addr, now);
    }

    /// Notes a plain datagram from `addr`. Returns true if a core member has reported it for `patience`, so that it is
    /// reached over UDP unless it has proved to be core.
    pub(super) fn note_datagram(
        &mut self,
        addr: SocketAddr,
        patience: Duration,
        now: Duration,
    ) -> bool {
        if let Some(unconfirmed) = self.unconfirmed.get_mut(&addr) {
            unconfirmed.has_sent = true;
        }
        let since = self.reported.get(&addr);
        since.is_some_and(|since| now.saturating_sub(*since) >= patience)
    }

    /// Notes that a member at `addr` is reached over UDP.
    pub(super) fn note_over_udp(&mut self, addr: SocketAddr) {
        self.known.remove(&addr);
        self.reported.remove(&addr);
        self.over_udp.insert(addr);
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
        let over_udp = &mut self.over_udp;
        self.unconfirmed.retain(|addr, of| {
            let is_settled = of.has_sent || now.saturating_sub(of.since) >= patience;
            if is_settled {
                over_udp.insert(*addr);
            }
            !is_settled
        });
    }

    /// Returns true if only core members have reported members at `addr`, and it is not known to be reached over UDP.
    pub(super) fn is_reported(&self, addr: SocketAddr) -> bool {
        self.reported.contains_key(&addr)
    }

    /// Returns true if only peers over UDP have reported members at `addr`, and core members may know better.
    pub(super) fn is_unconfirmed(&self, addr: SocketAddr) -> bool {
        self.unconfirmed.contains_key(&addr)
    }

    /// Returns true if there are unconfirmed addresses.
    pub(super) fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// Returns true if peers over UDP may have said something about members at `addr` that was believed.
    pub(super) fn is_over_udp(&self, addr: SocketAddr) -> bool {
        self.is_unconfirmed(addr) || self.over_udp.contains(&addr)
    }

    /// Returns true if a core member is known to be at `addr`, from which none has been heard for `patience`.
    pub(super) fn is_silent(&self, addr: SocketAddr, patience: Duration, now: Duration) -> bool {
        let heard = self.known.get(&addr);
        heard.is_some_and(|heard| now.saturating_sub(*heard) >= patience)
    }

    pub(super) fn contains(&self, addr: SocketAddr) -> bool {
        self.known.contains_key(&addr)
    }

    /// Returns true if no core member is known, not even one that may be.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.reported.is_empty()
    }

    /// Returns the number of addresses.
    pub(super) fn len(&self) -> usize {
        let unproved = self.reported.len() + self.unconfirmed.len() + self.over_udp.len();
        self.known.len() + unproved
    }

    /// Forgets the addresses that are not among `kept`.
    pub(super) fn retain(&mut self, kept: &BTreeSet<SocketAddr>) {
        self.known.retain(|addr, _| kept.contains(addr));
        self.reported.retain(|addr, _| kept.contains(addr));
        self.unconfirmed.retain(|addr, _| kept.contains(addr));
        self.over_udp.retain(|addr| kept.contains(addr));
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
