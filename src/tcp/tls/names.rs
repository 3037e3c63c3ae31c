//! Names that are dialled with TLS, and the addresses that stand for them.
//!
//! A socket address cannot express TLS, nor the name that a certificate is for. So a name is given an address that stands for
//! it (`net/stand_ins.rs`), and can be dialled only by the transport that resolved the name and its clones. This file asks no
//! DNS.

use std::net::{Ipv6Addr, SocketAddr};

use rustls::pki_types::ServerName;

use super::error::TlsNameError;
use crate::net::stand_ins::StandIns;
use crate::rt;

/// The beginning of a name that is dialled with TLS.
const SCHEME: &str = "tls://";
/// A host and a port that are dialled with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tcp) struct TlsName {
    /// The name that the certificate must be for.
    pub(super) server: ServerName<'static>,
    /// The host, with brackets if it is an IPv6 address, and the port.
    host_and_port: String,
    port: u16,
}

impl TlsName {
    /// Reads a name, or returns `None` if it does not begin with `tls://`.
    pub(in crate::tcp) fn read(name: &str) -> Option<Result<Self, TlsNameError>> {
        let rest = name.trim().strip_prefix(SCHEME)?;
        let error = || TlsNameError {
            name: name.chars().take(100).collect(),
        };
        Some(Self::parse(rest).ok_or_else(error))
    }

    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
        let bare = host.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let server = match bare {
            Some(v6) => ServerName::IpAddress(v6.parse::<Ipv6Addr>().ok()?.into()),
            None if rt::is_host(host) => ServerName::try_from(host.to_owned()).ok()?,
            None => return None,
        };
        Some(Self {
            server,
            host_and_port: format!("{}:{port}", host.to_ascii_lowercase()),
            port,
        })
    }

    /// Returns the host and the port as they are resolved and shown.
    pub(in crate::tcp) fn host_and_port(&self) -> &str {
        &self.host_and_port
    }
}

/// The names that were resolved. Clones share them.
#[derive(Debug, Clone, Default)]
pub(in crate::tcp) struct TlsNames(StandIns<TlsName>);

impl TlsNames {
    /// Remembers `name`. Returns the address that stands for it.
    pub(in crate::tcp) fn remember(&self, name: TlsName) -> SocketAddr {
        let text = format!("{SCHEME}{}", name.host_and_port);
        self.0.remember(&text, name.port, name)
    }

    /// Returns the name for which `addr` stands, if it is remembered, and marks it as used.
    pub(in crate::tcp) fn get(&self, addr: SocketAddr) -> Option<TlsName> {
        self.0.get(addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::is_dialable;

    fn read(name: &str) -> Result<TlsName, TlsNameError> {
        TlsName::read(name).unwrap()
    }

    #[test]
    fn a_name_has_a_host_and_a_port() {
        for (name, host_and_port) in [
            ("tls://Node.example:443", "node.example:443"),
            ("tls://192.0.2.1:7946", "192.0.2.1:7946"),
            ("tls://[2001:DB8::1]:7946", "[2001:db8::1]:7946"),
        ] {
            assert_eq!(read(name).unwrap().host_and_port(), host_and_port);
        }
        for name in [
            "tls://",
            "tls://node.example",
            "tls://node.example:0",
            "tls://node.example:65536",
            "tls://node.example:443/",
            "tls://:443",
            "tls://[node]:443",
            "tls://a b:443",
            "tls://2001:db8::1:443",
        ] {
            let error = read(name).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        assert_eq!(TlsName::read("node.example:443"), None);
    }

    #[test]
    fn an_address_stands_for_the_name_in_any_spelling() {
        let names = TlsNames::default();
        let addr = names.remember(read("tls://node.example:443").unwrap());
        assert_eq!(
            names.remember(read("tls://NODE.example:443").unwrap()),
            addr
        );
        assert!(!is_dialable(addr) && addr.port() == 443);
        assert_eq!(names.get(addr).unwrap().host_and_port(), "node.example:443");
        let other = names.remember(read("tls://node.example:1000").unwrap());
        assert_ne!(other, addr);
    }
}
