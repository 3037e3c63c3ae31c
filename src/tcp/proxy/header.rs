//! The header of the PROXY protocol, version 2, in which a proxy states the address of its client.
//!
//! The specification is `proxy-protocol.txt` of HAProxy. Nothing is read from the network here. Invariant:
//! a header is at most [`MAX_LEN`] bytes long.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first bytes of a header. No other protocol that is served here begins with them.
pub(in crate::tcp) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The length of the part of a header that is always there, in bytes.
pub(super) const FIXED_LEN: usize = 16;
/// The longest header that is accepted, in bytes. Proxies add some hundred bytes of their own.
pub(super) const MAX_LEN: usize = 4096;

/// The length of a whole header, of which `fixed` are the first bytes.
pub(super) fn len(fixed: &[u8; FIXED_LEN]) -> Result<usize, &'static str> {
    let [signature @ .., version, _family, high, low] = fixed;
    if signature != &SIGNATURE {
        return Err("it does not begin with the signature of version 2");
    }
    if version >> 4 != 2 {
        return Err("its version is not 2");
    }
    let len = FIXED_LEN + usize::from(u16::from_be_bytes([*high, *low]));
    if len > MAX_LEN {
        return Err("it is too long");
    }
    Ok(len)
}

/// Returns the client that a whole header states, or `None` if the proxy itself is the client, as for
/// a health check.
pub(super) fn client(header: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const UNSPECIFIED: u8 = 0x00;
    const TCP_IPV4: u8 = 0x11;
    const TCP_IPV6: u8 = 0x21;
    let command = header.get(SIGNATURE.len()).copied().unwrap_or_default();
    let family = header.get(SIGNATURE.len() + 1).copied();
    let addresses = header.get(FIXED_LEN..).unwrap_or_default();
    match (command, family.unwrap_or_default()) {
        (LOCAL, _) | (PROXY, UNSPECIFIED) => Ok(None),
        (PROXY, TCP_IPV4) => {
            let (ip, port) = source::<4>(addresses)?;
            Ok(Some((Ipv4Addr::from(ip), port).into()))
        }
        (PROXY, TCP_IPV6) => {
            let (ip, port) = source::<16>(addresses)?;
            Ok(Some((Ipv6Addr::from(ip), port).into()))
        }
        (PROXY, _) => Err("its client does not use TCP over IP"),
        _ => Err("its command is unknown"),
    }
}

/// Returns the client's address, of `N` bytes, and its port. `block` has the client's address, the proxy's, and
/// their ports in the same order; the values of a proxy may follow.
fn source<const N: usize>(block: &[u8]) -> Result<([u8; N], u16), &'static str> {
    let rest = block.get(2 * N..).and_then(<[u8]>::first_chunk);
    let (Some(ip), Some([high, low, _, _])) = (block.first_chunk(), rest) else {
        return Err("its addresses are cut off");
    };
    Ok((*ip, u16::from_be_bytes([*high, *low])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((addresses.len() as u16).to_be_bytes());
        header.extend(addresses);
        header
    }

    fn read(header: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
        let len = len(header.first_chunk().unwrap())?;
        assert_eq!(len, header.len());
        client(header)
    }

    #[test]
    fn the_client_is_the_source_of_the_connection() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let expected = "192.0.2.1:4660".parse().unwrap();
        assert_eq!(read(&header(0x21, 0x11, &v4)), Ok(Some(expected)));
        // With the values that a proxy adds.
        let long = [&v4[..], &[4, 0, 1, 0]].concat();
        assert_eq!(read(&header(0x21, 0x11, &long)), Ok(Some(expected)));
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 1]);
        v6[15] = 1;
        v6[33] = 7;
        let expected = "[2001::1]:7".parse().unwrap();
        assert_eq!(read(&header(0x21, 0x21, &v6)), Ok(Some(expected)));
        assert_eq!(read(&header(0x20, 0x00, &[])), Ok(None));
        assert_eq!(read(&header(0x21, 0x00, &v4)), Ok(None));
    }

    #[test]
    fn a_header_whose_addresses_are_cut_off_is_refused_at_every_length() {
        for (family, whole) in [(0x11, 12), (0x21, 36)] {
            let block = [1; 40];
            for len in 0..=block.len() {
                let stated = read(&header(0x21, family, &block[..len]));
                assert_eq!(stated.is_ok(), len >= whole, "family {family}: {len}");
            }
        }
        // Without addresses, whatever follows is skipped.
        for len in 0..=40 {
            assert_eq!(read(&header(0x20, 0x11, &[1; 40][..len])), Ok(None));
            assert_eq!(read(&header(0x21, 0x00, &[1; 40][..len])), Ok(None));
        }
    }

    #[test]
    fn a_header_has_a_longest_length() {
        let rest = MAX_LEN - FIXED_LEN;
        assert!(read(&header(0x21, 0x11, &vec![1; rest])).is_ok());
        assert!(read(&header(0x21, 0x11, &vec![1; rest + 1])).is_err());
    }

    #[test]
    fn a_header_of_version_1_is_refused() {
        let (v4, v6) = (
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP6 ::1 ::1 1 2\r\n",
        );
        for text in [v4, v6, "PROXY UNKNOWN\r\n   "] {
            let fixed = text.as_bytes().first_chunk().unwrap();
            assert_eq!(
                len(fixed),
                Err("it does not begin with the signature of version 2")
            );
        }
    }

    #[test]
    fn other_headers_are_refused() {
        let v4 = [0; 12];
        assert!(read(&header(0x21, 0x11, &v4[..9])).is_err());
        assert!(read(&header(0x21, 0x21, &v4)).is_err());
        assert!(read(&header(0x21, 0x12, &v4)).is_err());
        assert!(read(&header(0x22, 0x11, &v4)).is_err());
        assert!(read(&header(0x11, 0x11, &v4)).is_err());
        assert!(read(&header(0x21, 0x11, &[0; MAX_LEN])).is_err());
        assert!(len(b"GET / HTTP/1.1\r\n").is_err());
    }
}
