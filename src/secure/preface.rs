//! The preface: the dialler's first frame, which names the protocol, its version and the suite.
//!
//! The preface is sent in the clear and negotiates nothing: an acceptor takes the suite or refuses.
//! Invariant: every byte of it is in the Noise prologue of both sides. A handshake therefore
//! succeeds only if both have seen the same preface, which rules out a downgrade.

use super::error::HandshakeError;
use super::suite::Suite;

/// The first bytes of every stream of frames: the length of the preface, then its magic number.
///
/// They distinguish this protocol from HTTP and TLS on the same port. The version and the suite
/// follow.
pub const PREFACE_START: [u8; 5] = [0, 5, MAGIC[0], MAGIC[1], MAGIC[2]];

const MAGIC: [u8; 3] = [0xA7, b'G', b'T'];
const VERSION: u8 = 1;

/// The bit of the suite's code that is set for AES-GCM.
const AES_GCM: u8 = 0b01;
/// The bit of the suite's code that is set if a cluster secret is used.
const SECRET: u8 = 0b10;

/// Hashed before the preface, so that no other protocol's transcript matches.
const PROLOGUE_LABEL: &[u8; 27] = b"gossip-transport handshake\0";

/// The suite that a dialler asks for, and whether it uses a cluster secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preface {
    pub(super) suite: Suite,
    pub(super) with_secret: bool,
}

impl Preface {
    pub(super) const LEN: usize = MAGIC.len() + 2;
    pub(super) const PROLOGUE_LEN: usize = PROLOGUE_LABEL.len() + Self::LEN;

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
        if suite & !(AES_GCM | SECRET) != 0 {
            return Err(HandshakeError::SuiteNotAllowed { suite });
        }
        Ok(Self {
            suite: if suite & AES_GCM != 0 {
                Suite::AesGcm
            } else {
                Suite::ChaChaPoly
            },
            with_secret: suite & SECRET != 0,
        })
    }

    /// Returns the suite's code, the last byte of the preface.
    pub(super) fn suite_code(self) -> u8 {
        let cipher = match self.suite {
            Suite::AesGcm => AES_GCM,
            Suite::ChaChaPoly => 0,
        };
        cipher | if self.with_secret { SECRET } else { 0 }
    }

    /// Returns the bytes that both sides hash before the first Noise message.
    pub(super) fn prologue(self) -> [u8; Self::PROLOGUE_LEN] {
        let mut prologue = [0; Self::PROLOGUE_LEN];
        let (label, preface) = prologue.split_at_mut(PROLOGUE_LABEL.len());
        label.copy_from_slice(PROLOGUE_LABEL);
        preface.copy_from_slice(&self.encode());
        prologue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secure::frame::FrameBuffer;

    const ALL: [Preface; 4] = {
        const fn preface(suite: Suite, with_secret: bool) -> Preface {
            Preface { suite, with_secret }
        }
        [
            preface(Suite::AesGcm, false),
            preface(Suite::AesGcm, true),
            preface(Suite::ChaChaPoly, false),
            preface(Suite::ChaChaPoly, true),
        ]
    };

    #[test]
    fn a_preface_decodes_as_encoded_and_each_has_its_own_prologue() {
        for (i, a) in ALL.iter().enumerate() {
            assert_eq!(Preface::decode(&a.encode()).unwrap(), *a);
            for b in &ALL[..i] {
                assert_ne!(a.prologue(), b.prologue());
            }
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
        assert!(matches!(decode(b"\xA7GT\x01"), NotOurProtocol));
        assert!(matches!(decode(b"\xA7GT\x01\x00\x00"), NotOurProtocol));
        let newer = decode(b"\xA7GT\x02 anything after that");
        assert!(matches!(newer, UnsupportedVersion { theirs: 2, ours: 1 }));
        let unknown = decode(b"\xA7GT\x01\x04");
        assert!(matches!(unknown, SuiteNotAllowed { suite: 4 }));
    }
}
