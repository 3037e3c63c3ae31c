//! One Noise handshake: `XX` over 25519 and BLAKE2s, with `psk0` if there is a pre-shared key.
//!
//! snow computes the handshake. This file chooses the pattern, refuses public keys that prove
//! nothing, wipes the keys that snow would leave in memory, and passes the split keys to our record
//! layer. It does not know frames, application protocols or trust. Invariant: the identity of a
//! finished handshake is that of a peer which holds its secret key.

#[cfg(test)]
mod tests;

use blake2::{Blake2s256, Digest};
use snow::params::{
    BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifier, HandshakeModifierList,
    HandshakePattern, HashChoice, NoiseParams,
};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::error::HandshakeError;
use super::record::{Cipher, Opener, Sealer};
use super::suite::Suite;
use crate::credential::{ClusterSecret, Identity};
use crate::rt::crypto::{self, X25519};

/// The longest handshake message, in bytes. Much room for payloads: without them, the longest
/// message has 96 bytes.
pub(super) const MAX_HANDSHAKE_LEN: usize = 4096;

/// Hashed before the cluster secret, so that no other protocol derives the same key from it.
const PSK_LABEL: &[u8] = b"gossip-transport cluster secret\0";

/// A side of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Sends the first message.
    Dialler,
    /// Answers it.
    Acceptor,
}

/// The inputs of a handshake. Both sides must have the same suite, PSK and prologue.
pub(super) struct NoiseInputs<'a> {
    pub(super) suite: Suite,
    pub(super) side: Side,
    pub(super) key: &'a X25519,
    pub(super) psk: Option<&'a [u8; 32]>,
    pub(super) prologue: &'a [u8],
}

/// A handshake in progress.
pub(super) struct Noise {
    state: HandshakeState,
    suite: Suite,
    side: Side,
    has_psk: bool,
}

impl Noise {
    pub(super) fn new(inputs: &NoiseInputs<'_>) -> Result<Self, HandshakeError> {
        Self::build(inputs, |builder| builder)
    }

    fn build<'a>(
        inputs: &NoiseInputs<'a>,
        adapt: impl FnOnce(Builder<'a>) -> Builder<'a>,
    ) -> Result<Self, HandshakeError> {
        let params = params(inputs.suite, inputs.psk.is_some());
        let resolver = StrictResolver {
            own: inputs.key.clone(),
        };
        let builder = Builder::with_resolver(params, Box::new(resolver))
            .prologue(inputs.prologue)
            .map_err(failed)?
            .local_private_key(inputs.key.privkey())
            .map_err(failed)?;
        let builder = adapt(builder);
        let state = match inputs.side {
            Side::Dialler => builder.build_initiator(),
            Side::Acceptor => builder.build_responder(),
        };
        let mut state = state.map_err(failed)?;
        if let Some(psk) = inputs.psk {
            // Not given to the builder: it would leave bytes of the PSK in the gaps between the fields of the state,
            // where nothing wipes them.
            state.set_psk(0, psk).map_err(failed)?;
        }
        Ok(Self {
            state,
            suite: inputs.suite,
            side: inputs.side,
            has_psk: inputs.psk.is_some(),
        })
    }

    /// Returns the next handshake message, with `payload` inside.
    pub(super) fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut message = vec![0; MAX_HANDSHAKE_LEN];
        match self.state.write_message(payload, &mut message) {
            Ok(len) => {
                message.truncate(len);
                Ok(message)
            }
            Err(snow::Error::Input) => Err(HandshakeError::Oversized {
                len: payload.len(),
                max: MAX_HANDSHAKE_LEN,
            }),
            Err(error) => Err(failed(error)),
        }
    }

    /// Returns the payload of the peer's next handshake message.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        if message.len() > MAX_HANDSHAKE_LEN {
            return Err(HandshakeError::Oversized {
                len: message.len(),
                max: MAX_HANDSHAKE_LEN,
            });
        }
        let mut payload = vec![0; message.len()];
        let len = self.state.read_message(message, &mut payload);
        payload.truncate(len.map_err(failed)?);
        Ok(payload)
    }

    /// Reads the first message with whichever of `psks` decrypts it. Returns the payload and the number of PSKs
    /// before that one.
    ///
    /// An attempt costs a few hashes and no Diffie-Hellman result, so a dialler that knows no PSK costs little more
    /// than with one. They are computed when they are needed.
    pub(super) fn read_first(
        &mut self,
        message: &[u8],
        psks: impl Iterator<Item = Zeroizing<[u8; 32]>>,
    ) -> Result<(usize, Vec<u8>), HandshakeError> {
        for (index, psk) in psks.enumerate() {
            // snow is left as it was before a message that it could not decrypt.
            self.state.set_psk(0, &*psk).map_err(failed)?;
            match self.read(message) {
                Err(HandshakeError::Decrypt) => {}
                read => return Ok((index, read?)),
            }
        }
        Err(HandshakeError::Decrypt)
    }

    /// Returns the identity of the peer. Fails if the peer has not proved it yet.
    pub(super) fn remote_identity(&self) -> Result<Identity, HandshakeError> {
        let key = self.state.get_remote_static();
        let key = key.and_then(|key| <[u8; 32]>::try_from(key).ok());
        key.map(Identity::from_bytes)
            .ok_or(HandshakeError::Internal {
                what: "the peer's key is not known yet".to_owned(),
            })
    }

    /// Returns the hash of all that both sides have sent so far. It differs in each handshake, and whoever knows it
    /// has taken part in it.
    pub(super) fn hash(&self) -> [u8; 32] {
        let hash = self.state.get_handshake_hash();
        hash.try_into().unwrap_or_default()
    }

    /// Ends the handshake and returns the record layer of both directions. Each direction changes
    /// its key after the given number of records, which must be at least 1.
    pub(super) fn split(
        mut self,
        rekey_sent_after: u64,
        rekey_received_after: u64,
    ) -> Result<(Sealer, Opener), HandshakeError> {
        if !self.state.is_handshake_finished() {
            return Err(HandshakeError::Internal {
                what: "the handshake is not finished".to_owned(),
            });
        }
        let (first, second) = self.state.dangerously_get_raw_split();
        let dialler_key = Zeroizing::new(first);
        let acceptor_key = Zeroizing::new(second);
        let (ours, theirs) = match self.side {
            Side::Dialler => (dialler_key, acceptor_key),
            Side::Acceptor => (acceptor_key, dialler_key),
        };
        let sealer = Sealer::new(self.suite, &ours, rekey_sent_after);
        let opener = Opener::new(self.suite, &theirs, rekey_received_after);
        sealer.zip(opener).ok_or(HandshakeError::Internal {
            what: "the cipher is not available".to_owned(),
        })
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        // snow keeps the PSK and does not wipe it, so it is overwritten here.
        if self.has_psk {
            let _ = self.state.set_psk(0, &[0; 32]);
        }
    }
}

/// Returns snow's description of the protocol. It is put together from its parts, since snow's
/// parser would bring the parts of many other protocols into a browser's module.
fn params(suite: Suite, has_psk: bool) -> NoiseParams {
    let (name, cipher) = match (suite, has_psk) {
        (Suite::AesGcm, false) => ("Noise_XX_25519_AESGCM_BLAKE2s", CipherChoice::AESGCM),
        (Suite::AesGcm, true) => ("Noise_XXpsk0_25519_AESGCM_BLAKE2s", CipherChoice::AESGCM),
        (Suite::ChaChaPoly, false) => (
            "Noise_XX_25519_ChaChaPoly_BLAKE2s",
            CipherChoice::ChaChaPoly,
        ),
        (Suite::ChaChaPoly, true) => (
            "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s",
            CipherChoice::ChaChaPoly,
        ),
    };
    let modifiers = if has_psk {
        vec![HandshakeModifier::Psk(0)]
    } else {
        Vec::new()
    };
    let handshake = HandshakeChoice {
        pattern: HandshakePattern::XX,
        modifiers: HandshakeModifierList { list: modifiers },
    };
    NoiseParams::new(
        name.to_owned(),
        BaseChoice::Noise,
        handshake,
        DHChoice::Curve25519,
        cipher,
        HashChoice::Blake2s,
    )
}

/// Returns whether this target has the cipher of `suite`.
pub(super) fn is_available(suite: Suite) -> bool {
    match suite {
        Suite::AesGcm => crypto::HAS_AES_GCM,
        Suite::ChaChaPoly => true,
    }
}

/// Returns the key of 32 bytes that Noise mixes in for a cluster secret of any length.
pub(super) fn psk(secret: &ClusterSecret) -> Zeroizing<[u8; 32]> {
    let mut hash = Blake2s256::new();
    hash.update(PSK_LABEL);
    hash.update(secret.as_bytes());
    let mut psk = Zeroizing::new([0; 32]);
    hash.finalize_into((&mut *psk).into());
    psk
}

fn failed(error: snow::Error) -> HandshakeError {
    match error {
        snow::Error::Decrypt => HandshakeError::Decrypt,
        snow::Error::Input => HandshakeError::Malformed {
            what: "a message that is too short",
        },
        snow::Error::Dh => HandshakeError::Malformed {
            what: "a public key of low order",
        },
        error => HandshakeError::Internal {
            what: error.to_string(),
        },
    }
}

/// Provides our own ciphers, hash and curve to snow. The source of randomness is snow's own.
struct StrictResolver {
    /// The key pair of this side. It is expanded already, and its public key is known.
    own: X25519,
}

impl CryptoResolver for StrictResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(StrictDh::new(self.own.clone()))),
            _ => None,
        }
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::Blake2s => Some(Box::new(Blake2sHash::default())),
            _ => None,
        }
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn snow::types::Cipher>> {
        let suite = match choice {
            CipherChoice::AESGCM => Suite::AesGcm,
            CipherChoice::ChaChaPoly => Suite::ChaChaPoly,
            #[allow(unreachable_patterns, reason = "snow has more behind features")]
            _ => return None,
        };
        is_available(suite).then(|| Box::new(HandshakeCipher { suite, key: None }) as Box<_>)
    }
}

/// A key pair that refuses a shared secret of zero (RFC 7748, section 6.1).
///
/// A public key of low order forces a shared secret of zero. Such a key has no secret half, so any
/// peer could claim it as its identity.
struct StrictDh {
    pair: X25519,
    /// Cached key pair, reused if snow sets its secret key.
    own: X25519,
}

impl StrictDh {
    fn new(own: X25519) -> Self {
        let pair = X25519::default();
        Self { pair, own }
    }
}

impl Dh for StrictDh {
    fn name(&self) -> &'static str {
        self.pair.name()
    }
    fn pub_len(&self) -> usize {
        self.pair.pub_len()
    }
    fn priv_len(&self) -> usize {
        self.pair.priv_len()
    }
    fn set(&mut self, privkey: &[u8]) {
        if self.own.privkey().ct_eq(privkey).into() {
            self.pair = self.own.clone();
        } else {
            self.pair.set(privkey);
        }
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        self.pair.generate(rng)
    }
    fn pubkey(&self) -> &[u8] {
        self.pair.pubkey()
    }
    fn privkey(&self) -> &[u8] {
        self.pair.privkey()
    }
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        self.pair.dh(pubkey, out)?;
        let zeros = vec![0; out.len()];
        if out.ct_eq(&zeros).into() {
            return Err(snow::Error::Dh);
        }
        Ok(())
    }
    fn dh_len(&self) -> usize {
        self.pair.dh_len()
    }
}

/// BLAKE2s for snow. snow's own resolver would bring BLAKE2b into a browser's module as well.
#[derive(Default)]
struct Blake2sHash(Blake2s256);

impl Hash for Blake2sHash {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }
    fn block_len(&self) -> usize {
        64
    }
    fn hash_len(&self) -> usize {
        32
    }
    fn reset(&mut self) {
        self.0 = Blake2s256::default();
    }
    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    fn result(&mut self, out: &mut [u8]) {
        let hash = self.0.finalize_reset();
        for (to, from) in out.iter_mut().zip(hash) {
            *to = from;
        }
    }
}

/// The cipher of the records, used for the messages of the handshake.
struct HandshakeCipher {
    suite: Suite,
    key: Option<Cipher>,
}

impl snow::types::Cipher for HandshakeCipher {
    fn name(&self) -> &'static str {
        match self.suite {
            Suite::AesGcm => "AESGCM",
            Suite::ChaChaPoly => "ChaChaPoly",
        }
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.key = Cipher::new(self.suite, key);
    }

    /// Returns the length of the sealed bytes, or 0 (which is shorter than any tag) if there is no
    /// key or not enough room. snow calls it only with both.
    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let mut sealed = || {
            let key = self.key.as_ref()?;
            let (bytes, rest) = out.split_at_mut_checked(plaintext.len())?;
            bytes.copy_from_slice(plaintext);
            let tag = key.seal(nonce, authtext, bytes)?;
            *rest.first_chunk_mut()? = tag;
            Some(plaintext.len().saturating_add(tag.len()))
        };
        sealed().unwrap_or(0)
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let key = self.key.as_ref().ok_or(snow::Error::Decrypt)?;
        if let Some(out) = out.get_mut(..ciphertext.len()) {
            out.copy_from_slice(ciphertext);
            let len = key.open(nonce, authtext, out);
            return len.ok_or(snow::Error::Decrypt);
        }
        let mut sealed = ciphertext.to_vec();
        let len = key.open(nonce, authtext, &mut sealed);
        let plaintext = len.and_then(|len| sealed.get(..len));
        let (plaintext, out) = plaintext
            .and_then(|plaintext| Some((plaintext, out.get_mut(..plaintext.len())?)))
            .ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(plaintext);
        Ok(plaintext.len())
    }
}
