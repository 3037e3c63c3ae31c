//! Lower-case base32 (RFC 4648, section 6) without padding, for keys and secrets.
//!
//! Other encodings are deliberately missing: a general crate for encodings is large in a browser's
//! module. Invariants: each sequence of bytes has exactly one text, apart from the case of its
//! letters; and no table index and no branch depends on the value of a secret.

use zeroize::{Zeroize as _, Zeroizing};

const BITS: u32 = 5;

/// Encodes `bytes`, five bits to a character.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(8).div_ceil(5));
    let mut held: u32 = 0;
    let mut count = 0;
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        count += 8;
        while count >= BITS {
            count -= BITS;
            text.push(character(held >> count));
        }
    }
    if count > 0 {
        text.push(character(held << (BITS - count)));
    }
    text
}

/// Decodes `text`. Returns `None` unless it is the result of [`encode`], in upper or lower case.
pub(super) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len().saturating_mul(5) / 8));
    let mut held: u32 = 0;
    let mut count = 0;
    let mut refused = 0;
    for letter in text.bytes() {
        let (value, wrong) = value(letter);
        refused |= wrong;
        held = (held << BITS) | value;
        count += BITS;
        if count >= 8 {
            count -= 8;
            bytes.push(low_byte(held >> count));
        }
    }
    // Refuses a whole surplus character, and surplus bits that are not zero.
    let rest = held & ((1 << count) - 1);
    (count < BITS && rest == 0 && refused == 0).then_some(bytes)
}

/// Decodes `text` behind `prefix`, without the white space around it.
pub(super) fn decode_after(text: &str, prefix: &str) -> Option<Zeroizing<Vec<u8>>> {
    decode(text.trim().strip_prefix(prefix)?)
}

/// Decodes 32 bytes behind `prefix`.
pub(super) fn decode_32(text: &str, prefix: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = decode_after(text, prefix)?;
    let mut array: [u8; 32] = bytes.as_slice().try_into().ok()?;
    let fixed = Zeroizing::new(array);
    array.zeroize();
    Some(fixed)
}

/// Returns the character for the lowest five bits: `a` to `z` for 0 to 25, `2` to `7` for 26 to 31.
fn character(bits: u32) -> char {
    let value = bits & 31;
    let is_digit = is_less(25, value);
    let code = value + u32::from(b'a') - is_digit * (u32::from(b'a') - u32::from(b'2') + 26);
    char::from(low_byte(code))
}

/// Returns the five bits of a character, and 1 if it does not belong to the alphabet, else 0.
fn value(letter: u8) -> (u32, u32) {
    let letter = u32::from(letter);
    let lower = letter | 0x20;
    let is_letter = is_within(lower, b'a', b'z');
    let is_digit = is_within(letter, b'2', b'7');
    let of_letter = lower.wrapping_sub(u32::from(b'a')) * is_letter;
    let of_digit = letter.wrapping_sub(u32::from(b'2')).wrapping_add(26) * is_digit;
    (of_letter | of_digit, 1 - (is_letter | is_digit))
}

fn is_within(value: u32, first: u8, last: u8) -> u32 {
    (1 - is_less(value, first.into())) & (1 - is_less(last.into(), value))
}

/// Returns 1 if `a < b`, else 0. Both must be below 2^31.
fn is_less(a: u32, b: u32) -> u32 {
    a.wrapping_sub(b) >> 31
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "only the lowest byte is wanted"
)]
fn low_byte(bits: u32) -> u8 {
    bits as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_vectors_of_the_rfc_encode_and_decode() {
        // RFC 4648, section 10, without padding and in lower case.
        for (bytes, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap().as_slice(), bytes.as_bytes());
            let upper = text.to_ascii_uppercase();
            assert_eq!(decode(&upper).unwrap().as_slice(), bytes.as_bytes());
        }
    }

    #[test]
    fn every_byte_survives_and_only_the_alphabet_is_accepted() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap().as_slice(), all);
        for code in 0..=127u8 {
            let text: String = std::iter::repeat_n(char::from(code), 8).collect();
            let known = code.is_ascii_alphabetic() || (b'2'..=b'7').contains(&code);
            assert_eq!(decode(&text).is_some(), known, "{text:?}");
        }
        assert!(decode("ääää").is_none());
    }

    #[test]
    fn a_secret_never_moves_to_more_memory_and_leaves_a_copy_behind() {
        for len in 0..100 {
            let text = encode(&vec![7; len]);
            assert_eq!(text.capacity(), text.len());
            assert_eq!(decode(&text).unwrap().capacity(), len);
        }
    }

    #[test]
    fn no_two_texts_in_the_same_case_decode_to_the_same_bytes() {
        // Lengths that no encoding has, and surplus bits that are not zero.
        for text in ["a", "aaa", "aaaaaa", "mz", "mzxr", "mzxw7", "mzxw6yr"] {
            let read = decode(text);
            assert!(
                read.as_ref().is_none_or(|bytes| encode(bytes) == text),
                "{text}"
            );
        }
        assert!(decode("a").is_none() && decode("aaa").is_none() && decode("aaaaaa").is_none());
        assert!(decode("mz").is_none());
    }
}
