//! The text form of an invite: a single word that is valid in a URL.
//!
//! It is `gossip-invite-`, then base32 of the contents and of their checksum, the first 4 bytes of BLAKE2s(label ‖
//! contents). The checksum has this form in every format of the contents, so a word that is cut off or mistyped is
//! told from one of a newer version. It protects against accidents only. Invariant: memory that has held the contents
//! is wiped.

use blake2::{Blake2s256, Digest as _};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::error::InviteTextError;
use crate::credential::base32;

const PREFIX: &str = "gossip-invite-";
/// Hashed before the contents, so that no other use of the hash results in the same bytes.
const LABEL: &[u8] = b"gossip-transport invite word 1";
/// Length of the checksum, in bytes. One in four billion damaged words is taken for a complete one.
const CHECKSUM_LEN: usize = 4;

/// Returns the word for `contents`.
pub(super) fn encode(contents: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(base32::encode(&with_checksum(contents)));
    let len = PREFIX.len().saturating_add(encoded.len());
    // With the whole capacity from the start, so that no copy is left in memory that it outgrows.
    let mut word = Zeroizing::new(String::with_capacity(len));
    word.push_str(PREFIX);
    word.push_str(&encoded);
    word
}

/// Returns the contents of a word, in upper or lower case and with white space around it. `max` is the length of the
/// longest contents, in bytes.
pub(super) fn decode(word: &str, max: usize) -> Result<Zeroizing<Vec<u8>>, InviteTextError> {
    let word = word.trim();
    let encoded = word
        .strip_prefix(PREFIX)
        .ok_or(InviteTextError::NotAnInvite)?;
    let longest = max.saturating_add(CHECKSUM_LEN);
    let max = longest.saturating_mul(8).div_ceil(5) + PREFIX.len();
    if word.len() > max {
        let len = word.len();
        return Err(InviteTextError::Oversized { len, max });
    }
    let mut bytes = base32::decode(encoded).ok_or(InviteTextError::Damaged)?;
    let (contents, found) = bytes
        .split_last_chunk::<CHECKSUM_LEN>()
        .ok_or(InviteTextError::Damaged)?;
    if !bool::from(checksum(contents).ct_eq(found)) {
        return Err(InviteTextError::Damaged);
    }
    let len = contents.len();
    bytes.truncate(len);
    Ok(bytes)
}

fn with_checksum(contents: &[u8]) -> Zeroizing<Vec<u8>> {
    let len = contents.len().saturating_add(CHECKSUM_LEN);
    let mut bytes = Zeroizing::new(Vec::with_capacity(len));
    bytes.extend_from_slice(contents);
    bytes.extend_from_slice(&checksum(contents));
    bytes
}

fn checksum(contents: &[u8]) -> [u8; CHECKSUM_LEN] {
    let hash = Blake2s256::new()
        .chain_update(LABEL)
        .chain_update(contents)
        .finalize();
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_word_is_the_one_that_python_computes() {
        // check = hashlib.blake2s(b"gossip-transport invite word 1" + b"contents").digest()[:4]
        // base64.b32encode(b"contents" + check).decode().lower().rstrip("=")
        let word = encode(b"contents");
        assert_eq!(word.as_str(), "gossip-invite-mnxw45dfnz2hg7jf6daq");
        let upper = word.to_uppercase().replace("GOSSIP-INVITE-", PREFIX);
        for word in [&*word, &format!("\t{}\r\n", *word), &upper] {
            assert_eq!(decode(word, 8).unwrap().as_slice(), b"contents");
        }
    }

    #[test]
    fn a_word_that_is_too_long_is_refused_before_it_is_decoded() {
        let longest = encode(&[1; 8]);
        assert!(decode(&longest, 8).is_ok());
        let len = longest.len() + 1;
        let max = longest.len();
        let refused = decode(&format!("{}a", *longest), 8);
        assert_eq!(refused, Err(InviteTextError::Oversized { len, max }));
        assert_eq!(
            decode(&format!("{}a", *longest), 9),
            Err(InviteTextError::Damaged)
        );
    }

    #[test]
    fn other_texts_are_told_from_damaged_words() {
        for other in [
            "",
            "gossip",
            "gossip-secret-aa",
            "invite",
            "Gossip-invite-aa",
        ] {
            assert_eq!(
                decode(other, 100),
                Err(InviteTextError::NotAnInvite),
                "{other}"
            );
        }
        for damaged in ["", "aaaa", "1", "aaaaaaaa", "ä"] {
            let word = format!("{PREFIX}{damaged}");
            assert_eq!(decode(&word, 100), Err(InviteTextError::Damaged), "{word}");
        }
    }

    #[test]
    fn neither_direction_moves_to_more_memory_and_leaves_a_copy_behind() {
        for len in 0..100 {
            let contents = vec![7; len];
            let checked = with_checksum(&contents);
            assert_eq!(checked.capacity(), checked.len());
            let word = encode(&contents);
            assert_eq!(word.capacity(), word.len());
            assert_eq!(decode(&word, len).unwrap().capacity(), len + CHECKSUM_LEN);
        }
    }

    proptest! {
        #[test]
        fn contents_survive_and_no_part_of_a_word_is_one(
            contents in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let word = encode(&contents);
            let read = decode(&word, contents.len()).unwrap();
            prop_assert_eq!(read.as_slice(), contents);
            for len in PREFIX.len()..word.len() {
                prop_assert_eq!(decode(&word[..len], 200), Err(InviteTextError::Damaged));
            }
        }

        #[test]
        fn a_word_with_another_letter_is_damaged(
            contents in prop::collection::vec(any::<u8>(), 0..200),
            place: prop::sample::Index,
            letter in "[a-z2-7]",
        ) {
            let mut word = encode(&contents).to_string();
            let place = PREFIX.len() + place.index(word.len() - PREFIX.len());
            let is_same = word[place..=place] == letter;
            word.replace_range(place..=place, &letter);
            prop_assert_eq!(decode(&word, 200).is_ok(), is_same);
        }
    }
}
