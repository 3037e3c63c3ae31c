//! The invites of pages that are opened without one (`--invite-visitors`).
//!
//! Whoever opens the page becomes a leaf of the cluster for a while, so a host gets few invites at a time. A site, which can have
//! as many hosts as it likes, gets at most a quarter of what there is for all. Invariant: the memory for hosts and sites is
//! bounded, and one that is forgotten for that has waited for longer than all others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use gossip_transport::credential::{Claims, Invite, InviteId, Quotas, Trust};
use gossip_transport::rt::{self, Instant};

use crate::node::Node;

/// The invites that a host gets at once: the tabs of a few people behind one address that open together.
const BURST: u32 = 20;
/// The time after which a host gets one more. A page renews its invite at four fifths of its life, so 160 pages of a host
/// renew theirs if it is valid for 10 minutes.
const EVERY: Duration = Duration::from_secs(3);
/// The invites that all hosts together get at once, and the time after which there is one more.
const BURST_OF_ALL: u32 = 500;
const EVERY_OF_ALL: Duration = Duration::from_millis(100);
/// The invites that a site gets at once, and the time after which it gets one more. It is the network of 48 bits of an IPv6
/// address (RFC 6177), or of 24 bits of an IPv4 address.
const BURST_OF_SITE: u32 = BURST_OF_ALL / 4;
const EVERY_OF_SITE: Duration = Duration::from_millis(400);
/// The most hosts that are remembered, and the most sites, with 40 bytes each.
const MAX_HOSTS: usize = 10_000;
/// The connections that one page has at a time: one, and another one while it is replaced or the page is loaded again.
const MAX_CONNECTIONS: u32 = 4;

/// Issues invites to pages.
#[derive(Debug)]
pub(crate) struct Visitors {
    lifetime: Duration,
    limits: Mutex<Limits>,
    failures: AtomicU64,
}

/// The answer to a page that has no invite.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Welcome {
    /// The word of an invite.
    Invite(String),
    /// Too many have asked. The page may ask again after this time.
    Later(Duration),
    /// The node cannot issue invites now.
    Unable,
}

impl Visitors {
    /// Each invite is valid for `lifetime`.
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            limits: Mutex::default(),
            failures: AtomicU64::new(0),
        }
    }

    /// Returns the answer to a page from `ip` that is to join at `seed`.
    pub(super) fn welcome(&self, ip: IpAddr, node: &Node, seed: String) -> Welcome {
        let limits = self.limits.lock();
        let mut limits = limits.unwrap_or_else(PoisonError::into_inner);
        if let Err(wait) = limits.take(ip, Instant::now()) {
            return Welcome::Later(wait);
        }
        drop(limits);
        match self.issue(&node.trust, &node.cluster, seed) {
            Ok(invite) => Welcome::Invite(invite.to_text().to_string()),
            Err(error) => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                // Everyone can make it fail again.
                if failures.is_power_of_two() {
                    let error = format!("{error:#}");
                    tracing::warn!(error, failures, "cannot issue an invite to a visitor");
                }
                Welcome::Unable
            }
        }
    }

    /// Checks that invites can be issued.
    ///
    /// # Errors
    ///
    /// Fails if there is no secret, or none that may issue them.
    pub(crate) fn check(&self, trust: &Trust, cluster: &str) -> anyhow::Result<()> {
        let issued = self.issue(trust, cluster, "127.0.0.1:1".to_owned());
        issued.map(drop).context("--invite-visitors")
    }

    fn issue(&self, trust: &Trust, cluster: &str, seed: String) -> anyhow::Result<Invite> {
        let keyring = trust.keyring();
        let keyring = keyring.ok_or_else(|| anyhow::anyhow!("the node has no secret"))?;
        let id = InviteId::generate(rt::unix_time(), self.lifetime)?;
        let quotas = Quotas::default().with_max_connections(MAX_CONNECTIONS);
        let claims = Claims::new(id).with_quotas(quotas);
        let invite = Invite::issue(keyring.first(), claims, cluster.to_owned(), vec![seed]);
        Ok(invite?)
    }
}

/// What has been given to hosts, to sites and to all.
#[derive(Debug, Default)]
struct Limits {
    hosts: Given,
    sites: Given,
    /// When all together have waited long enough to get as many as at first.
    all_due: Option<Instant>,
}

/// When each host or site has waited long enough to get as many as at first.
#[derive(Debug, Default)]
struct Given(HashMap<IpAddr, Instant>);

impl Limits {
    /// Notes that a page from `ip` gets an invite.
    ///
    /// # Errors
    ///
    /// Fails with the time after which it gets one, if its host, its site or all have got too many.
    fn take(&mut self, ip: IpAddr, now: Instant) -> Result<(), Duration> {
        let (host, site) = (network(ip, 32, 64), network(ip, 24, 48));
        room(self.hosts.due(host, now), now, EVERY, BURST)?;
        room(self.sites.due(site, now), now, EVERY_OF_SITE, BURST_OF_SITE)?;
        let all_due = self.all_due.map_or(now, |due| due.max(now));
        room(all_due, now, EVERY_OF_ALL, BURST_OF_ALL)?;
        self.all_due = Some(all_due + EVERY_OF_ALL);
        self.hosts.add(host, EVERY, now);
        self.sites.add(site, EVERY_OF_SITE, now);
        Ok(())
    }
}

impl Given {
    fn due(&self, key: IpAddr, now: Instant) -> Instant {
        self.0.get(&key).map_or(now, |due| (*due).max(now))
    }

    fn add(&mut self, key: IpAddr, every: Duration, now: Instant) {
        let due = self.due(key, now);
        if self.0.len() >= MAX_HOSTS && !self.0.contains_key(&key) {
            self.make_room(now);
        }
        self.0.insert(key, due + every);
    }

    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, due| *due > now);
        while self.0.len() >= MAX_HOSTS {
            let first = self.0.iter().min_by_key(|(_, due)| **due);
            let Some(key) = first.map(|(key, _)| *key) else {
                return;
            };
            self.0.remove(&key);
        }
    }
}

/// Returns how long to wait for one more, as an error, if those until `due` are as many as there may be at once.
fn room(due: Instant, now: Instant, every: Duration, burst: u32) -> Result<(), Duration> {
    let ahead = due.saturating_duration_since(now) + every;
    match ahead.checked_sub(every * burst) {
        None | Some(Duration::ZERO) => Ok(()),
        Some(wait) => Err(wait),
    }
}

/// Returns the first address of the network of an address that has so many bits.
fn network(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let rest = 32 - v4_bits;
            Ipv4Addr::from_bits(ip.to_bits() >> rest << rest).into()
        }
        IpAddr::V6(ip) => {
            let rest = 128 - v6_bits;
            Ipv6Addr::from_bits(ip.to_bits() >> rest << rest).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the address of a host, which is the only one of its site.
    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + (n << 8)).into()
    }

    #[test]
    fn a_host_gets_some_invites_at_once_and_then_one_at_a_time() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(limits.take(ip(1), start), Ok(()));
        }
        assert_eq!(limits.take(ip(1), start), Err(EVERY));
        // Others get theirs.
        assert_eq!(limits.take(ip(2), start), Ok(()));
        let soon = start + EVERY / 3;
        assert_eq!(limits.take(ip(1), soon), Err(EVERY * 2 / 3));
        assert_eq!(limits.take(ip(1), start + EVERY), Ok(()));
        assert_eq!(limits.take(ip(1), start + EVERY), Err(EVERY));
        let later = start + EVERY * 1000;
        for _ in 0..BURST {
            assert_eq!(limits.take(ip(1), later), Ok(()));
        }
        assert_eq!(limits.take(ip(1), later), Err(EVERY));
    }

    #[test]
    fn the_memory_for_hosts_is_bounded_and_the_one_that_waits_for_least_is_forgotten() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        for _ in 0..BURST {
            limits.take(ip(0), start).unwrap();
        }
        for n in 1..=u32::try_from(MAX_HOSTS).unwrap() {
            // Not so fast that all together have too many.
            limits.all_due = None;
            limits.take(ip(n), start).unwrap();
        }
        assert_eq!([limits.hosts.0.len(), limits.sites.0.len()], [MAX_HOSTS; 2]);
        assert_eq!(limits.take(ip(0), start), Err(EVERY));
    }

    #[test]
    fn all_hosts_together_get_a_limited_number_at_once() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        for n in 0..BURST_OF_ALL {
            assert_eq!(limits.take(ip(n), start), Ok(()), "{n}");
        }
        assert_eq!(limits.take(ip(9_999), start), Err(EVERY_OF_ALL));
        assert_eq!(limits.take(ip(9_999), start + EVERY_OF_ALL), Ok(()));
    }

    #[test]
    fn a_site_with_many_hosts_leaves_most_for_others() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        let of_site = |n: u16| IpAddr::from([0x2001, 0xdb8, 9, n, 0, 0, 0, 1]);
        let taken = (0..u16::MAX).filter(|n| limits.take(of_site(*n), start).is_ok());
        assert_eq!(taken.count(), BURST_OF_SITE as usize);
        for n in 0..BURST_OF_ALL - BURST_OF_SITE {
            assert_eq!(limits.take(ip(n), start), Ok(()), "{n}");
        }
        // For an hour it takes what it gets, and others do not wait.
        for n in 1..3_600 {
            let now = start + Duration::from_secs(u64::from(n));
            let taken = (0..100).filter(|m| limits.take(of_site(n * 10 + m), now).is_ok());
            assert!(taken.count() <= 3, "{n}");
            assert_eq!(limits.take(ip(u32::from(n)), now), Ok(()), "{n}");
        }
    }

    #[test]
    fn addresses_of_one_network_are_one_host_and_larger_networks_are_sites() {
        let same = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|ip| ip.parse().unwrap());
            let same = |v4, v6| network(a, v4, v6) == network(b, v4, v6);
            (same(32, 64), same(24, 48))
        };
        assert_eq!(same("2001:db8::1", "2001:db8::ffff:1"), (true, true));
        assert_eq!(same("2001:db8::1", "2001:db8:0:1::1"), (false, true));
        assert_eq!(same("2001:db8::1", "2001:db8:1::1"), (false, false));
        assert_eq!(same("::ffff:192.0.2.1", "192.0.2.1"), (true, true));
        assert_eq!(same("192.0.2.1", "192.0.2.2"), (false, true));
        assert_eq!(same("192.0.2.1", "192.0.3.1"), (false, false));
    }
}
