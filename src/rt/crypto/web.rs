//! The ciphers and the curve of browsers: RustCrypto and dalek, which are portable and small in wasm.

use curve25519_dalek::MontgomeryPoint;
use curve25519_dalek::constants::X25519_BASEPOINT;
use gossip_transport_aead::ChaChaKey;
use snow::Error;
use snow::types::{Dh, Random};
use zeroize::Zeroizing;

use super::aead::{Aead, TAG_LEN};

/// Whether this target has AES-256-GCM.
pub(crate) const HAS_AES_GCM: bool = false;

/// Returns whether this processor has instructions for AES-256-GCM, which wasm never has.
pub(crate) fn prefers_aes_gcm() -> bool {
    false
}

/// An expanded key, which is wiped when it is dropped.
pub(crate) struct AeadKey(ChaChaKey);

impl AeadKey {
    /// Expands `key`. Returns `None` if this target does not have the cipher.
    pub(crate) fn new(aead: Aead, key: &[u8; 32]) -> Option<Self> {
        match aead {
            Aead::AesGcm => None,
            Aead::ChaChaPoly => Some(Self(ChaChaKey::new(key))),
        }
    }

    /// Encrypts `bytes` in place and returns the tag, or `None` if they are too long for the cipher.
    pub(crate) fn seal(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        bytes: &mut [u8],
    ) -> Option<[u8; TAG_LEN]> {
        self.0.seal(nonce, associated, bytes)
    }

    /// Decrypts `sealed`, which must end with the tag, in place. Returns the length of the plaintext,
    /// or `None` if the tag does not match; `sealed` is then unusable.
    pub(crate) fn open(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        sealed: &mut [u8],
    ) -> Option<usize> {
        self.0.open(nonce, associated, sealed)
    }

    /// Decrypts `sealed`, which must end with the tag and has no associated data, to `plaintext`, which must
    /// be shorter by the tag. Returns `None` if the tag or a length does not match; `plaintext` is then
    /// unusable.
    pub(crate) fn open_to(
        &self,
        nonce: [u8; 12],
        sealed: &[u8],
        plaintext: &mut [u8],
    ) -> Option<()> {
        self.0.open_to(nonce, sealed, plaintext)
    }
}

const KEY_LEN: usize = 32;

/// A key pair of X25519, for snow. snow's own computes public keys in the twisted Edwards form, which is
/// more code, and leaves the secret key in memory. This one uses the Montgomery ladder for public
/// keys and shared secrets alike, and wipes the secret key.
#[derive(Clone, Default)]
pub(crate) struct X25519 {
    secret: Zeroizing<[u8; KEY_LEN]>,
    public: [u8; KEY_LEN],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, secret: &[u8]) {
        *self.secret = secret.try_into().unwrap_or_default();
        self.public = X25519_BASEPOINT.mul_clamped(*self.secret).to_bytes();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut secret = Zeroizing::new([0; KEY_LEN]);
        rng.try_fill_bytes(secret.as_mut_slice())?;
        self.set(secret.as_slice());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_slice()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public: [u8; KEY_LEN] = public
            .get(..KEY_LEN)
            .and_then(|public| public.try_into().ok())
            .ok_or(Error::Dh)?;
        let shared = Zeroizing::new(MontgomeryPoint(public).mul_clamped(*self.secret).to_bytes());
        out.get_mut(..KEY_LEN)
            .ok_or(Error::Dh)?
            .copy_from_slice(shared.as_slice());
        Ok(())
    }
}
