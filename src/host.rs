//! Hosts: the addresses that share one limit, and which of them pays for a limit that all share.

use std::net::{IpAddr, Ipv4Addr};

/// The lengths of the IPv6 networks that are compared, in bytes: what a provider gives to a site at most
/// (RFC 6177), which has 65,536 hosts then, and a host. Not a provider's own network: all its users, who
/// may be very many, would pay for one of them.
const NETWORKS: [usize; 2] = [6, 8];

/// A host as limits see it: an IPv4 address, or the first 64 bits of an IPv6 address, since a host
/// usually has all addresses that begin with them (RFC 4291, section 2.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Host {
    V4(Ipv4Addr),
    V6([u8; 8]),
}

impl Host {
    /// Returns the host of an address. An IPv4 address mapped into IPv6, as a listener on both sees it, is its
    /// IPv4 host.
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }

    /// Returns the first host of the network of `len` bytes that contains this one. An IPv4 host is a network
    /// of its own.
    fn network(self, len: usize) -> Self {
        match self {
            Self::V4(_) => self,
            Self::V6(mut prefix) => {
                prefix.iter_mut().skip(len).for_each(|byte| *byte = 0);
                Self::V6(prefix)
            }
        }
    }
}

/// Chooses the connection to end so that one more from `newcomer` fits into a limit that all hosts share.
///
/// It is the oldest of the host that has the most, `newcomer` counted. Ties go to the host with the oldest
/// connection. Of IPv6, that host is looked for in the network that has the most, since one site has as many
/// hosts as it likes. `running` lists the hosts of the connections, oldest first. Returns an index, or `None`
/// if there are none.
pub(crate) fn one_to_end(running: &[Host], newcomer: Host) -> Option<usize> {
    let mut left: Vec<(usize, Host)> = running.iter().copied().enumerate().collect();
    for len in NETWORKS {
        let hosts = left.iter().map(|(_, host)| *host).chain([newcomer]);
        let mut networks: Vec<Host> = hosts.map(|host| host.network(len)).collect();
        networks.sort_unstable();
        let count = |own: Host| {
            let begin = networks.partition_point(|other| *other < own);
            let from_own = networks.get(begin..).unwrap_or_default();
            from_own.partition_point(|other| *other == own)
        };
        let counts = left.iter().map(|(_, host)| host.network(len));
        // Of several with the most, the first, whose connection is the oldest.
        let most = counts.rev().max_by_key(|network| count(*network))?;
        left.retain(|(_, host)| host.network(len) == most);
        if matches!(most, Host::V4(_)) {
            break;
        }
    }
    left.first().map(|(index, _)| *index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_is_its_first_64_bits() {
        let host = |text: &str| Host::of(text.parse().unwrap());
        assert_eq!(host("2001:db8:1:2::1"), host("2001:db8:1:2:ffff::9"));
        assert_ne!(host("2001:db8:1:2::1"), host("2001:db8:1:3::1"));
        assert_eq!(host("::ffff:10.0.0.1"), host("10.0.0.1"));
    }

    #[test]
    fn the_host_with_the_most_pays_with_its_oldest() {
        let host = |n: u8| Host::of([10, 0, 0, n].into());
        let cases: &[(&[u8], u8, Option<usize>)] = &[
            (&[], 1, None),
            // Every host has one, so the oldest ends.
            (&[1, 2, 3], 4, Some(0)),
            // A flood from host 9 costs host 9, whichever host comes next.
            (&[1, 9, 2, 9, 9], 3, Some(1)),
            (&[1, 9, 2, 9, 9], 9, Some(1)),
            // The newcomer counts: its host would have the most.
            (&[1, 2, 3], 3, Some(2)),
            (&[1, 1, 2], 2, Some(0)),
        ];
        for (running, newcomer, expected) in cases {
            let running: Vec<_> = running.iter().map(|n| host(*n)).collect();
            let end = one_to_end(&running, host(*newcomer));
            assert_eq!(end, *expected, "{running:?}, then {newcomer}");
        }
    }

    #[test]
    fn a_site_that_uses_many_of_its_hosts_pays_itself() {
        let honest = ["192.0.2.1", "2001:db8:1:1::1", "2001:db8:2:1::1", "fd00::1"];
        let host = |text: &str| Host::of(text.parse().unwrap());
        let of_site = |n: u32| host(&format!("2001:db8:9:{:x}::1", n % 65_536));
        let mut running: Vec<_> = honest.map(host).to_vec();
        running.extend((0..60).map(of_site));
        for n in 60..10_000 {
            let newcomer = of_site(n);
            let end = one_to_end(&running, newcomer).unwrap();
            running.remove(end);
            running.push(newcomer);
        }
        assert_eq!(running[..4], honest.map(host));
        // Within a site, the host that has the most pays.
        let running = ["2001:db8:9:1::", "2001:db8:9:2::", "2001:db8:9:2::1"].map(host);
        assert_eq!(one_to_end(&running, host("2001:db8:9:3::")), Some(1));
    }
}
