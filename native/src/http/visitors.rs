//! The invites of pages that are opened without one (`--invite-visitors`).
//!
//! Whoever opens the page becomes a leaf of the cluster for a while, so a host gets few invites at a time. Invariant: the
//! memory for hosts is bounded, and a host that is forgotten for that has waited for longer than all others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
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
/// The most hosts that are remembered, with 40 bytes each.
const MAX_HOSTS: usize = 10_000;
/// The connections that one page has at a time: one, and another one while it is replaced or the page is loaded again.
const MAX_CONNECTIONS: u32 = 4;

/// Issues invites to pages.
#[derive(Debug)]
pub(crate) struct Visitors {
    lifetime: Duration,
    hosts: Mutex<Hosts>,
    failures: AtomicU64,
}

/// The answer to a page that has no invite.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Welcome {
    /// The word of an invite.
    Invite(String),
    /// The host has got too many, and gets another one after this time.
    Later(Duration),
    /// The node cannot issue invites now.
    Unable,
}

impl Visitors {
    /// Each invite is valid for `lifetime`.
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            hosts: Mutex::default(),
            failures: AtomicU64::new(0),
        }
    }

    pub(super) fn welcome(&self, ip: IpAddr, node: &Node) -> Welcome {
        let hosts = self.hosts.lock();
        let mut hosts = hosts.unwrap_or_else(PoisonError::into_inner);
        if let Err(wait) = hosts.take(host_of(ip), Instant::now()) {
            return Welcome::Later(wait);
        }
        drop(hosts);
        match self.invite(node) {
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

    fn invite(&self, node: &Node) -> anyhow::Result<Invite> {
        let own = node.with(|participant| (participant.id(), participant.public_urls()));
        let (own, urls) = own.ok_or_else(|| anyhow::anyhow!("the node is leaving"))?;
        // Only tabs use it, and strangers need not learn an inner address.
        let of_node = urls.into_iter().find(|(id, _)| *id == own);
        let seed = of_node.map_or_else(|| own.addr().to_string(), |(_, url)| url.to_string());
        self.issue(&node.trust, &node.cluster, seed)
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

/// The hosts that have got invites.
#[derive(Debug, Default)]
struct Hosts {
    /// When each has waited long enough to get as many as at first.
    due: HashMap<IpAddr, Instant>,
    /// The same of all together.
    all_due: Option<Instant>,
}

impl Hosts {
    /// Notes that `host` gets an invite.
    ///
    /// # Errors
    ///
    /// Fails with the time after which it gets one, if it has got too many.
    fn take(&mut self, host: IpAddr, now: Instant) -> Result<(), Duration> {
        let due = self.due.get(&host).map_or(now, |due| (*due).max(now));
        room(due, now, EVERY, BURST)?;
        let all_due = self.all_due.map_or(now, |due| due.max(now));
        room(all_due, now, EVERY_OF_ALL, BURST_OF_ALL)?;
        self.all_due = Some(all_due + EVERY_OF_ALL);
        if self.due.len() >= MAX_HOSTS && !self.due.contains_key(&host) {
            self.make_room(now);
        }
        self.due.insert(host, due + EVERY);
        Ok(())
    }

    fn make_room(&mut self, now: Instant) {
        self.due.retain(|_, due| *due > now);
        while self.due.len() >= MAX_HOSTS {
            let first = self.due.iter().min_by_key(|(_, due)| **due);
            let Some(host) = first.map(|(host, _)| *host) else {
                return;
            };
            self.due.remove(&host);
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

/// Returns the address under which a client is counted: an IPv4 address, or the first 64 bits of an IPv6 address.
fn host_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn a_host_gets_some_invites_at_once_and_then_one_at_a_time() {
        let (mut hosts, start) = (Hosts::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(hosts.take(ip(1), start), Ok(()));
        }
        assert_eq!(hosts.take(ip(1), start), Err(EVERY));
        // Others get theirs.
        assert_eq!(hosts.take(ip(2), start), Ok(()));
        let soon = start + EVERY / 3;
        assert_eq!(hosts.take(ip(1), soon), Err(EVERY * 2 / 3));
        assert_eq!(hosts.take(ip(1), start + EVERY), Ok(()));
        assert_eq!(hosts.take(ip(1), start + EVERY), Err(EVERY));
        let later = start + EVERY * 1000;
        for _ in 0..BURST {
            assert_eq!(hosts.take(ip(1), later), Ok(()));
        }
        assert_eq!(hosts.take(ip(1), later), Err(EVERY));
    }

    #[test]
    fn the_memory_for_hosts_is_bounded_and_the_one_that_waits_for_least_is_forgotten() {
        let (mut hosts, start) = (Hosts::default(), Instant::now());
        for _ in 0..BURST {
            hosts.take(ip(0), start).unwrap();
        }
        for n in 1..=u32::try_from(MAX_HOSTS).unwrap() {
            // Not so fast that all together have too many.
            hosts.all_due = None;
            hosts.take(ip(n), start).unwrap();
        }
        assert_eq!(hosts.due.len(), MAX_HOSTS);
        assert_eq!(hosts.take(ip(0), start), Err(EVERY));
    }

    #[test]
    fn all_hosts_together_get_a_limited_number_at_once() {
        let (mut hosts, start) = (Hosts::default(), Instant::now());
        for n in 0..BURST_OF_ALL {
            assert_eq!(hosts.take(ip(n), start), Ok(()), "{n}");
        }
        assert_eq!(hosts.take(ip(9_999), start), Err(EVERY_OF_ALL));
        assert_eq!(hosts.take(ip(9_999), start + EVERY_OF_ALL), Ok(()));
    }

    #[test]
    fn addresses_of_one_network_are_one_host() {
        let same = |a: &str, b: &str| host_of(a.parse().unwrap()) == host_of(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
