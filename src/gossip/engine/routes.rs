//! Tells which addresses can be reached from here: over a live connection, or by a dial.
//!
//! A member that has no route is not selected, and is judged by what others report. This file does
//! not select, and it opens no connection. Invariant: until the driver reports connections for the
//! first time, every address that may be dialled has a route.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::churn::Churn;
use super::config::DialPolicy;
use super::event::Connection;
use super::order;
use crate::credential::is_key_address;
use crate::message::ProtocolVersion;

/// The number of intervals without any connection that are not counted as silence of the members
/// which only a lost connection has reached. A proxy takes seconds to restart, and a dial that backs
/// off finds it again some seconds later.
const EXCUSED_INTERVALS: u32 = 30;
/// The longest time that is excused.
const MAX_EXCUSED: Duration = Duration::from_secs(30);
/// The number of exchanges that new connections may start in an interval, so that connections which
/// come and go quickly do not multiply the traffic.
const MAX_GREETINGS: u32 = 3;
/// The number of connections above which a new one is not urgent: gossip goes on over the others.
const FEW_CONNECTIONS: usize = 8;

/// The routes of this member.
#[derive(Debug)]
pub(super) struct Routes {
    policy: DialPolicy,
    interval: Duration,
    seeds: BTreeSet<SocketAddr>,
    /// `None` until the driver reports connections.
    connected: Option<BTreeSet<SocketAddr>>,
    reads_v1: BTreeSet<SocketAddr>,
    outage: Option<Outage>,
    greetings: u32,
    churn: Churn,
}

/// The time since the last connection was lost.
#[derive(Debug)]
struct Outage {
    since: Duration,
    /// The part of it that was excused already.
    excused: Duration,
}

impl Routes {
    pub(super) fn new(policy: DialPolicy, interval: Duration) -> Self {
        Self {
            policy,
            interval,
            seeds: BTreeSet::new(),
            connected: None,
            reads_v1: BTreeSet::new(),
            outage: None,
            greetings: 0,
            churn: Churn::default(),
        }
    }

    pub(super) fn set_seeds(&mut self, seeds: BTreeSet<SocketAddr>) {
        self.seeds = seeds;
    }

    /// Replaces the connections. Returns the addresses that have lost theirs, and those that have a
    /// new one.
    pub(super) fn connect(&mut self, connections: &[Connection], now: Duration) -> Change {
        for connection in connections {
            if connection.reads_v1 {
                self.reads_v1.insert(connection.addr);
            } else {
                self.reads_v1.remove(&connection.addr);
            }
        }
        let after = order::set(connections.iter().map(|connection| connection.addr));
        let is_cut_off = after.is_empty();
        let before = self.connected.replace(after).unwrap_or_default();
        let after = self.connected();
        let change = Change {
            new: after.difference(&before).copied().collect(),
            lost: before.difference(after).copied().collect(),
        };
        if !is_cut_off {
            self.outage = None;
        } else if !before.is_empty() {
            self.outage = Some(Outage {
                since: now,
                excused: Duration::ZERO,
            });
        }
        change
    }

    /// Returns the addresses with a live connection, as far as the driver reports them.
    pub(super) fn connected(&self) -> &BTreeSet<SocketAddr> {
        const NONE: &BTreeSet<SocketAddr> = &BTreeSet::new();
        self.connected.as_ref().unwrap_or(NONE)
    }

    /// Returns true if the driver reports connections.
    pub(super) fn are_known(&self) -> bool {
        self.connected.is_some()
    }

    pub(super) fn is_connected(&self, addr: SocketAddr) -> bool {
        self.connected().contains(&addr)
    }

    /// Returns true if `addr` is connected or may be dialled.
    pub(super) fn has_route(&self, addr: SocketAddr) -> bool {
        // The second one takes a search.
        self.may_dial(addr) || self.is_connected(addr)
    }

    /// Returns true if this member may dial `addr`. A driver that reports no connections may have a
    /// network that routes key addresses.
    pub(super) fn may_dial(&self, addr: SocketAddr) -> bool {
        let is_allowed = match self.policy {
            DialPolicy::Anyone => true,
            DialPolicy::SeedsOnly => self.seeds.contains(&addr),
        };
        is_allowed && !(self.are_known() && is_key_address(addr))
    }

    /// Returns true if only a connection reaches `addr`, so that the loss of all connections is no
    /// sign of its death. If only seeds may be dialled, that is so for every member: the address at
    /// which a seed is dialled is not always the one that it advertises.
    pub(super) fn needs_connection(&self, addr: SocketAddr) -> bool {
        self.policy == DialPolicy::SeedsOnly || !self.may_dial(addr)
    }

    /// Returns the version in which to address `addr`, if `otherwise` is the version for members
    /// that are not known to read V1.
    pub(super) fn version_for(
        &self,
        addr: SocketAddr,
        otherwise: ProtocolVersion,
    ) -> ProtocolVersion {
        if self.reads_v1.contains(&addr) {
            ProtocolVersion::V1
        } else {
            otherwise
        }
    }

    /// Returns true if `addr` is known to be a member of this crate.
    pub(super) fn is_ours(&self, addr: SocketAddr) -> bool {
        self.reads_v1.contains(&addr)
    }

    /// Forgets what is known of addresses that are neither connected nor kept.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&SocketAddr) -> bool) {
        let connected = self.connected.as_ref();
        self.reads_v1.retain(|addr| {
            connected.is_some_and(|connected| connected.contains(addr)) || is_kept(addr)
        });
    }

    /// Returns the number of addresses that are known to read V1.
    pub(super) fn known_v1(&self) -> usize {
        self.reads_v1.len()
    }

    /// Returns the time since the last call in which there was no connection at all, after there had
    /// been one, and which is excused.
    pub(super) fn excuse(&mut self, now: Duration) -> Duration {
        let most = MAX_EXCUSED.min(self.interval.saturating_mul(EXCUSED_INTERVALS));
        let Some(outage) = &mut self.outage else {
            return Duration::ZERO;
        };
        let due = now.saturating_sub(outage.since).min(most);
        let more = due.saturating_sub(outage.excused);
        outage.excused = due;
        more
    }

    /// Notes the start of an interval, in which new connections may start exchanges again.
    pub(super) fn begin_interval(&mut self) {
        self.greetings = 0;
        self.churn.begin_interval();
    }

    /// Notes that the connection to a live member was lost. If it was the last one, that is an outage, and says
    /// nothing about the number of connections.
    pub(super) fn note_lost(&mut self) {
        if !self.connected().is_empty() {
            self.churn.note_lost();
        }
    }

    /// Returns true if connections to live members have been lost lately, so that those which exist are used.
    pub(super) fn are_scarce(&self) -> bool {
        self.churn.is_high()
    }

    /// Returns true if a round may ask a member that is not connected, and counts it.
    pub(super) fn may_meet(&mut self) -> bool {
        self.churn.may_dial()
    }

    /// Returns true if an exchange may be opened at once over a new connection, and counts it.
    pub(super) fn may_greet(&mut self) -> bool {
        let may = self.greetings < MAX_GREETINGS && self.connected().len() <= FEW_CONNECTIONS;
        self.greetings += u32::from(may);
        may
    }
}

/// The difference between two sets of connections.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) new: Vec<SocketAddr>,
    /// In ascending order.
    pub(super) lost: Vec<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Identity;

    const SECOND: Duration = Duration::from_secs(1);

    fn addr(n: u16) -> SocketAddr {
        ([10, 0, 0, 1], n).into()
    }

    fn tab() -> SocketAddr {
        Identity::from_bytes([1; 32]).address()
    }

    fn to(addrs: &[SocketAddr]) -> Vec<Connection> {
        let connection = |addr: &SocketAddr| Connection {
            addr: *addr,
            reads_v1: true,
            invite: None,
        };
        addrs.iter().map(connection).collect()
    }

    fn routes(policy: DialPolicy) -> Routes {
        let mut routes = Routes::new(policy, SECOND);
        routes.set_seeds(BTreeSet::from([addr(1)]));
        routes
    }

    #[test]
    fn a_key_address_has_a_route_while_it_is_connected() {
        let mut routes = routes(DialPolicy::Anyone);
        assert!(routes.has_route(tab()), "the driver reports nothing yet");
        routes.connect(&to(&[tab()]), SECOND);
        assert!(routes.has_route(tab()) && routes.has_route(addr(2)));
        routes.connect(&[], SECOND);
        assert!(!routes.has_route(tab()) && routes.has_route(addr(2)));
        assert!(routes.needs_connection(tab()) && !routes.needs_connection(addr(2)));
    }

    #[test]
    fn a_member_that_dials_seeds_only_reaches_them_and_what_is_connected() {
        let mut routes = routes(DialPolicy::SeedsOnly);
        routes.connect(&to(&[addr(3), tab()]), SECOND);
        let has_route = [addr(1), addr(2), addr(3), tab()].map(|addr| routes.has_route(addr));
        assert_eq!(has_route, [true, false, true, true]);
        assert!(routes.needs_connection(addr(1)));
    }

    #[test]
    fn connections_that_come_and_go_are_told_apart() {
        let mut routes = routes(DialPolicy::Anyone);
        let change = routes.connect(&to(&[addr(2), addr(3)]), SECOND);
        assert_eq!((change.new, change.lost), (vec![addr(2), addr(3)], vec![]));
        let change = routes.connect(&to(&[addr(3), addr(4)]), SECOND);
        assert_eq!((change.new, change.lost), (vec![addr(4)], vec![addr(2)]));
    }

    #[test]
    fn who_reads_v1_is_remembered_until_another_connection_or_the_end_of_the_member_says_otherwise()
    {
        let mut routes = routes(DialPolicy::Anyone);
        let version = |routes: &Routes, n| routes.version_for(addr(n), ProtocolVersion::V0);
        routes.connect(&to(&[addr(2), addr(3)]), SECOND);
        routes.connect(&[], SECOND);
        routes.retain(|_| true);
        assert_eq!(version(&routes, 2), ProtocolVersion::V1);
        assert_eq!(version(&routes, 4), ProtocolVersion::V0);
        let of_upstream = Connection {
            addr: addr(2),
            reads_v1: false,
            invite: None,
        };
        routes.connect(&[of_upstream], SECOND);
        assert_eq!(version(&routes, 2), ProtocolVersion::V0);
        routes.retain(|_| false);
        assert_eq!(version(&routes, 3), ProtocolVersion::V0);
    }

    #[test]
    fn the_time_without_any_connection_is_excused_once_and_up_to_a_bound() {
        let mut routes = routes(DialPolicy::SeedsOnly);
        assert_eq!(routes.excuse(SECOND), Duration::ZERO, "never connected");
        routes.connect(&[], SECOND);
        assert_eq!(routes.excuse(SECOND * 9), Duration::ZERO, "never connected");
        routes.connect(&to(&[addr(2)]), SECOND * 10);
        assert_eq!(routes.excuse(SECOND * 19), Duration::ZERO, "connected");
        routes.connect(&[], SECOND * 20);
        assert_eq!(routes.excuse(SECOND * 23), SECOND * 3);
        // A second report of the same does not begin a second outage.
        routes.connect(&[], SECOND * 24);
        assert_eq!(routes.excuse(SECOND * 24), SECOND);
        assert_eq!(routes.excuse(SECOND * 90), SECOND * 26);
        assert_eq!(routes.excuse(SECOND * 99), Duration::ZERO);
        routes.connect(&to(&[addr(2)]), SECOND * 100);
        routes.connect(&[], SECOND * 101);
        assert_eq!(routes.excuse(SECOND * 102), SECOND);
    }

    #[test]
    fn a_new_connection_starts_an_exchange_unless_there_are_many() {
        let mut routes = routes(DialPolicy::Anyone);
        routes.connect(&to(&[addr(2)]), SECOND);
        let started = (0..10).filter(|_| routes.may_greet()).count();
        assert_eq!(started, 3);
        routes.begin_interval();
        assert!(routes.may_greet());
        let many: Vec<_> = (10..30).map(addr).collect();
        routes.connect(&to(&many), SECOND);
        routes.begin_interval();
        assert!(!routes.may_greet());
    }
}
