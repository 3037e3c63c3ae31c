//! Parsers of single values: addresses, keys and paths.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};
use gossip_transport::gossip::{PublicUrl, PublicUrlError};
use gossip_transport::net::{NetTransport as _, canonical, is_link_local};
use gossip_transport::tcp::TcpTransport;

use crate::shown;

/// The name of a cluster that is given no other.
pub(crate) const DEFAULT_CLUSTER: &str = "gossip";

/// What is wrong with a key or value that contains a secret.
pub(crate) const HAS_SECRET: &str =
    "contains a secret, but all members can read keys and their values";

/// Returns a parser of paths. It refuses a secret in the place of the file with it, whose name would be printed.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|path| {
        if path.is_empty() {
            return Err("is empty".to_owned());
        }
        if shown::has_secret(&path.to_string_lossy()) {
            return Err(
                "must be the path of a file, and not a secret, which would be printed".to_owned(),
            );
        }
        Ok(PathBuf::from(path))
    })
}

/// Parses an address into its canonical form. Of a host name, it takes the first IPv4 address, or else
/// the first one.
pub(crate) fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    const EXPECTED: &str = "must be IP:PORT or HOST:PORT, such as 127.0.0.1:7946 or localhost:7946";
    refuse_link_local(text)?;
    let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
    if port.parse::<u16>().is_err() {
        return Err(EXPECTED.to_owned());
    }
    let addrs = text.to_socket_addrs().map_err(|error| match host {
        "" => EXPECTED.to_owned(),
        host => format!(
            "the host name {:?} cannot be looked up: {error}",
            shown::brief(host)
        ),
    })?;
    preferred(addrs).ok_or_else(|| "the host name has no address".to_owned())
}

/// Returns the canonical form of the first IPv4 address, or else of the first one that is not link-local.
fn preferred(addrs: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let addrs = addrs.map(canonical).filter(|addr| !is_link_local(*addr));
    let addrs: Vec<_> = addrs.collect();
    let first_ipv4 = addrs.iter().find(|addr| addr.is_ipv4());
    first_ipv4.or(addrs.first()).copied()
}

pub(crate) fn parse_seed(text: &str) -> Result<String, String> {
    refuse_link_local(text)?;
    let checked = TcpTransport::default().check_name(text);
    checked.map_err(|error| shown::hide(&error.to_string()).into_owned())?;
    Ok(text.to_owned())
}

/// Parses the URL at which browser tabs reach a node. It refuses a secret in it, which everyone could read.
pub(crate) fn parse_public_url(text: &str) -> Result<PublicUrl, String> {
    if shown::has_secret(text) {
        return Err("contains a secret, but everyone can read this URL".to_owned());
    }
    text.parse()
        .map_err(|error: PublicUrlError| error.to_string())
}

/// Fails with an explanation if `text` is an address that is valid on one interface only, whether the
/// interface is named (`%eth0`), numbered or left out.
fn refuse_link_local(text: &str) -> Result<(), String> {
    let has_scope = text.starts_with('[') && text.contains('%');
    if has_scope || text.parse().is_ok_and(is_link_local) {
        return Err(
            "link-local addresses mean another machine on each network, and members cannot pass \
             them on: use a global or unique local IPv6 address, or IPv4"
                .to_owned(),
        );
    }
    Ok(())
}

/// Parses a number of things, `usize` or `u64`.
pub(crate) fn parse_count<T: FromStr>(text: &str) -> Result<T, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().map_err(|_| {
        if digits {
            "is too large".to_owned()
        } else {
            "must be a whole number of at least 0, such as 100".to_owned()
        }
    })
}

pub(crate) fn parse_number(text: &str) -> Result<f64, String> {
    let number = text.parse();
    number.map_err(|_| "must be a number such as 8 or 9.5".to_owned())
}

/// Parses the name of a key of a member. Others of its rules depend on the value.
pub(crate) fn parse_key(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty, but must be the name of a key".to_owned());
    }
    Ok(text.to_owned())
}

pub(crate) fn parse_key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(_) if shown::has_secret(text) => Err(HAS_SECRET.to_owned()),
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_addresses_of_a_host_name_the_first_ipv4_address_is_taken() {
        let preferred = |addrs: &[&str]| {
            let first = preferred(addrs.iter().map(|addr| addr.parse().unwrap()));
            first.map(|addr| addr.to_string())
        };
        let first = preferred(&["[2001:db8::1]:7", "192.0.2.1:7", "192.0.2.2:7"]);
        assert_eq!(first.as_deref(), Some("192.0.2.1:7"));
        let first = preferred(&["[fe80::1]:7", "[2001:db8::1]:7", "[2001:db8::2]:7"]);
        assert_eq!(first.as_deref(), Some("[2001:db8::1]:7"));
        assert_eq!(preferred(&["[fe80::1]:7"]), None);
    }
}
