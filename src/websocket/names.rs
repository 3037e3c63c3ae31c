//! URLs and host names, and the addresses that stand for them.
//!
//! A page cannot query DNS, and a URL may contain a path or TLS, which a socket address cannot
//! express. A name is therefore given an address that stands for it (`net/stand_ins.rs`), and can be dialled only in the
//! process that resolved the name. This file opens no connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use web_sys::Url;

use super::environment;
use super::error::NameError;
use crate::net::stand_ins::StandIns;
use crate::rt;

const NO_PORT: &str = "port 0 cannot be dialled";

/// The names that were resolved. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct ResolvedNames(StandIns<String>);

impl ResolvedNames {
    /// Returns the address of a name as a person writes it, or an address that stands for it.
    pub(super) fn resolve(&self, name: &str) -> Result<SocketAddr, NameError> {
        Ok(match target(name)? {
            Target::Addr(addr) => addr,
            Target::Url { url, port } => self.0.remember(&url, port, url.clone()),
        })
    }

    /// Returns the URL for which `addr` stands, if it is remembered, and marks it as used.
    pub(super) fn url(&self, addr: SocketAddr) -> Option<String> {
        self.0.get(addr)
    }
}

/// What a name refers to.
pub(super) enum Target {
    Addr(SocketAddr),
    /// A URL in its normal form, and the port that it dials.
    Url {
        url: String,
        port: u16,
    },
}

/// Reads a name as a person writes it.
pub(super) fn target(name: &str) -> Result<Target, NameError> {
    let name = name.trim();
    if let Ok(addr) = name.parse::<SocketAddr>() {
        return match addr.port() {
            0 => Err(error(name, NO_PORT)),
            _ => Ok(Target::Addr(addr)),
        };
    }
    let written = if name
        .split_once(':')
        .is_some_and(|(_, rest)| rest.starts_with("//"))
    {
        name.to_owned()
    } else {
        // Unlike for a web site, there is no port that could be assumed.
        let (host, port) = name.rsplit_once(':').unwrap_or((name, ""));
        if port.is_empty() {
            return Err(error(name, "the port is missing"));
        }
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error(name, "the port is not a number"));
        }
        if !rt::is_host(host) {
            return Err(error(
                name,
                "what precedes the port is not the name of a host",
            ));
        }
        // A page that was loaded over TLS may open `ws://` only to its own machine.
        let own_machine = host.eq_ignore_ascii_case("localhost");
        let scheme = if environment::is_https() && !own_machine {
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
        return Err(error(name, "a WebSocket URL has no fragment"));
    }
    // The URL has no port if none was written, or if it is the default of the scheme.
    let port = url.port().parse().unwrap_or(default_port);
    if port == 0 {
        return Err(error(name, NO_PORT));
    }
    let plain = url.protocol() == "ws:"
        && url.pathname() == "/"
        && url.search().is_empty()
        && url.username().is_empty();
    if let (true, Some(ip)) = (plain, ip(&url.hostname())) {
        return Ok(Target::Addr(SocketAddr::new(ip, port)));
    }
    let url = url.href();
    Ok(Target::Url { url, port })
}

/// Returns the URL that dials an ordinary address.
pub(super) fn plain_url(addr: SocketAddr) -> String {
    // Without the scope and flow of an IPv6 address, which a URL cannot contain.
    format!("ws://{}/", SocketAddr::new(addr.ip(), addr.port()))
}

/// Returns the host of a URL in its normal form, the same one for all spellings of an IP address.
pub(super) fn host(url: &str) -> String {
    let host = Url::new(url).map_or_else(|_| String::new(), |url| url.hostname());
    ip(&host).map_or(host, |ip| ip.to_string())
}

/// Returns whether the host of a URL is a loopback address, or the name of one.
pub(super) fn is_local(url: &str) -> bool {
    let host = Url::new(url).map_or_else(|_| String::new(), |url| url.hostname());
    ip(&host).is_some_and(|ip| ip.is_loopback())
}

/// Returns the IP address that the host of a URL is, if any. The host must be in the normal form
/// into which the browser brings it.
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
