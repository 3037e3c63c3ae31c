//! The address that a node advertises if it listens on every interface.
//!
//! Connecting a UDP socket sends nothing, but makes the system choose the interface and the source
//! address that packets to that destination would have. Invariant: nothing here waits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Destinations that stand for "any other machine" (RFC 5737 and RFC 3849: documentation only).
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// Returns the address of the interface that leads to the first of `seeds` which one leads to, or else to
/// other machines in general; with the port of `listen`. `None` if there is no such interface.
pub(crate) fn own_address(listen: SocketAddr, seeds: &[SocketAddr]) -> Option<SocketAddr> {
    let seeds = seeds.iter().map(|seed| seed.ip().to_canonical());
    let towards = seeds.chain(ANYWHERE);
    let mut own = towards.filter_map(|towards| source_towards(listen.ip(), towards));
    own.next().map(|ip| SocketAddr::new(ip, listen.port()))
}

/// Returns the address that packets from `listen`, which is unspecified, to `towards` would have.
fn source_towards(listen: IpAddr, towards: IpAddr) -> Option<IpAddr> {
    // An IPv6 socket usually accepts connections over IPv4 as well.
    if listen.is_ipv4() && towards.is_ipv6() {
        return None;
    }
    let any: IpAddr = match towards {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((towards, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_interface_towards_the_first_seed_that_one_leads_to() {
        // An IPv4 socket reaches no IPv6 address.
        let seeds = ["[::1]:7946", "127.0.0.1:7946"].map(|seed| seed.parse().unwrap());
        let own = own_address(([0, 0, 0, 0], 7001).into(), &seeds);
        assert_eq!(own, Some(([127, 0, 0, 1], 7001).into()));
        let any = (Ipv6Addr::UNSPECIFIED, 7001).into();
        for seed in ["127.0.0.1:7946", "[::ffff:127.0.0.1]:7946"] {
            let own = own_address(any, &[seed.parse().unwrap()]);
            assert_eq!(own, Some(([127, 0, 0, 1], 7001).into()));
        }
    }
}
