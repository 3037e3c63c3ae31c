//! Proxies that are trusted to state the address of their client.
//!
//! A proxy of TCP streams does so in a header of the PROXY protocol before the stream, and a proxy of HTTP
//! in the field `X-Forwarded-For` of an upgrade. Limits then apply to the client instead of the proxy.
//! Nothing is authenticated here. Invariant: what a host states that is not trusted changes nothing.
//!
//! | file | contents |
//! |---|---|
//! | `network` | networks of IP addresses, in which trusted proxies are |
//! | `header` | the header of the PROXY protocol, version 2 |
//! | `error` | the error of parsing a network |

mod error;
mod header;
mod network;

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::{Buf as _, BytesMut};

use super::error::AcceptError;
use super::stream::Stream;
pub use error::NetworkError;
pub(super) use header::SIGNATURE;
pub use network::Network;

/// The proxies that are trusted.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies {
    pub(super) proxy_protocol: Vec<Network>,
    pub(super) forwarded_for: Vec<Network>,
}

impl Proxies {
    /// Returns whether a host at `ip` may state a client in any way.
    pub(super) fn trusts(&self, ip: IpAddr) -> bool {
        self.speaks_proxy_protocol(ip) || self.forwards_for(ip)
    }

    /// Returns whether the streams from `ip` begin with a header of the PROXY protocol.
    pub(super) fn speaks_proxy_protocol(&self, ip: IpAddr) -> bool {
        contains(&self.proxy_protocol, ip)
    }

    /// Returns whether the field `X-Forwarded-For` in requests from `ip` is believed.
    pub(super) fn forwards_for(&self, ip: IpAddr) -> bool {
        contains(&self.forwarded_for, ip)
    }

    /// Returns the client whose request `peer` has passed on. `forwarded_for` are the values of the field
    /// of that name, in their order: each proxy appends the address that it has the request from. So the
    /// list is read from the right, past the proxies that are trusted; what is left of the first other
    /// address is a claim of that client.
    pub(super) fn client(&self, peer: IpAddr, forwarded_for: &[&[u8]]) -> IpAddr {
        let mut client = peer;
        let hops = forwarded_for.iter().rev();
        let hops = hops.flat_map(|value| value.rsplit(|byte| *byte == b','));
        for hop in hops {
            if !self.forwards_for(client) {
                break;
            }
            match address(hop) {
                Some(ip) => client = ip,
                None => break,
            }
        }
        client
    }
}

fn contains(networks: &[Network], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(ip))
}

/// Returns the address in an element of the list, which may have a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let ip: Option<IpAddr> = bare.unwrap_or(text).parse().ok();
    let ip = ip.or_else(|| text.parse::<SocketAddr>().ok().map(|addr| addr.ip()));
    ip.map(|ip| ip.to_canonical())
}

/// Reads the header of the PROXY protocol with which `stream` must begin. Returns the client, or `None`
/// if it is the proxy itself. Bytes after the header that have been read are left in `received`.
pub(super) async fn read_header(
    stream: &mut Stream,
    received: &mut BytesMut,
) -> Result<Option<SocketAddr>, AcceptError> {
    let malformed = |what| AcceptError::ProxyHeader { what };
    let mut needed = header::FIXED_LEN;
    loop {
        let signature = received.iter().zip(header::SIGNATURE);
        if signature
            .into_iter()
            .any(|(byte, expected)| *byte != expected)
        {
            return Err(malformed(
                "it does not begin with the signature of version 2",
            ));
        }
        if let Some(fixed) = received.first_chunk() {
            needed = header::len(fixed).map_err(malformed)?;
        }
        if let Some(header) = received.get(..needed) {
            let client = header::client(header).map_err(malformed)?;
            received.advance(needed);
            return Ok(client);
        }
        received.reserve(512);
        if stream.read_buf(received).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_proxies_is_read_from_the_right_past_those_that_are_trusted() {
        let proxies = Proxies {
            proxy_protocol: Vec::new(),
            forwarded_for: vec!["10.0.0.0/8".parse().unwrap()],
        };
        let client = |peer: &str, fields: &[&str]| {
            let fields: Vec<_> = fields.iter().map(|field| field.as_bytes()).collect();
            proxies.client(peer.parse().unwrap(), &fields).to_string()
        };
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        // What a client claims is on the left.
        let claim = ["198.51.100.9, 192.0.2.1"];
        assert_eq!(client("10.0.0.1", &claim), "192.0.2.1");
        assert_eq!(
            client("10.0.0.1", &["10.9.9.9,192.0.2.1 ,10.0.0.2"]),
            "192.0.2.1"
        );
        // Lists on several lines are one list.
        let lines = ["198.51.100.9", "192.0.2.1", "10.0.0.2"];
        assert_eq!(client("10.0.0.1", &lines), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        // Another host than a proxy changes nothing.
        assert_eq!(client("192.0.2.7", &["198.51.100.9"]), "192.0.2.7");
        // A text that is no address ends the list.
        assert_eq!(client("10.0.0.1", &["192.0.2.1, unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["192.0.2.1:99"]), "192.0.2.1");
    }
}
