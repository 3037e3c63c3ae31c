//! The key of an upgrade request, and the answer to it (RFC 6455, section 4.2.2).
//!
//! The answer shows that the server has understood the request, and nothing else. Invariant: a key
//! that is not what a client may send has no answer.

use crate::rt::crypto::sha1;

/// The text after the key in what is hashed (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The length of a key: base64 of 16 bytes.
const KEY_LEN: usize = 24;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Returns the value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`, or `None` if that is not
/// the base64 of 16 bytes.
pub(super) fn answer(key: &[u8]) -> Option<String> {
    let digits = key.strip_suffix(b"==")?;
    if key.len() != KEY_LEN || !digits.iter().all(|digit| ALPHABET.contains(digit)) {
        return None;
    }
    Some(base64(&sha1(&[key, GUID].concat())))
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = ALPHABET.get((bits >> (18 - 6 * i)) as usize & 63);
            text.push(match digit {
                Some(digit) if i <= group.len() => char::from(*digit),
                _ => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_has_its_answer() {
        let expected = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert_eq!(
            answer(b"dGhlIHNhbXBsZSBub25jZQ==").as_deref(),
            Some(expected)
        );
    }

    #[test]
    fn what_is_not_the_base64_of_16_bytes_has_no_answer() {
        for key in [
            &b""[..],
            b"==",
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25j",
            b"dGhlIHNhbXBsZSBub25jZQAA",
            b"dGhlIHNhbXBsZSBub25j-Q==",
            b"dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert_eq!(answer(key), None, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn base64_pads_what_is_not_a_multiple_of_three_bytes() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
