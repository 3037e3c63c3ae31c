//! Hosts: the addresses that share one limit.

use std::net::{IpAddr, Ipv4Addr};

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
}
