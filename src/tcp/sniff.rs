//! Detects the protocol of an incoming connection from its first bytes.
//!
//! It reads until the protocol is certain and returns those bytes to the caller, which needs them
//! again. It has no timeout of its own: the caller's covers everything before authentication.
//! Invariant: a connection is undecided for at most [`MAX_METHOD_LEN`] bytes.

use std::io;

use bytes::BytesMut;

use super::proxy::SIGNATURE;
use super::stream::Stream;
use crate::secure::PREFACE_START;

/// The first bytes of a TLS handshake record (RFC 8446, section 5.1).
const TLS_START: [u8; 2] = [0x16, 0x03];
/// The longest HTTP method with the space after it, in bytes: registered methods have at most 17
/// characters.
const MAX_METHOD_LEN: usize = 18;

/// A protocol that is recognised on a native port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Frames of this crate.
    Frames,
    /// An HTTP request.
    Http,
    /// A TLS handshake.
    Tls,
    /// A header of the PROXY protocol, version 2.
    Proxy,
}

/// Reads from `stream` into `start` until the protocol is certain.
///
/// Returns `None` if the bytes start no known protocol, or if the stream ends before that is
/// decided.
pub(super) async fn sniff(
    stream: &mut Stream,
    start: &mut BytesMut,
) -> io::Result<Option<Protocol>> {
    loop {
        match classify(start) {
            Classification::Is(protocol) => return Ok(Some(protocol)),
            Classification::Unknown => return Ok(None),
            Classification::NeedsMore => {}
        }
        start.reserve(512);
        if stream.read_buf(start).await? == 0 {
            return Ok(None);
        }
    }
}

/// The protocol that the first bytes of a stream start, if that can be told.
#[derive(Debug, PartialEq, Eq)]
enum Classification {
    Is(Protocol),
    NeedsMore,
    Unknown,
}

fn classify(start: &[u8]) -> Classification {
    let begins = |with: &[u8]| start.iter().zip(with).all(|(a, b)| a == b);
    let known = [
        (&PREFACE_START[..], Protocol::Frames),
        (&TLS_START, Protocol::Tls),
        (&SIGNATURE, Protocol::Proxy),
    ];
    if let Some((first, protocol)) = known.into_iter().find(|(first, _)| begins(first)) {
        return if start.len() >= first.len() {
            Classification::Is(protocol)
        } else {
            Classification::NeedsMore
        };
    }
    let method_len = start.iter().take_while(|b| b.is_ascii_uppercase()).count();
    match start.get(method_len) {
        None if method_len < MAX_METHOD_LEN => Classification::NeedsMore,
        Some(b' ') if method_len > 0 => Classification::Is(Protocol::Http),
        _ => Classification::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_identify_the_protocol() {
        assert_eq!(
            classify(b"GET / HTTP/1.1"),
            Classification::Is(Protocol::Http)
        );
        assert_eq!(classify(b"POST "), Classification::Is(Protocol::Http));
        assert_eq!(
            classify(&[0x16, 3, 1, 2]),
            Classification::Is(Protocol::Tls)
        );
        assert_eq!(
            classify(&PREFACE_START),
            Classification::Is(Protocol::Frames)
        );
        assert_eq!(classify(&SIGNATURE), Classification::Is(Protocol::Proxy));
    }

    #[test]
    fn an_ambiguous_start_needs_more_bytes() {
        for start in [&b""[..], b"GE", &[0x16], &PREFACE_START[..3], b"\r\n\r"] {
            assert_eq!(classify(start), Classification::NeedsMore, "{start:?}");
        }
    }

    #[test]
    fn bytes_that_start_no_protocol_are_recognised_immediately() {
        for start in [
            &b"\xff"[..],
            b" GET",
            b"get / ",
            b"\0\x06\xA7GT",
            b"AAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(classify(start), Classification::Unknown, "{start:?}");
        }
    }
}
