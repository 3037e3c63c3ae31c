//! Hosts: the addresses that share one limit, and which of them pays for a limit that all share.

mod takers;

use std::net::{IpAddr, Ipv4Addr};

pub(crate) use takers::Takers;

/// Prefix lengths of a site (48 bits) and a host (64 bits), in bytes. A site is given at most a /48 (RFC 6177), which
/// has 65,536 hosts. A provider's own network is not compared: all its users, who may be very many, would pay for one
/// of them.
const NETWORKS: [usize; 2] = [6, 8];

/// The lengths of the IPv6 networks that a registry gives to providers, in bytes: several /32, since a provider
/// may have a /29 or more, and a /32. Each has at least 65,536 sites, which all can have one connection.
const PROVIDERS: [usize; 2] = [3, 4];

/// A provider's network pays if it has more than one connection in this many of all, and no site stands out.
const PROVIDER_SHARE: usize = 4;

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
/// connection. Of IPv6, that host is looked for in the site that has the most, since one site has as many
/// hosts as it likes. If several sites have the most, nothing tells those of honest peers from those of someone
/// with a whole provider's network, who would outlast them by being newer: those in the network of a provider
/// with more than a quarter of all connections pay then. `running` lists the hosts of the connections, oldest
/// first. Returns an index, or `None` if there are none.
pub(crate) fn one_to_end(running: &[Host], newcomer: Host) -> Option<usize> {
    let mut left: Vec<(usize, Host)> = running.iter().copied().enumerate().collect();
    for len in NETWORKS {
        let counts = Counts::of(&left, newcomer, len);
        let networks = || left.iter().map(|(_, host)| host.network(len));
        let most = networks().map(|network| counts.count(network)).max()?;
        let mut tied = left.clone();
        tied.retain(|(_, host)| counts.count(host.network(len)) == most);
        // Within a site, all have the same provider.
        of_crowded_provider(&mut tied, newcomer, running.len());
        // The first, whose connection is the oldest.
        let pays = tied.first()?.1.network(len);
        left.retain(|(_, host)| host.network(len) == pays);
        if matches!(pays, Host::V4(_)) {
            break;
        }
    }
    left.first().map(|(index, _)| *index)
}

/// Keeps those of `tied` that are in the network of a provider which has too many of them, if there is one.
/// IPv4 addresses are too few for anyone to have very many.
fn of_crowded_provider(tied: &mut Vec<(usize, Host)>, newcomer: Host, running: usize) {
    for len in PROVIDERS {
        let counts = Counts::of(tied, newcomer, len);
        let networks = tied.iter().map(|(_, host)| host.network(len));
        let networks = networks.filter(|network| matches!(network, Host::V6(_)));
        let crowded = networks.rev().max_by_key(|network| counts.count(*network));
        let share = |network| counts.count(network).saturating_mul(PROVIDER_SHARE);
        match crowded.filter(|network| share(*network) > running) {
            Some(crowded) => tied.retain(|(_, host)| host.network(len) == crowded),
            None => return,
        }
    }
}

/// How many connections, dials or peers each host, or network of hosts, has.
pub(crate) struct Counts(Vec<Host>);

impl Counts {
    /// Counts those of `hosts`.
    pub(crate) fn of_hosts(hosts: impl Iterator<Item = Host>) -> Self {
        let mut hosts: Vec<Host> = hosts.collect();
        hosts.sort_unstable();
        Self(hosts)
    }

    /// Counts those of `running` and `newcomer` by their networks of `len` bytes.
    fn of(running: &[(usize, Host)], newcomer: Host, len: usize) -> Self {
        let hosts = running.iter().map(|(_, host)| *host).chain([newcomer]);
        Self::of_hosts(hosts.map(|host| host.network(len)))
    }

    pub(crate) fn count(&self, own: Host) -> usize {
        let begin = self.0.partition_point(|other| *other < own);
        let from_own = self.0.get(begin..).unwrap_or_default();
        from_own.partition_point(|other| *other == own)
    }
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

    fn host(text: &str) -> Host {
        Host::of(text.parse().unwrap())
    }

    /// Lets 10,000 newcomers in, of which `nth` returns the addresses, while 60 of 64 places are theirs. Returns
    /// which of the honest ones are left.
    fn left_after(honest: &[&str], nth: impl Fn(u32) -> String) -> Vec<usize> {
        let of_peers: Vec<_> = honest.iter().map(|text| host(text)).collect();
        let mut running = of_peers.clone();
        running.extend((0..64 - running.len() as u32).map(|n| host(&nth(n))));
        for n in 64..10_000 {
            let newcomer = host(&nth(n));
            let end = one_to_end(&running, newcomer).unwrap();
            running.remove(end);
            running.push(newcomer);
        }
        let is_left = |n: &usize| running.contains(&of_peers[*n]);
        (0..honest.len()).filter(is_left).collect()
    }

    #[test]
    fn someone_with_the_network_of_a_provider_costs_no_honest_peer_its_handshake() {
        let honest = [
            "192.0.2.1",
            "198.51.100.7",
            "2001:db8:1:1::1",
            "2a02:1:1:1::1",
        ];
        let all = vec![0, 1, 2, 3];
        // One connection from each site of a /32, and from each site of a /29.
        let of_32 = |n: u32| format!("2a00:1234:{:x}::1", n % 65_536);
        assert_eq!(left_after(&honest, of_32), all);
        let of_29 = |n: u32| format!("2a00:{:x}:{:x}::1", 0x1230 + n % 8, n / 8);
        assert_eq!(left_after(&honest, of_29), all);
        // Two, so that each site stands out.
        let twice = |n: u32| format!("2a00:1234:{:x}::1", n / 2 % 65_536);
        assert_eq!(left_after(&honest, twice), all);
        // Several such networks.
        let of_three = |n: u32| format!("2a0{}:1234:{:x}::1", n % 3, n % 65_536);
        assert_eq!(left_after(&honest, of_three), all);
    }

    #[test]
    fn the_users_of_a_provider_do_not_pay_for_a_few_of_them_or_for_one_site() {
        // A quarter of the connections are from sites of one provider: the oldest of all ends.
        let mut running: Vec<_> = (1..=12)
            .map(|n| host(&format!("2001:{n:x}00::1")))
            .collect();
        running.extend((0..4).map(|n| host(&format!("2a00:1234:{n:x}::1"))));
        assert_eq!(one_to_end(&running, host("2a02::1")), Some(0));
        // One more from there, and the oldest of that provider does.
        assert_eq!(one_to_end(&running, host("2a00:1234:9::1")), Some(12));
        // A site that has more than others pays, whoever its provider is.
        running.push(host("2001:100::9"));
        running.push(host("2a00:1234:a::1"));
        let end = one_to_end(&running, host("2a00:1234:b::1")).unwrap();
        assert_eq!(running[end].network(6), host("2001:100::1").network(6));
    }
}
