//! The head of an HTTP request, of which only the fields of a WebSocket upgrade are read.
//!
//! Nothing is read from the network here. Other fields are checked for their form and skipped, so
//! their number and content do not matter. Invariant: each byte of a head is looked at a fixed
//! number of times, however it arrives.

use super::accept_key;

/// The WebSocket version of RFC 6455.
const WEBSOCKET_VERSION: &[u8] = b"13";
const HEAD_END: &[u8; 4] = b"\r\n\r\n";

/// The meaning of a request.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Request {
    /// A WebSocket upgrade.
    Upgrade {
        /// The value of `Sec-WebSocket-Accept` in the response.
        accept: String,
    },
    /// An upgrade to a version of the WebSocket protocol other than 13.
    OtherWebSocketVersion,
    /// Any other `GET` over HTTP/1.1.
    Get,
    /// A request over HTTP/1.0, which has no upgrades.
    Http10,
    /// A request over HTTP/2 or another version.
    OtherHttp,
    /// Any other method.
    Other,
    /// A head that breaks the rules of HTTP or of the WebSocket upgrade.
    Malformed {
        /// The broken rule.
        what: &'static str,
    },
}

/// Finds the end of a head that arrives in pieces.
#[derive(Debug, Default)]
pub(super) struct EndOfHead {
    /// The bytes before this position contain no end.
    searched: usize,
}

impl EndOfHead {
    /// Returns the length of the head, including its empty line, once all of it is in `received`, to
    /// which bytes may have been appended since the last call.
    pub(super) fn find(&mut self, received: &[u8]) -> Option<usize> {
        let unsearched = received.get(self.searched..)?;
        let end = unsearched
            .windows(HEAD_END.len())
            .position(|four| four == HEAD_END);
        if let Some(end) = end {
            return Some(self.searched + end + HEAD_END.len());
        }
        // The end may begin with the last three bytes.
        let searched = received.len().saturating_sub(HEAD_END.len() - 1);
        self.searched = self.searched.max(searched);
        None
    }
}

/// Returns the values of the field `X-Forwarded-For` of a head, in their order.
pub(in crate::tcp) fn forwarded_for(head: &[u8]) -> Vec<&[u8]> {
    let fields = lines(head).skip(1).filter_map(|line| field(line).ok());
    fields
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"x-forwarded-for"))
        .map(|(_, value)| value)
        .collect()
}

/// Returns the meaning of a head.
pub(in crate::tcp) fn parse(head: &[u8]) -> Request {
    match Head::read(head) {
        Ok(head) => head.request(),
        Err(what) => Request::Malformed { what },
    }
}

/// Returns whether a head is well formed and its request has nothing to do with WebSockets. A proxy that passes on requests
/// for WebSockets without their field `Upgrade` leaves the others.
pub(in crate::tcp) fn is_plain(head: &[u8]) -> bool {
    Head::read(head).is_ok_and(|head| head.is_plain())
}

/// Returns whether a request that was parsed elsewhere has to do with WebSockets, as far as its fields tell.
#[cfg(feature = "http")]
pub(in crate::tcp) fn has_to_do_with_websockets(fields: &hyper::HeaderMap) -> bool {
    !Head::default().with_fields(fields).is_plain()
}

/// Returns the meaning of a request that was parsed elsewhere.
#[cfg(feature = "http")]
pub(in crate::tcp) fn meaning(
    method: &hyper::Method,
    version: hyper::Version,
    fields: &hyper::HeaderMap,
) -> Request {
    let head = Head {
        is_get: *method == hyper::Method::GET,
        version: match version {
            hyper::Version::HTTP_10 => Version::Http10,
            hyper::Version::HTTP_11 => Version::Http11,
            _ => Version::Other,
        },
        ..Head::default()
    };
    head.with_fields(fields).request()
}

#[derive(Debug, Default)]
struct Head<'a> {
    is_get: bool,
    version: Version,
    upgrades_to_websocket: bool,
    connection_upgrade: bool,
    websocket_version: Field<'a>,
    key: Field<'a>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
    #[default]
    Other,
}

/// A field that may stand in a head once.
#[derive(Debug, Default, Clone, Copy)]
enum Field<'a> {
    #[default]
    Missing,
    Once(&'a [u8]),
    Repeated,
}

impl<'a> Field<'a> {
    fn set(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Missing => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }
}

impl<'a> Head<'a> {
    fn read(head: &'a [u8]) -> Result<Self, &'static str> {
        let mut lines = lines(head);
        let mut read = Self::default();
        read.request_line(lines.next().unwrap_or_default());
        for line in lines {
            let (name, value) = field(line)?;
            read.field(name, value);
        }
        Ok(read)
    }

    #[cfg(feature = "http")]
    fn with_fields(mut self, fields: &'a hyper::HeaderMap) -> Self {
        for (name, value) in fields {
            self.field(name.as_str().as_bytes(), value.as_bytes());
        }
        self
    }

    fn request_line(&mut self, line: &[u8]) {
        self.is_get = line.starts_with(b"GET ");
        // The target may hold anything, spaces included: it has no meaning here.
        let version = line.rsplit(|byte| *byte == b' ').next();
        self.version = match version.unwrap_or_default().strip_prefix(b"HTTP/1.") {
            Some(b"0") => Version::Http10,
            // A minor version that is higher changes nothing (RFC 9110, section 2.5).
            Some([minor]) if minor.is_ascii_digit() => Version::Http11,
            _ => Version::Other,
        };
    }

    fn field(&mut self, name: &[u8], value: &'a [u8]) {
        if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrades_to_websocket |= lists(value, b"websocket");
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.connection_upgrade |= lists(value, b"upgrade");
        } else if name.eq_ignore_ascii_case(b"sec-websocket-version") {
            self.websocket_version.set(value);
        } else if name.eq_ignore_ascii_case(b"sec-websocket-key") {
            self.key.set(value);
        }
    }

    fn is_plain(&self) -> bool {
        !self.upgrades_to_websocket && matches!(self.key, Field::Missing)
    }

    fn request(&self) -> Request {
        match self.version {
            Version::Http10 => return Request::Http10,
            Version::Other => return Request::OtherHttp,
            Version::Http11 if !self.is_get => return Request::Other,
            Version::Http11 if !self.upgrades_to_websocket => return Request::Get,
            Version::Http11 => {}
        }
        let malformed = |what| Request::Malformed { what };
        if !self.connection_upgrade {
            return malformed("Connection does not list Upgrade");
        }
        match self.websocket_version {
            Field::Once(WEBSOCKET_VERSION) => {}
            Field::Once(_) => return Request::OtherWebSocketVersion,
            Field::Missing => return malformed("Sec-WebSocket-Version is missing"),
            Field::Repeated => return malformed("Sec-WebSocket-Version is repeated"),
        }
        match self.key {
            Field::Missing => malformed("Sec-WebSocket-Key is missing"),
            Field::Repeated => malformed("Sec-WebSocket-Key is repeated"),
            Field::Once(key) => match accept_key::answer(key) {
                Some(accept) => Request::Upgrade { accept },
                None => malformed("Sec-WebSocket-Key is not the base64 of 16 bytes"),
            },
        }
    }
}

/// Returns the lines of a head before the empty one.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

/// Splits a line into the name and the value of a field.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.ok_or("a line has no colon")?);
    // Proxies disagree about names with spaces and about lines that continue the one before, so RFC
    // 9112 (sections 5.1 and 5.2) has servers refuse both.
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err("the name of a field is malformed");
    }
    let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
    if value.contains(&0) || value.contains(&b'\r') {
        return Err("the value of a field is malformed");
    }
    Ok((name, value))
}

/// Returns whether a byte may stand in the name of a field (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns whether `value`, a list with commas, has the element `wanted`.
fn lists(value: &[u8], wanted: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|element| element.trim_ascii().eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn upgraded() -> Request {
        Request::Upgrade {
            accept: ACCEPT.to_owned(),
        }
    }

    fn get(fields: &str) -> Request {
        parse(format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())
    }

    #[test]
    fn lists_on_one_line_and_on_several_have_the_same_meaning() {
        for fields in [
            "uPGRADE:  WebSocket\r\nConnection: keep-alive, Upgrade\r\n",
            "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\nConnection: keep-alive\r\n",
            "Upgrade: h2c\r\nupgrade:websocket \r\nCONNECTION:keep-alive\r\nconnection:,upgrade,\r\n",
        ] {
            let request = get(&format!("{fields}Sec-WebSocket-Version: 13\r\n{KEY}"));
            assert_eq!(request, upgraded(), "{fields}");
        }
    }

    #[test]
    fn other_requests_are_told_apart() {
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
        let old = format!("{upgrade}Sec-WebSocket-Version: 8\r\n{KEY}");
        assert_eq!(get(&old), Request::OtherWebSocketVersion);
        assert_eq!(get(""), Request::Get);
        // Part of an element is not an element.
        assert_eq!(get("Upgrade: websocket2\r\n"), Request::Get);
        for (line, request) in [
            ("POST / HTTP/1.1", Request::Other),
            ("GET / HTTP/1.0", Request::Http10),
            ("POST / HTTP/1.0", Request::Http10),
            ("GET / HTTP/1.2", Request::Get),
            ("PRI * HTTP/2.0", Request::OtherHttp),
            ("GET /", Request::OtherHttp),
            ("GET /a b HTTP/1.1", Request::Get),
        ] {
            assert_eq!(
                parse(format!("{line}\r\n\r\n").as_bytes()),
                request,
                "{line}"
            );
        }
    }

    #[test]
    fn a_broken_rule_is_named() {
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
        let version = "Sec-WebSocket-Version: 13\r\n";
        for (fields, what) in [
            ("no colon\r\n".to_owned(), "a line has no colon"),
            ("a b: c\r\n".to_owned(), "the name of a field is malformed"),
            ("a : c\r\n".to_owned(), "the name of a field is malformed"),
            (": c\r\n".to_owned(), "the name of a field is malformed"),
            (
                "a: b\r\n c: d\r\n".to_owned(),
                "the name of a field is malformed",
            ),
            (
                "a: b\0c\r\n".to_owned(),
                "the value of a field is malformed",
            ),
            (
                "Upgrade: websocket\r\n".to_owned(),
                "Connection does not list Upgrade",
            ),
            (upgrade.to_owned(), "Sec-WebSocket-Version is missing"),
            (
                format!("{upgrade}{version}{version}"),
                "Sec-WebSocket-Version is repeated",
            ),
            (
                format!("{upgrade}{version}"),
                "Sec-WebSocket-Key is missing",
            ),
            (
                format!("{upgrade}{version}{KEY}{KEY}"),
                "Sec-WebSocket-Key is repeated",
            ),
            (
                format!("{upgrade}{version}Sec-WebSocket-Key: x\r\n"),
                "Sec-WebSocket-Key is not the base64 of 16 bytes",
            ),
        ] {
            assert_eq!(get(&fields), Request::Malformed { what }, "{fields}");
        }
    }

    #[test]
    fn a_head_that_arrives_byte_by_byte_is_searched_once() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let mut end = EndOfHead::default();
        let mut received = Vec::new();
        for (i, byte) in head.iter().enumerate() {
            received.push(*byte);
            if i == 20 {
                // An end among bytes that have been searched is not found.
                received[..4].copy_from_slice(HEAD_END);
            }
            let found = end.find(&received);
            assert_eq!(found, (i >= 26).then_some(27), "after {i}");
            if found.is_some() {
                return;
            }
        }
    }
}
