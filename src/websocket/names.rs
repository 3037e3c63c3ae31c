//! Names that stand for no address, and the addresses that stand for them.
//!
//! A browser asks DNS for nobody but itself, and a URL has a path and perhaps TLS, which an
//! address has not. So a name gets an address out of the discard-only prefix 100::/64 (RFC 6666),
//! which no network routes. It depends on the URL alone and means something in this process only.
//! Invariant: bounded; the name that was used least recently is forgotten first.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use blake2::{Blake2s256, Digest};
use web_sys::Url;

use super::error::NameError;
use super::page;
use crate::rt::sync::Mutex;

/// Names that are remembered. A tab knows a handful: its seeds and relays.
const MAX_NAMES: usize = 256;

/// 100::/64, the discard-only prefix.
const PREFIX: [u16; 4] = [0x100, 0, 0, 0];

/// The names that were resolved, shared by the clones of a transport.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(Arc<Mutex<VecDeque<Named>>>);

#[derive(Debug)]
struct Named {
    addr: SocketAddr,
    url: String,
}

impl Names {
    /// The address for what a person wrote.
    pub(super) fn resolve(&self, name: &str) -> Result<SocketAddr, NameError> {
        let name = name.trim();
        if let Ok(addr) = name.parse() {
            return Ok(addr);
        }
        let written = if name
            .split_once(':')
            .is_some_and(|(_, rest)| rest.starts_with("//"))
        {
            name.to_owned()
        } else {
            // The port has to be written: this is no web site.
            if !name.contains(':') {
                return Err(error(name, "the port is missing"));
            }
            // A page that came over TLS may not open anything else, but to its own machine.
            let own_machine = name
                .rsplit_once(':')
                .is_some_and(|(host, _)| host.eq_ignore_ascii_case("localhost"));
            let scheme = if page::is_https() && !own_machine {
                "wss"
            } else {
                "ws"
            };
            format!("{scheme}://{name}/")
        };
        let url = Url::new(&written).map_err(|_| error(name, "not a URL"))?;
        let default_port = match url.protocol().as_str() {
            "ws:" => 80,
            "wss:" => 443,
            _ => return Err(error(name, "neither ws:// nor wss://")),
        };
        if !url.hash().is_empty() {
            return Err(error(name, "a WebSocket's URL has no fragment"));
        }
        // Not written, or the scheme's own.
        let port = url.port().parse().unwrap_or(default_port);
        if port == 0 {
            return Err(error(name, "port 0 cannot be dialled"));
        }
        let plain = url.protocol() == "ws:"
            && url.pathname() == "/"
            && url.search().is_empty()
            && url.username().is_empty();
        if let (true, Some(ip)) = (plain, ip(&url.hostname())) {
            return Ok(SocketAddr::new(ip, port));
        }
        Ok(self.remember(url.href(), port))
    }

    /// The URL behind an address of ours.
    pub(super) fn url(&self, addr: SocketAddr) -> Option<String> {
        let mut names = self.0.lock();
        let index = names.iter().position(|named| named.addr == addr)?;
        let named = names.remove(index)?;
        let url = named.url.clone();
        names.push_back(named);
        Some(url)
    }

    fn remember(&self, url: String, port: u16) -> SocketAddr {
        let addr = SocketAddr::new(stand_in(&url), port);
        let mut names = self.0.lock();
        names.retain(|named| named.addr != addr);
        if names.len() >= MAX_NAMES {
            names.pop_front();
        }
        names.push_back(Named { addr, url });
        addr
    }
}

/// Whether `addr` stands for a name.
pub(super) fn is_stand_in(addr: SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V6(ip) if ip.segments().starts_with(&PREFIX))
}

/// The URL that dials an address of a network.
pub(super) fn plain_url(addr: SocketAddr) -> String {
    // Made anew, since a URL has no room for an IPv6 scope.
    format!("ws://{}/", SocketAddr::new(addr.ip(), addr.port()))
}

fn stand_in(url: &str) -> IpAddr {
    let digest = Blake2s256::digest(url.as_bytes());
    let tail = digest
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let prefix = u128::from(PREFIX[0]) << 112;
    IpAddr::V6(Ipv6Addr::from(prefix | u128::from(tail)))
}

/// The address that a URL's host is, in the normal form that the browser brings it to.
pub(super) fn ip(host: &str) -> Option<IpAddr> {
    if host == "localhost" {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    match host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')) {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

fn error(name: &str, what: &'static str) -> NameError {
    NameError {
        name: name.chars().take(100).collect(),
        what,
    }
}
