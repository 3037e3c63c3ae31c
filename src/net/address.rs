//! Which socket addresses can be dialled or listened on, and the one form in which they are compared.
//!
//! An address that a peer states or advertises is a claim. One that names no single machine is refused
//! wherever it enters, so that nothing is sent to it. The ranges for documentation are addresses like all
//! others: private networks and tests use them. Nothing is resolved or dialled here. Invariant: the answers
//! for an address and for its canonical form are the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::credential::is_key_address;

/// The first segments of 100::/64, the discard-only prefix (RFC 6666).
pub(crate) const DISCARD_ONLY: [u16; 4] = [0x100, 0, 0, 0];

/// The error of an address on which nothing can listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{addr} is no address to listen on: {}", why_no_machine(.addr.ip()).unwrap_or_default())]
pub struct NotListenable {
    /// The address.
    pub addr: SocketAddr,
}

/// Returns whether `addr` can be dialled, and therefore stated and advertised: it has a port, belongs to one
/// machine (not unspecified, multicast, broadcast, reserved or discard-only), and is neither an IPv6
/// link-local address nor the key address of an identity.
pub fn is_dialable(addr: SocketAddr) -> bool {
    obstacle(canonical(addr)).is_none()
}

/// Returns whether some network can dial `addr`: any can, or it is an address of 100::/64, which stands for a
/// name in a browser. Other networks refuse that.
pub(crate) fn may_be_dialled(addr: SocketAddr) -> bool {
    is_dialable(addr) || (addr.port() != 0 && is_discard_only(addr))
}

/// Checks that `addr` belongs to one machine, or is the unspecified address, which stands for all addresses
/// of this one. Whether it is an address of this machine is for the system to say.
///
/// # Errors
///
/// Fails with the address, and a text that says why.
pub fn check_listenable(addr: SocketAddr) -> Result<(), NotListenable> {
    let ip = addr.ip();
    if !ip.to_canonical().is_unspecified() && why_no_machine(ip).is_some() {
        return Err(NotListenable { addr });
    }
    Ok(())
}

/// Returns whether `addr` is an IPv6 link-local address, `fe80::/10`. Such an address means another
/// machine on each network, and a message has no room for the interface that would tell them apart.
pub fn is_link_local(addr: SocketAddr) -> bool {
    matches!(addr, SocketAddr::V6(addr) if addr.ip().is_unicast_link_local())
}

/// Returns whether `addr` is in 100::/64, the discard-only prefix.
pub(crate) fn is_discard_only(addr: SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V6(ip) if discards_everything(ip))
}

fn discards_everything(ip: Ipv6Addr) -> bool {
    ip.segments().starts_with(&DISCARD_ONLY)
}

/// Returns the only form in which `addr` is compared and sent: an IPv4 address that is mapped into IPv6
/// (`::ffff:192.0.2.1`, as a socket on `[::]` sees IPv4 peers) is that IPv4 address, and an IPv6 address has
/// neither scope nor flow label.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => addr,
        SocketAddr::V6(v6) => SocketAddr::new(v6.ip().to_canonical(), v6.port()),
    }
}

/// Returns the unspecified address with port 0 of the family of `addr`.
pub(crate) fn unspecified_like(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Returns what the text of [`ConnectError::NotDialable`](super::ConnectError::NotDialable) adds to `addr`.
pub(super) fn why_not_dialable(addr: SocketAddr) -> &'static str {
    // A network may have reasons of its own.
    obstacle(canonical(addr)).unwrap_or("nothing is known to be there")
}

/// Returns why `addr`, which is in its canonical form, cannot be dialled.
fn obstacle(addr: SocketAddr) -> Option<&'static str> {
    if let Some(why) = why_no_machine(addr.ip()) {
        Some(why)
    } else if addr.port() == 0 {
        Some("port 0 means any port")
    } else if is_link_local(addr) {
        Some(
            "link-local addresses mean another machine on each network, so use a global or unique local one",
        )
    } else if is_key_address(addr) {
        Some("it is made from a key, and leads only to a peer that is connected")
    } else {
        None
    }
}

/// Returns why `ip` does not belong to one machine, whatever the network is. The registries are those of RFC 6890.
fn why_no_machine(ip: IpAddr) -> Option<&'static str> {
    const MULTICAST: &str = "multicast addresses mean a group of machines";
    match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_broadcast() => Some("it means every machine of a network"),
        IpAddr::V4(ip) if ip.is_multicast() => Some(MULTICAST),
        IpAddr::V4(ip) if ip.octets()[0] >= 240 => Some("240.0.0.0/4 is reserved"),
        IpAddr::V4(ip) if ip.octets()[0] == 0 => Some("0.0.0.0/8 means this machine or none"),
        IpAddr::V6(ip) if ip.is_multicast() => Some(MULTICAST),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(":: means every address of this machine"),
        IpAddr::V6(ip) if discards_everything(ip) => Some("100::/64 discards everything"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ConnectError;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_one_canonical_form() {
        for (other, expected) in [
            ("192.0.2.1:7", "192.0.2.1:7"),
            ("[::ffff:192.0.2.1]:7", "192.0.2.1:7"),
            ("[2001:db8::1%3]:7", "[2001:db8::1]:7"),
            ("[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(canonical(addr(other)), addr(expected));
        }
        let labelled = std::net::SocketAddrV6::new(Ipv6Addr::LOCALHOST, 7, 9, 9);
        assert_eq!(canonical(labelled.into()), addr("[::1]:7"));
    }

    #[test]
    fn addresses_of_no_single_machine_are_neither_dialled_nor_listened_on_and_the_error_says_why() {
        for good in [
            "192.0.2.1:7",
            "10.255.255.255:7",
            "223.255.255.255:7",
            "169.254.1.1:7",
            "[::ffff:192.0.2.1]:7",
            "[fd00::1]:7",
            "[2001:db8::1]:7",
            "[100:0:0:1::1]:7",
        ] {
            assert!(is_dialable(addr(good)), "{good}");
            assert_eq!(check_listenable(addr(good)), Ok(()));
        }
        for (other, why) in [
            ("224.0.0.1:7", "multicast"),
            ("239.255.255.255:7", "multicast"),
            ("[::ffff:224.0.0.1]:7", "multicast"),
            ("[ff02::1]:7", "multicast"),
            ("[ff0e::1]:7", "multicast"),
            ("255.255.255.255:7", "every machine"),
            ("[::ffff:255.255.255.255]:7", "every machine"),
            ("240.0.0.1:7", "reserved"),
            ("255.255.255.254:7", "reserved"),
            ("[::ffff:240.0.0.1]:7", "reserved"),
            ("0.0.0.1:7", "0.0.0.0/8"),
            ("[100::1]:7", "100::/64"),
            ("[100::ffff:ffff:ffff:ffff]:7", "100::/64"),
        ] {
            let addr = addr(other);
            assert!(!is_dialable(addr), "{other}");
            let error = ConnectError::NotDialable { addr }.to_string();
            assert!(error.contains(why) && error.contains(other), "{error}");
            let error = check_listenable(addr).unwrap_err();
            assert_eq!(error, NotListenable { addr });
            let error = error.to_string();
            assert!(error.contains(why) && error.contains(other), "{error}");
        }
    }

    #[test]
    fn addresses_that_mean_nothing_elsewhere_can_be_listened_on_and_not_dialled() {
        for (other, why) in [
            ("192.0.2.1:0", "port 0"),
            ("0.0.0.0:7", "0.0.0.0/8"),
            ("[::]:7", "this machine"),
            ("[::ffff:0.0.0.0]:7", "0.0.0.0/8"),
            ("[fe80::1]:7", "link-local"),
            ("[fe80::1%2]:7", "link-local"),
            ("[2001:20::1]:7", "made from a key"),
        ] {
            let addr = addr(other);
            assert!(!is_dialable(addr), "{other}");
            let error = ConnectError::NotDialable { addr }.to_string();
            assert!(error.contains(why) && error.contains(other), "{error}");
            assert_eq!(check_listenable(addr), Ok(()));
        }
    }

    #[test]
    fn only_an_address_that_stands_for_a_name_may_be_dialled_by_another_network() {
        for (text, expected) in [
            ("[100::1]:7", true),
            ("192.0.2.1:7", true),
            ("[100::1]:0", false),
            ("[100:0:0:1::1]:0", false),
            ("224.0.0.1:7", false),
        ] {
            assert_eq!(may_be_dialled(addr(text)), expected, "{text}");
        }
    }
}
