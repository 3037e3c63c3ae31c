//! [`Cores`]: which members belong to core peers, which are leaves, and which were heard of over UDP only.
//!
//! A member is *core* if a peer with the role of a core member has sent a message from its address, or if a core member
//! has passed on its [proof](super::reserved::CORE). It is a *leaf* if it has the key address of an identity, which
//! nobody can dial, and is not core. Of all others nothing is proved: they are reached over UDP, or have not been met yet.
//!
//! | first reported by | until | what it may be |
//! |---|---|---|
//! | a core member: *reported* | it has sent a datagram, and in a cluster with secrets its state has arrived without a proof; there also for so long that that would have arrived | core: nobody over UDP speaks for it |
//! | a peer over UDP: *unconfirmed* | the next digest of a core member that knows us, if it has sent a datagram itself, or else for a while; none of these digests lists its address | core: nobody but peers over UDP is told of it, and leaves while no core member sends digests. If a core member lists it, all that was said of it before is dropped |
//!
//! Invariant: what others report over UDP makes no member core, and reaches no core member that knows better.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use litemap::LiteMap;

use super::order;
use crate::credential::is_key_address;
use crate::message::{ChitchatId, Digest, Version};

/// The addresses of core members, of those that may be, and of those that are reached over UDP.
#[derive(Debug, Default)]
pub(super) struct Cores {
    addrs: LiteMap<SocketAddr, Provenance>,
    /// The number of those that are or may be core, and of those that are unconfirmed.
    core: usize,
    unconfirmed: usize,
    /// When a core member has last sent a digest.
    last_digest: Duration,
    /// No core member has sent one for some rounds.
    are_silent: bool,
    /// A datagram has come from somewhere.
    has_udp: bool,
}

/// How a member at an address became known, and what that proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provenance {
    /// A core member has sent a message from it, or has proved that it has it; most recently then.
    Core(Duration),
    /// Core members were the first to report a member at it.
    Reported(Report),
    /// Peers over UDP were the first to report a member at it, at that time, and core members may know better. A
    /// datagram may have come from it, which may be forged.
    Unconfirmed { since: Duration, has_sent: bool },
    /// Members at it are reached over UDP.
    OverUdp,
}

/// The first report of an address by a core member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) at: Duration,
    /// The version that it has stated. Those of a core member with a secret contain its proof.
    pub(super) version: Version,
}

impl Report {
    /// Returns what a digest says of `id`.
    pub(super) fn of(digest: &Digest, id: &ChitchatId, at: Duration) -> Self {
        let listed = digest.node_digests.get(id);
        let version = listed.map_or(0, |listed| listed.max_version);
        Self { at, version }
    }
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
        self.set(addr, Provenance::Core(now));
    }

    /// Notes that a leaf is at `addr`, which may have been core before: its secret may have been removed. Returns true if
    /// it was.
    pub(super) fn note_leaf(&mut self, addr: SocketAddr) -> bool {
        let was_core = is_key_address(addr) && self.addrs.remove(&addr).is_some();
        if was_core {
            self.count();
        }
        was_core
    }

    /// Notes a report of a member at `addr`, of which nobody had known before.
    pub(super) fn note_first_report(&mut self, addr: SocketAddr, by: Reporter, report: Report) {
        if self.addrs.get(&addr).is_some() || is_key_address(addr) {
            return;
        }
        let (since, has_sent) = (report.at, false);
        match by {
            Reporter::Core => self.set(addr, Provenance::Reported(report)),
            Reporter::OverUdp => self.set(addr, Provenance::Unconfirmed { since, has_sent }),
            Reporter::Other => {}
        }
    }

    /// Notes the report of a core member about `addr`, of which only peers over UDP had told.
    pub(super) fn contradict(&mut self, addr: SocketAddr, report: Report) {
        self.set(addr, Provenance::Reported(report));
    }

    /// Notes a plain datagram from `addr`. Returns the report of a core member, if that was the first to tell of it.
    pub(super) fn note_datagram(&mut self, addr: SocketAddr) -> Option<Report> {
        self.has_udp = true;
        match self.addrs.get_mut(&addr) {
            Some(Provenance::Unconfirmed { has_sent, .. }) => {
                *has_sent = true;
                None
            }
            Some(Provenance::Reported(report)) => Some(*report),
            _ => None,
        }
    }

    /// Returns true if a datagram has come from somewhere.
    pub(super) fn has_udp(&self) -> bool {
        self.has_udp
    }

    /// Returns the addresses that core members have reported `patience` ago, and of which is still not known how they are
    /// reached.
    pub(super) fn reported_for(&self, patience: Duration, now: Duration) -> BTreeSet<SocketAddr> {
        let reported = self
            .addrs
            .iter()
            .filter(|(_, provenance)| match provenance {
                Provenance::Reported(report) => now.saturating_sub(report.at) >= patience,
                _ => false,
            });
        order::set(reported.map(|(addr, _)| *addr))
    }

    /// Notes that a member at `addr` is reached over UDP.
    pub(super) fn note_over_udp(&mut self, addr: SocketAddr) {
        self.set(addr, Provenance::OverUdp);
    }

    /// Notes a digest of a core member, or the start.
    pub(super) fn note_digest(&mut self, now: Duration) {
        self.last_digest = now;
        self.are_silent = false;
    }

    /// Notes a round. A core member that is there would have sent a digest in this time.
    pub(super) fn note_round(&mut self, time: Duration, now: Duration) {
        self.are_silent = now.saturating_sub(self.last_digest) >= time;
    }

    /// Returns true if no core member has sent a digest for some rounds, so that none may be there.
    pub(super) fn are_silent(&self) -> bool {
        self.are_silent
    }

    /// Ends the wait of those of which no core member has said otherwise: members at the unconfirmed addresses that have
    /// sent datagrams, or have been unconfirmed for `patience`, are reached over UDP.
    pub(super) fn confirm(&mut self, patience: Duration, now: Duration) {
        if !self.has_unconfirmed() {
            return;
        }
        for (_, provenance) in &mut self.addrs {
            if let Provenance::Unconfirmed { since, has_sent } = *provenance
                && (has_sent || now.saturating_sub(since) >= patience)
            {
                *provenance = Provenance::OverUdp;
            }
        }
        self.count();
    }

    /// Returns true if only core members have reported members at `addr`, and it is not known to be reached over UDP.
    pub(super) fn is_reported(&self, addr: SocketAddr) -> bool {
        matches!(self.addrs.get(&addr), Some(Provenance::Reported(_)))
    }

    /// Returns true if only peers over UDP have reported members at `addr`, and core members may know better.
    pub(super) fn is_unconfirmed(&self, addr: SocketAddr) -> bool {
        matches!(self.addrs.get(&addr), Some(Provenance::Unconfirmed { .. }))
    }

    /// Returns true if there are unconfirmed addresses.
    pub(super) fn has_unconfirmed(&self) -> bool {
        self.unconfirmed > 0
    }

    /// Returns true if peers over UDP may have said something about members at `addr` that was believed.
    pub(super) fn is_over_udp(&self, addr: SocketAddr) -> bool {
        self.is_unconfirmed(addr) || self.addrs.get(&addr) == Some(&Provenance::OverUdp)
    }

    /// Returns true if a core member is known to be at `addr`, from which none has been heard for `patience`.
    pub(super) fn is_silent(&self, addr: SocketAddr, patience: Duration, now: Duration) -> bool {
        match self.addrs.get(&addr) {
            Some(Provenance::Core(heard)) => now.saturating_sub(*heard) >= patience,
            _ => false,
        }
    }

    /// Returns true if a core member was heard at `addr`, or first reported there, since then.
    pub(super) fn is_recent(&self, addr: SocketAddr, since: Duration) -> bool {
        match self.addrs.get(&addr) {
            Some(Provenance::Core(at) | Provenance::Reported(Report { at, .. })) => *at >= since,
            _ => false,
        }
    }

    /// Returns true if a member at `addr` shares what is not left to core members.
    pub(super) fn is_limited(&self, addr: SocketAddr) -> bool {
        match self.addrs.get(&addr) {
            Some(Provenance::Core(_)) => false,
            Some(Provenance::Unconfirmed { .. } | Provenance::OverUdp) if !self.is_empty() => true,
            _ => is_key_address(addr),
        }
    }

    pub(super) fn contains(&self, addr: SocketAddr) -> bool {
        matches!(self.addrs.get(&addr), Some(Provenance::Core(_)))
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

    fn set(&mut self, addr: SocketAddr, provenance: Provenance) {
        if let Some(before) = self.addrs.get(&addr) {
            self.core -= usize::from(before.may_be_core());
            self.unconfirmed -= usize::from(before.is_unconfirmed());
        }
        self.core += usize::from(provenance.may_be_core());
        self.unconfirmed += usize::from(provenance.is_unconfirmed());
        self.addrs.insert(addr, provenance);
    }

    fn count(&mut self) {
        let provenances = self.addrs.values();
        self.core = provenances
            .filter(|provenance| provenance.may_be_core())
            .count();
        let provenances = self.addrs.values();
        self.unconfirmed = provenances
            .filter(|provenance| provenance.is_unconfirmed())
            .count();
    }
}

impl Provenance {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_members_are_forgotten_whatever_is_known_of_them() {
        let addr = |n: u16| SocketAddr::from(([127, 0, 0, 1], n));
        let mut cores = Cores::default();
        let report = Report {
            at: Duration::ZERO,
            version: 1,
        };
        cores.mark(addr(1), Duration::ZERO);
        cores.note_first_report(addr(2), Reporter::Core, report);
        cores.note_first_report(addr(3), Reporter::OverUdp, report);
        cores.note_over_udp(addr(4));
        for n in 1..=4 {
            assert_eq!(cores.len(), 5 - usize::from(n));
            assert_eq!(cores.is_empty(), n > 2);
            assert_eq!(cores.has_unconfirmed(), n <= 3);
            let kept = (n + 1..=4).map(addr).collect();
            cores.retain(&kept);
        }
        assert_eq!(cores.len(), 0);
    }
}
