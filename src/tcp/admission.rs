//! The limit on connections that have not authenticated yet.
//!
//! It counts connections and decides which to admit; it does not close any. Invariant: each count
//! is the number of [`Admitted`] guards that exist, and no host without a guard takes memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::config::TcpConfig;
use crate::rt::sync::{Mutex, MutexGuard};

/// Counts unauthenticated connections, in total and per host. Clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: usize,
    max_per_host: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_host: HashMap<IpAddr, usize>,
}

/// The place of one unauthenticated connection. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Admitted {
    shared: Arc<Shared>,
    host: IpAddr,
}

impl Admission {
    pub(super) fn new(config: &TcpConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                max: config.max_unauthenticated,
                max_per_host: config.max_unauthenticated_per_ip,
                counts: Mutex::default(),
            }),
        }
    }

    /// Takes a place for a connection from `ip`. Returns `None` if its host or the total is at its
    /// limit.
    pub(super) fn admit(&self, ip: IpAddr) -> Option<Admitted> {
        let host = host_of(ip);
        let mut counts = self.shared.lock();
        if counts.total >= self.shared.max {
            return None;
        }
        let of_host = counts.by_host.entry(host).or_default();
        if *of_host >= self.shared.max_per_host {
            return None;
        }
        *of_host += 1;
        counts.total += 1;
        Some(Admitted {
            shared: Arc::clone(&self.shared),
            host,
        })
    }
}

/// Returns the address under which connections from `ip` are counted.
fn host_of(ip: IpAddr) -> IpAddr {
    // A dual-stack listener sees an IPv4 peer as an IPv4-mapped IPv6 address.
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        // An IPv6 host usually has a network of 64 bits to itself (RFC 4291, section 2.5.1), and so
        // any number of addresses.
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.shared.lock();
        counts.total = counts.total.saturating_sub(1);
        if let Some(of_host) = counts.by_host.get_mut(&self.host) {
            *of_host = of_host.saturating_sub(1);
            if *of_host == 0 {
                counts.by_host.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max: usize, max_per_host: usize) -> Admission {
        let config = TcpConfig::default()
            .with_max_unauthenticated(max)
            .with_max_unauthenticated_per_ip(max_per_host);
        Admission::new(&config)
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let admission = admission(3, 2);
        let (a, b) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = admission.admit(a).unwrap();
        let _second = admission.admit(a).unwrap();
        assert!(admission.admit(a).is_none());
        let _third = admission.admit(b).unwrap();
        assert!(admission.admit(b).is_none(), "all places are taken");
        drop(first);
        assert!(admission.admit(a).is_some());
    }

    #[test]
    fn all_addresses_of_one_host_are_counted_together() {
        let admission = admission(9, 1);
        let admit = |ip: &str| admission.admit(ip.parse().unwrap());
        let _first = admit("2001:db8:0:1::1").unwrap();
        assert!(admit("2001:db8:0:1:ffff::2").is_none());
        let _second = admit("2001:db8:0:2::1").unwrap();
        let _third = admit("::ffff:10.0.0.1").unwrap();
        assert!(admit("10.0.0.1").is_none());
    }

    #[test]
    fn a_host_without_connections_takes_no_memory() {
        let admission = admission(3, 3);
        drop(admission.admit([10, 0, 0, 1].into()).unwrap());
        assert!(admission.shared.lock().by_host.is_empty());
    }
}
