//! The preface: the dialler's first frame, which names the protocol, its version and the suite.
//!
//! The preface is sent in the clear and negotiates nothing: an acceptor takes the suite or refuses. To
//! a preface of another version it answers once, with the version that it speaks, so that the dialler
//! can report it; the dialler never tries another version by itself. If it announces an invite, the claims of
//! that follow in a second frame.
//! Invariant: every byte of it, and of the claims, is in the Noise prologue of both sides. A handshake
//! therefore succeeds only if both have seen the same, which rules out a downgrade.

use super::error::HandshakeError;
use super::suite::Suite;

/// The first bytes of every stream of frames: the length of the preface, then its magic number.
///
/// They distinguish this protocol from HTTP and TLS on the same port. The version and the suite
/// follow.
pub const PREFACE_START: [u8; 5] = [0, 5, MAGIC[0], MAGIC[1], MAGIC[2]];

const MAGIC: [u8; 3] = [0xA7, b'G', b'T'];
/// The version of the protocol that this side speaks.
const VERSION: u8 = 2;

/// The longest answer to a preface of another version, in bytes. Version 2 sends four. The limit is
/// below the length of any second Noise message, which has at least 96 bytes.
const LONGEST_ANSWER: usize = 64;

/// The bit of the suite's code that is set for AES-GCM.
const AES_GCM: u8 = 0b01;
/// The bit of the suite's code that is set if a cluster secret is used.
const SECRET: u8 = 0b10;
/// The bit of the suite's code that is set if a second frame follows the preface, with the claims of
/// an invite: at most 512 bytes, covered by the prologue. Not together with [`SECRET`].
const CLAIMS: u8 = 0b100;

/// Hashed before the preface, so that no other protocol's transcript matches.
const PROLOGUE_LABEL: &[u8; 27] = b"gossip-transport handshake\0";

/// The suite that a dialler asks for, and the pre-shared key that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preface {
    pub(super) suite: Suite,
    pub(super) psk: PskKind,
}

/// The pre-shared key of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PskKind {
    /// No PSK is used.
    None,
    /// The PSK is derived from a cluster secret.
    Secret,
    /// The PSK is derived from the key of an invite, whose claims follow the preface.
    Invite,
}

impl Preface {
    pub(super) const LEN: usize = MAGIC.len() + 2;

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        let [a, b, c] = MAGIC;
        [a, b, c, VERSION, self.suite_code()]
    }

    pub(super) fn decode(frame: &[u8]) -> Result<Self, HandshakeError> {
        let Some((&MAGIC, rest)) = frame.split_first_chunk() else {
            return Err(HandshakeError::NotOurProtocol);
        };
        // The version is checked before the length: another version's preface may be longer.
        let Some((&version, rest)) = rest.split_first() else {
            return Err(HandshakeError::NotOurProtocol);
        };
        if version != VERSION {
            return Err(HandshakeError::UnsupportedVersion {
                theirs: version,
                ours: VERSION,
            });
        }
        let &[suite] = rest else {
            return Err(HandshakeError::NotOurProtocol);
        };
        let psk = match suite & !AES_GCM {
            0 => PskKind::None,
            SECRET => PskKind::Secret,
            CLAIMS => PskKind::Invite,
            _ => return Err(HandshakeError::SuiteNotAllowed { suite }),
        };
        let suite = if suite & AES_GCM != 0 {
            Suite::AesGcm
        } else {
            Suite::ChaChaPoly
        };
        Ok(Self { suite, psk })
    }

    /// Returns the suite's code, the last byte of the preface.
    pub(super) fn suite_code(self) -> u8 {
        let cipher = match self.suite {
            Suite::AesGcm => AES_GCM,
            Suite::ChaChaPoly => 0,
        };
        let psk = match self.psk {
            PskKind::None => 0,
            PskKind::Secret => SECRET,
            PskKind::Invite => CLAIMS,
        };
        cipher | psk
    }

    /// Returns the bytes that both sides hash before the first Noise message. `claims` is the second frame, or
    /// empty if there is none. The preface has a fixed length, so no two of them with claims have the same bytes.
    pub(super) fn prologue(self, claims: &[u8]) -> Vec<u8> {
        [PROLOGUE_LABEL, self.encode().as_slice(), claims].concat()
    }
}

/// Returns the frame with which an acceptor answers the preface of another version: the magic number
/// and the version that the acceptor speaks.
pub(super) fn version_answer() -> [u8; MAGIC.len() + 1] {
    let [a, b, c] = MAGIC;
    [a, b, c, VERSION]
}

/// Checks whether the acceptor's first frame is an answer to a preface of another version instead of a
/// Noise message. Bytes after the version are ignored.
///
/// # Errors
///
/// Fails with [`HandshakeError::UnsupportedVersion`] if it is one.
pub(super) fn check_version(frame: &[u8]) -> Result<(), HandshakeError> {
    let Some((&MAGIC, &[theirs, ..])) = frame.split_first_chunk() else {
        return Ok(());
    };
    if frame.len() > LONGEST_ANSWER {
        return Ok(());
    }
    if theirs == VERSION {
        return Err(HandshakeError::Malformed {
            what: "a refusal of a version that the peer itself speaks",
        });
    }
    Err(HandshakeError::UnsupportedVersion {
        theirs,
        ours: VERSION,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secure::frame::FrameBuffer;

    const ALL: [Preface; 6] = {
        const fn preface(suite: Suite, psk: PskKind) -> Preface {
            Preface { suite, psk }
        }
        [
            preface(Suite::AesGcm, PskKind::None),
            preface(Suite::AesGcm, PskKind::Secret),
            preface(Suite::AesGcm, PskKind::Invite),
            preface(Suite::ChaChaPoly, PskKind::None),
            preface(Suite::ChaChaPoly, PskKind::Secret),
            preface(Suite::ChaChaPoly, PskKind::Invite),
        ]
    };

    #[test]
    fn a_preface_decodes_as_encoded_and_each_has_its_own_prologue() {
        for (i, a) in ALL.iter().enumerate() {
            assert_eq!(Preface::decode(&a.encode()).unwrap(), *a);
            for b in &ALL[..i] {
                assert_ne!(a.prologue(b""), b.prologue(b""));
                assert_ne!(a.prologue(b"claims"), b.prologue(b"claims"));
            }
            assert_ne!(a.prologue(b"claims"), a.prologue(b"claim"));
        }
    }

    #[test]
    fn a_framed_preface_starts_with_the_bytes_that_listeners_look_for() {
        let mut frames = FrameBuffer::default();
        frames.push(&ALL[0].encode());
        assert!(frames.bytes_mut().starts_with(&PREFACE_START));
    }

    #[test]
    fn bytes_that_are_not_a_preface_are_refused_with_the_right_error() {
        use HandshakeError::{NotOurProtocol, SuiteNotAllowed, UnsupportedVersion};
        let decode = |bytes: &[u8]| Preface::decode(bytes).unwrap_err();
        assert!(matches!(decode(b""), NotOurProtocol));
        assert!(matches!(decode(b"GET / HTTP/1.1"), NotOurProtocol));
        assert!(matches!(decode(b"\xA7GT"), NotOurProtocol));
        assert!(matches!(decode(b"\xA7GT\x02"), NotOurProtocol));
        assert!(matches!(decode(b"\xA7GT\x02\x00\x00"), NotOurProtocol));
        let older = decode(b"\xA7GT\x01\x00");
        assert!(matches!(older, UnsupportedVersion { theirs: 1, ours: 2 }));
        let newer = decode(b"\xA7GT\x03 anything after that");
        assert!(matches!(newer, UnsupportedVersion { theirs: 3, ours: 2 }));
        for suite in 0b110..=255 {
            let unknown = decode(&[0xA7, b'G', b'T', 2, suite]);
            assert!(matches!(unknown, SuiteNotAllowed { suite: s } if s == suite));
        }
    }

    #[test]
    fn only_a_short_frame_with_the_magic_number_is_an_answer_of_another_version() {
        use HandshakeError::{Malformed, UnsupportedVersion};
        assert_eq!(version_answer(), *b"\xA7GT\x02");
        let theirs = |frame: &[u8]| match check_version(frame) {
            Err(UnsupportedVersion { theirs, ours: 2 }) => Some(theirs),
            Err(other) => panic!("{other}"),
            Ok(()) => None,
        };
        assert_eq!(theirs(b"\xA7GT\x01"), Some(1));
        assert_eq!(theirs(b"\xA7GT\x03 with more"), Some(3));
        let mut long = [b"\xA7GT\x03", &[0; 60][..]].concat();
        assert_eq!(theirs(&long), Some(3));
        long.push(0);
        assert_eq!(theirs(&long), None);
        for other in [&b""[..], b"\xA7GT", b"\xA7GU\x03", &[0; 4]] {
            assert_eq!(theirs(other), None);
        }
        let own = check_version(&version_answer()).unwrap_err();
        assert!(matches!(own, Malformed { .. }));
    }
}
