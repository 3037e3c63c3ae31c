//! [`PublicUrl`]: the URL at which browser tabs reach a member.
//!
//! Only texts are read here; nothing is resolved or dialled, and it is not known whether a member listens there.
//! Invariant: a URL is in one spelling, has at most [`PublicUrl::MAX_LEN`] bytes of printable ASCII, and a browser dials it
//! as it is written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::net::is_dialable;

/// The schemes with their default ports.
const SCHEMES: [(&str, u16); 2] = [("wss", 443), ("ws", 80)];
/// The longest name of a host and the longest of its labels, in bytes (RFC 1035, section 2.3.4).
const MAX_HOST_LEN: usize = 253;
const MAX_LABEL_LEN: usize = 63;
/// What a path or query may have besides letters, digits and `%XX` (RFC 3986, section 3).
const PUNCTUATION: &[u8] = b"-._~!$&'()*+,;=:@/?";

/// A URL at which browser tabs reach a member: its own port, or a proxy in front of it. It begins with `wss://` or `ws://`,
/// and may have a path and a query, all of which everyone can read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicUrl {
    /// Lower-case up to the path, which begins with a slash, and without the scheme's default port.
    text: String,
    is_secure: bool,
    is_loopback: bool,
}

/// The reason for which a text is no [`PublicUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicUrlError {
    /// It is too long for a key that all members store.
    #[error("has {len} bytes, but must have at most {max}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// It is no URL of a WebSocket.
    #[error("must begin with wss:// or ws://, such as wss://node.example.com/gossip")]
    Scheme,
    /// There is nothing between the scheme and the path.
    #[error("has no host: it must be like wss://node.example.com/gossip")]
    NoHost,
    /// It contains a user or a password. Everyone could read them, and browsers do not send them.
    #[error("must not contain a user or password before an @: everyone could read it")]
    UserInfo,
    /// The URL of a WebSocket has no fragment (RFC 6455, section 3).
    #[error("must not contain a fragment after a #")]
    Fragment,
    /// The host is neither a name nor an IP address.
    #[error(
        "the host {host:?} must be a name in ASCII letters (xn--... for others), an IPv4 address, or an IPv6 address in brackets"
    )]
    Host {
        /// The host as it was written.
        host: String,
    },
    /// The host is an address that belongs to no single machine.
    #[error("the host {ip} is not an address that others can dial")]
    NotDialable {
        /// The address.
        ip: IpAddr,
    },
    /// What follows the host is not a port.
    #[error("the port {port:?} must be a number from 1 to 65535")]
    Port {
        /// The port as it was written.
        port: String,
    },
    /// The path or query contains something that browsers would change.
    #[error("contains {found:?} in its path or query: write it as %XX")]
    Character {
        /// The first such character. A `%` is one if no two hexadecimal digits follow it.
        found: char,
    },
}

impl PublicUrl {
    /// The most bytes of a URL.
    pub const MAX_LEN: usize = 256;

    /// Returns the URL in its one spelling.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns true if its host is the machine of the browser itself: `localhost`, or a loopback address.
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// Returns true if a page that was loaded over `https:` can open it: it is a `wss:` URL, or leads to the machine of the
    /// browser itself.
    pub fn opens_from_https(&self) -> bool {
        self.is_secure || self.is_loopback
    }
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check_len(text)?;
        let (scheme, rest) = text.split_once("://").ok_or(PublicUrlError::Scheme)?;
        let mut schemes = SCHEMES.iter();
        let found = schemes.find(|(known, _)| known.eq_ignore_ascii_case(scheme));
        let &(scheme, default_port) = found.ok_or(PublicUrlError::Scheme)?;
        if rest.contains('#') {
            return Err(PublicUrlError::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(PublicUrlError::UserInfo);
        }
        let (host, port) = divide(authority)?;
        let host = Host::read(host)?;
        let port = port.map_or(Ok(default_port), read_port)?;
        if let Some(ip) = host.ip()
            && !is_dialable(SocketAddr::new(ip, port))
        {
            return Err(PublicUrlError::NotDialable { ip });
        }
        check_target(target)?;
        let mut text = format!("{scheme}://{host}");
        if port != default_port {
            text.push_str(&format!(":{port}"));
        }
        if !target.starts_with('/') {
            text.push('/');
        }
        text.push_str(target);
        check_len(&text)?;
        Ok(Self {
            text,
            is_secure: scheme == "wss",
            is_loopback: host.is_loopback(),
        })
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicUrl({})", self.text)
    }
}

/// The host of a URL.
enum Host {
    /// In lower-case letters.
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Host {
    fn read(text: &str) -> Result<Self, PublicUrlError> {
        let error = || PublicUrlError::Host {
            host: text.to_owned(),
        };
        if let Some(v6) = text.strip_prefix('[') {
            let v6 = v6.strip_suffix(']').ok_or_else(error)?;
            return v6.parse().map(Self::V6).map_err(|_| error());
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        if is_number(last) {
            // A browser would read it as an IPv4 address in one of its older spellings.
            return text.parse().map(Self::V4).map_err(|_| error());
        }
        let is_name = text.len() <= MAX_HOST_LEN && text.split('.').all(is_label);
        is_name
            .then(|| Self::Name(text.to_ascii_lowercase()))
            .ok_or_else(error)
    }

    fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(ip) => Some((*ip).into()),
            Self::V6(ip) => Some((*ip).into()),
        }
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Self::V4(ip) => ip.is_loopback(),
            Self::V6(ip) => ip.is_loopback(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(ip) => ip.fmt(f),
            Self::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}

fn check_len(text: &str) -> Result<(), PublicUrlError> {
    let (len, max) = (text.len(), PublicUrl::MAX_LEN);
    match len > max {
        true => Err(PublicUrlError::TooLong { len, max }),
        false => Ok(()),
    }
}

/// Divides what is between the scheme and the path into the host, with the brackets of an IPv6 address, and the port.
fn divide(authority: &str) -> Result<(&str, Option<&str>), PublicUrlError> {
    // The colons of an IPv6 address come before its last bracket.
    let from = match authority.starts_with('[') {
        true => authority.rfind(']').unwrap_or(authority.len()),
        false => 0,
    };
    let colon = authority.get(from..).and_then(|rest| rest.find(':'));
    let (host, port) = match colon.and_then(|colon| authority.split_at_checked(from + colon)) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => (authority, None),
    };
    match host.is_empty() {
        true => Err(PublicUrlError::NoHost),
        false => Ok((host, port)),
    }
}

fn read_port(text: &str) -> Result<u16, PublicUrlError> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_number && *port != 0);
    port.ok_or_else(|| PublicUrlError::Port {
        port: text.to_owned(),
    })
}

/// Returns true if a host whose last label this is means an IPv4 address (URL standard, "ends in a number").
fn is_number(label: &str) -> bool {
    let is_decimal = !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = label.strip_prefix("0x").or(label.strip_prefix("0X"));
    is_decimal || hexadecimal.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_label(label: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_outside = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = label.as_bytes();
    label.len() <= MAX_LABEL_LEN
        && bytes.iter().all(|byte| is_part(*byte))
        && is_outside(bytes.first())
        && is_outside(bytes.last())
}

/// Checks that a path and query contain nothing that a browser would write in another way.
fn check_target(target: &str) -> Result<(), PublicUrlError> {
    let mut chars = target.chars();
    while let Some(found) = chars.next() {
        let is_valid = match found {
            '%' => [chars.next(), chars.next()]
                .iter()
                .all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())),
            c => u8::try_from(c)
                .is_ok_and(|byte| byte.is_ascii_alphanumeric() || PUNCTUATION.contains(&byte)),
        };
        if !is_valid {
            return Err(PublicUrlError::Character { found });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PublicUrl, PublicUrlError> {
        text.parse()
    }

    #[test]
    fn a_url_has_one_spelling() {
        for (text, expected) in [
            ("wss://host/path", "wss://host/path"),
            ("wss://Node.Example.com", "wss://node.example.com/"),
            ("WSS://a.example:443/Path", "wss://a.example/Path"),
            ("ws://a.example:80", "ws://a.example/"),
            ("ws://a.example:443/", "ws://a.example:443/"),
            ("wss://a.example:08443/g", "wss://a.example:8443/g"),
            ("wss://a.example?to=3", "wss://a.example/?to=3"),
            (
                "wss://a.example/g?to=3&x=%20",
                "wss://a.example/g?to=3&x=%20",
            ),
            ("wss://192.0.2.1:7946", "wss://192.0.2.1:7946/"),
            ("wss://[2001:DB8:0::1]:7946/", "wss://[2001:db8::1]:7946/"),
            ("wss://[2001:db8::1]/", "wss://[2001:db8::1]/"),
            (
                "wss://xn--bcher-kva.example/",
                "wss://xn--bcher-kva.example/",
            ),
            ("wss://my_host.0x.example/", "wss://my_host.0x.example/"),
            ("wss://a.example/@:b", "wss://a.example/@:b"),
        ] {
            let url = read(text).unwrap();
            assert_eq!(url.as_str(), expected, "{text}");
            assert_eq!(read(url.as_str()).as_ref(), Ok(&url));
            assert_eq!(url.to_string(), expected);
        }
    }

    #[test]
    fn a_url_without_a_scheme_of_web_sockets_or_without_a_host_is_refused() {
        for text in [
            "",
            "a.example",
            "a.example:443",
            "https://a.example/",
            "wss:/a/",
            "://a/",
            " wss://a/",
        ] {
            assert_eq!(read(text), Err(PublicUrlError::Scheme), "{text}");
        }
        for text in ["wss://", "wss:///path", "wss://?a", "ws://:80/"] {
            assert_eq!(read(text), Err(PublicUrlError::NoHost), "{text}");
        }
    }

    #[test]
    fn users_and_fragments_are_refused() {
        for text in [
            "wss://user@a.example/",
            "wss://user:password@a.example/",
            "wss://@a/",
        ] {
            assert_eq!(read(text), Err(PublicUrlError::UserInfo), "{text}");
        }
        for text in ["wss://a.example/#b", "wss://a.example#", "wss://a/?b#c"] {
            assert_eq!(read(text), Err(PublicUrlError::Fragment), "{text}");
        }
    }

    #[test]
    fn a_host_that_a_browser_would_read_in_another_way_is_refused() {
        let label = "a".repeat(64);
        for host in [
            "b\u{fc}cher.example",
            "a b",
            "a..example",
            ".a",
            "a.",
            "-a.example",
            "a-.example",
            "a\\b",
            "a%41",
            "[::1",
            "[]",
            "[fe80::1%25eth0]",
            "[192.0.2.1]",
            "1234",
            "127.1",
            "0x7f.1",
            "1.2.3.4.5",
            "192.0.2.01",
            "192.0.2.256",
            "a.0x10",
            "x]",
            &label,
        ] {
            let error = read(&format!("wss://{host}/"));
            assert_eq!(
                error,
                Err(PublicUrlError::Host {
                    host: host.to_owned()
                })
            );
        }
        let long = format!("{0}.{0}.{0}.{0}", "a".repeat(63));
        assert!(read(&format!("ws://{long}")).is_err());
        for host in [
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "[::]",
            "[ff02::1]",
            "[100::1]",
            "[fe80::1]",
            "[::ffff:0.0.0.0]",
        ] {
            let error = read(&format!("wss://{host}/"));
            assert!(
                matches!(error, Err(PublicUrlError::NotDialable { .. })),
                "{host}"
            );
        }
    }

    #[test]
    fn a_port_is_a_number_that_can_be_dialled() {
        for port in ["", "0", "65536", "+1", "1a", "1:2", " 1"] {
            for host in ["a.example", "[::1]"] {
                let error = read(&format!("wss://{host}:{port}/"));
                assert_eq!(
                    error,
                    Err(PublicUrlError::Port {
                        port: port.to_owned()
                    })
                );
            }
        }
    }

    #[test]
    fn what_a_browser_would_encode_is_refused() {
        for (target, found) in [
            ("/a b", ' '),
            ("/\u{fc}", '\u{fc}'),
            ("/a\nb", '\n'),
            ("/\\", '\\'),
            ("/\"", '"'),
            ("/?<", '<'),
            ("/%", '%'),
            ("/%4", '%'),
            ("/%4g", '%'),
            ("/%\u{fc}", '%'),
            ("/\0", '\0'),
        ] {
            let error = read(&format!("wss://a{target}"));
            assert_eq!(error, Err(PublicUrlError::Character { found }), "{target}");
        }
    }

    #[test]
    fn a_url_has_at_most_256_bytes_in_its_one_spelling() {
        let longest = format!("wss://a/{}", "p".repeat(248));
        assert_eq!(read(&longest).unwrap().as_str().len(), PublicUrl::MAX_LEN);
        let too_long = Err(PublicUrlError::TooLong { len: 257, max: 256 });
        assert_eq!(read(&format!("{longest}p")), too_long);
        // A slash is added to it.
        assert_eq!(read(&format!("wss://a?{}", "q".repeat(248))), too_long);
    }

    #[test]
    fn a_page_over_https_opens_wss_and_its_own_machine() {
        for (text, expected) in [
            ("wss://a.example/", true),
            ("ws://a.example/", false),
            ("ws://10.0.0.1/", false),
            ("ws://localhost:7946/", true),
            ("ws://a.localhost/", true),
            ("ws://nolocalhost/", false),
            ("ws://127.0.0.2/", true),
            ("ws://[::1]/", true),
        ] {
            assert_eq!(read(text).unwrap().opens_from_https(), expected, "{text}");
        }
    }
}
