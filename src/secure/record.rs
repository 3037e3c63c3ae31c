//! Records: bytes sealed and opened in place, one after the other.
//!
//! Implements the cipher state of the Noise specification (revision 34, section 5.1), without
//! associated data. It replaces snow's, so that a record is encrypted in place and a key is expanded
//! once, not for every record. It does not know what is inside a record. Invariant: a nonce is used
//! once under a key, and a record opens only as the next one of its stream.

use bytes::BytesMut;
use zeroize::{Zeroize, Zeroizing};

use super::error::FrameError;
use super::frame::{LENGTH_LEN, MAX_FRAME_LEN};
use super::suite::Suite;
use crate::rt::crypto::{Aead, AeadKey, TAG_LEN};

/// The longest plaintext of one record, in bytes.
pub(super) const MAX_PLAINTEXT_LEN: usize = MAX_FRAME_LEN - TAG_LEN;

/// The nonce that derives the next key, and is never used for a record (section 4.2 of the
/// specification).
const REKEY_NONCE: u64 = u64::MAX;

/// Seals the records of one direction.
pub(super) struct Sealer(CipherState);

impl Sealer {
    /// Starts with `key` and changes it after each `rekey_after` records, which must be at least 1.
    /// Returns `None` if this target does not have the suite.
    pub(super) fn new(suite: Suite, key: &[u8; 32], rekey_after: u64) -> Option<Self> {
        CipherState::new(suite, key, rekey_after).map(Self)
    }

    /// Seals `frames[start..]` as one frame. It must consist of room for the frame's length,
    /// followed by the plaintext.
    pub(super) fn seal(&mut self, frames: &mut BytesMut, start: usize) -> Result<(), FrameError> {
        let body = start.saturating_add(LENGTH_LEN);
        let Some(plaintext) = frames.get_mut(body..) else {
            return Err(FrameError::Malformed {
                what: "no room for the record's length",
            });
        };
        let len = u16::try_from(plaintext.len().saturating_add(TAG_LEN));
        let tag = self.0.seal(plaintext)?;
        frames.extend_from_slice(&tag);
        let length = frames.get_mut(start..body);
        if let (Ok(len), Some(length)) = (len, length) {
            length.copy_from_slice(&len.to_be_bytes());
            Ok(())
        } else {
            Err(FrameError::Malformed {
                what: "a record longer than a frame",
            })
        }
    }
}

/// Opens the records of one direction.
pub(super) struct Opener(CipherState);

impl Opener {
    /// Starts with `key` and changes it after each `rekey_after` records, which must be at least 1.
    /// Returns `None` if this target does not have the suite.
    pub(super) fn new(suite: Suite, key: &[u8; 32], rekey_after: u64) -> Option<Self> {
        CipherState::new(suite, key, rekey_after).map(Self)
    }

    /// Decrypts a whole record to `plaintext`, which must be shorter by [`TAG_LEN`].
    pub(super) fn open(&mut self, record: &[u8], plaintext: &mut [u8]) -> Result<(), FrameError> {
        self.0.open(record, plaintext)
    }
}

struct CipherState {
    suite: Suite,
    cipher: Cipher,
    nonce: u64,
    /// The number of records after which the key changes.
    rekey_after: u64,
}

impl CipherState {
    fn new(suite: Suite, key: &[u8; 32], rekey_after: u64) -> Option<Self> {
        Some(Self {
            suite,
            cipher: Cipher::new(suite, key)?,
            nonce: 0,
            rekey_after,
        })
    }

    fn seal(&mut self, plaintext: &mut [u8]) -> Result<[u8; TAG_LEN], FrameError> {
        self.check_nonce()?;
        let tag = self.cipher.seal(self.nonce, &[], plaintext);
        let tag = tag.ok_or(FrameError::Exhausted)?;
        self.advance()?;
        Ok(tag)
    }

    fn open(&mut self, record: &[u8], plaintext: &mut [u8]) -> Result<(), FrameError> {
        self.check_nonce()?;
        let opened = self.cipher.open_to(self.nonce, record, plaintext);
        opened.ok_or(FrameError::Tampered)?;
        self.advance()
    }

    fn check_nonce(&self) -> Result<(), FrameError> {
        if self.nonce == REKEY_NONCE {
            return Err(FrameError::Exhausted);
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), FrameError> {
        self.nonce = self.nonce.checked_add(1).ok_or(FrameError::Exhausted)?;
        if self.nonce.is_multiple_of(self.rekey_after) {
            self.rekey().ok_or(FrameError::Exhausted)?;
        }
        Ok(())
    }

    /// Derives the next key: the encryption of 32 zeros under this one (the specification's
    /// `REKEY`). The nonce is not reset.
    fn rekey(&mut self) -> Option<()> {
        let mut key = Zeroizing::new([0; 32]);
        self.cipher
            .seal(REKEY_NONCE, &[], key.as_mut_slice())?
            .zeroize();
        self.cipher = Cipher::new(self.suite, &key)?;
        Some(())
    }
}

/// An expanded key, and the way in which its suite encodes a nonce.
pub(super) struct Cipher {
    key: AeadKey,
    nonce: fn(u64) -> [u8; 12],
}

impl Cipher {
    /// Expands `key`. Returns `None` if this target does not have the suite.
    pub(super) fn new(suite: Suite, key: &[u8; 32]) -> Option<Self> {
        let (aead, nonce): (_, fn(u64) -> [u8; 12]) = match suite {
            Suite::AesGcm => (Aead::AesGcm, big_endian),
            Suite::ChaChaPoly => (Aead::ChaChaPoly, little_endian),
        };
        let key = AeadKey::new(aead, key)?;
        Some(Self { key, nonce })
    }

    /// Encrypts `bytes` in place and returns the tag, or `None` if `bytes` are too long.
    pub(super) fn seal(
        &self,
        nonce: u64,
        associated: &[u8],
        bytes: &mut [u8],
    ) -> Option<[u8; TAG_LEN]> {
        self.key.seal((self.nonce)(nonce), associated, bytes)
    }

    /// Decrypts `sealed`, which must end with its tag, in place. Returns the length of the plaintext,
    /// or `None` if the bytes were tampered with.
    pub(super) fn open(&self, nonce: u64, associated: &[u8], sealed: &mut [u8]) -> Option<usize> {
        self.key.open((self.nonce)(nonce), associated, sealed)
    }

    /// Decrypts `sealed`, which must end with its tag and has no associated data, to `plaintext`, which
    /// must be shorter by the tag. Returns `None` if the bytes were tampered with; `plaintext` is then
    /// unusable.
    fn open_to(&self, nonce: u64, sealed: &[u8], plaintext: &mut [u8]) -> Option<()> {
        self.key.open_to((self.nonce)(nonce), sealed, plaintext)
    }
}

/// Encodes the nonce of ChaChaPoly (section 12.3 of the specification).
fn little_endian(nonce: u64) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = nonce.to_le_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

/// Encodes the nonce of AES-GCM (section 12.4 of the specification).
fn big_endian(nonce: u64) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = nonce.to_be_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a cipher state that has used all nonces before `nonce`.
    fn state(suite: Suite, nonce: u64, rekey_after: u64) -> CipherState {
        let mut state = CipherState::new(suite, &[7; 32], rekey_after).unwrap();
        state.nonce = nonce;
        state
    }

    #[test]
    fn the_nonce_that_derives_keys_is_used_for_no_record() {
        for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
            // 5 divides it, so the key changes after the last record.
            for rekey_after in [1 << 20, 5] {
                let mut sealer = state(suite, REKEY_NONCE - 1, rekey_after);
                let mut opener = state(suite, REKEY_NONCE - 1, rekey_after);
                let mut last = b"last".to_vec();
                let tag = sealer.seal(&mut last).unwrap();
                last.extend(tag);
                let mut plaintext = [0; 4];
                opener.open(&last, &mut plaintext).unwrap();
                assert_eq!(&plaintext, b"last");
                for _ in 0..2 {
                    let mut plaintext = *b"one more";
                    let refused = sealer.seal(&mut plaintext);
                    assert!(matches!(refused, Err(FrameError::Exhausted)));
                    assert_eq!(&plaintext, b"one more", "it has been encrypted");
                }
                // As a peer would seal it that has no such guard.
                let mut record = b"one more".to_vec();
                let tag = opener.cipher.seal(REKEY_NONCE, &[], &mut record).unwrap();
                record.extend(tag);
                for _ in 0..2 {
                    let mut plaintext = [0; 8];
                    let refused = opener.open(&record, &mut plaintext);
                    assert!(matches!(refused, Err(FrameError::Exhausted)));
                    assert_eq!(plaintext, [0; 8], "it has been decrypted");
                }
            }
        }
    }
}
