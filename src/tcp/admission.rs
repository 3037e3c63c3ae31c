//! How many strangers may be in handshake at a time.
//!
//! It counts and decides; it closes nothing. Invariant: the counts are those of the guards alive.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::TcpConfig;
use crate::rt::sync::{Mutex, MutexGuard};

/// Counts strangers, in all and by address. Clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: usize,
    max_per_ip: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// A stranger that was let in to the handshake; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Admission {
    pub(super) fn new(config: &TcpConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                max: config.max_unauthenticated,
                max_per_ip: config.max_unauthenticated_per_ip,
                counts: Mutex::default(),
            }),
        }
    }

    /// A place for a stranger from `ip`, if there is one.
    pub(super) fn admit(&self, ip: IpAddr) -> Option<Admitted> {
        let ip = host_of(ip);
        let mut counts = self.shared.lock();
        if counts.all >= self.shared.max {
            return None;
        }
        let of_ip = counts.by_ip.entry(ip).or_default();
        if *of_ip >= self.shared.max_per_ip {
            return None;
        }
        *of_ip += 1;
        counts.all += 1;
        Some(Admitted {
            shared: Arc::clone(&self.shared),
            ip,
        })
    }
}

/// The address by which a host is counted.
fn host_of(ip: IpAddr) -> IpAddr {
    // An IPv4 peer of a dual-stack listener is one address, however it is written.
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        // An IPv6 host has a network of 64 bits to itself (RFC 4291, section 2.5.1), and so any
        // number of addresses.
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
        counts.all = counts.all.saturating_sub(1);
        if let Some(of_ip) = counts.by_ip.get_mut(&self.ip) {
            *of_ip = of_ip.saturating_sub(1);
            if *of_ip == 0 {
                counts.by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max: usize, max_per_ip: usize) -> Admission {
        Admission::new(&TcpConfig {
            max_unauthenticated: max,
            max_unauthenticated_per_ip: max_per_ip,
            ..TcpConfig::default()
        })
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
    fn a_host_is_one_however_many_addresses_it_has() {
        let admission = admission(9, 1);
        let admit = |ip: &str| admission.admit(ip.parse().unwrap());
        let _first = admit("2001:db8:0:1::1").unwrap();
        assert!(admit("2001:db8:0:1:ffff::2").is_none());
        let _second = admit("2001:db8:0:2::1").unwrap();
        let _third = admit("::ffff:10.0.0.1").unwrap();
        assert!(admit("10.0.0.1").is_none());
    }

    #[test]
    fn an_address_that_has_gone_leaves_no_trace() {
        let admission = admission(3, 3);
        drop(admission.admit([10, 0, 0, 1].into()).unwrap());
        assert!(admission.shared.lock().by_ip.is_empty());
    }
}
