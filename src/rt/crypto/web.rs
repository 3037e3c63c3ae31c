//! RustCrypto and dalek: portable, and small in wasm.

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use snow::Error;
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Dh, Random};

use super::{Aead, TAG_LEN};

/// Whether this target has AES-256-GCM.
pub(crate) const HAS_AES_GCM: bool = false;

/// Whether this processor computes AES-256-GCM by instructions of its own: wasm has none.
pub(crate) fn prefers_aes_gcm() -> bool {
    false
}

/// An expanded key. It wipes itself when dropped.
pub(crate) struct AeadKey(ChaCha20Poly1305);

impl AeadKey {
    /// `None` where this target does not have the cipher.
    pub(crate) fn new(aead: Aead, key: &[u8; 32]) -> Option<Self> {
        match aead {
            Aead::AesGcm => None,
            Aead::ChaChaPoly => Some(Self(ChaCha20Poly1305::new(key.into()))),
        }
    }

    /// Encrypts `bytes` in place and gives the tag; `None` if they are too long for the cipher.
    pub(crate) fn seal(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        bytes: &mut [u8],
    ) -> Option<[u8; TAG_LEN]> {
        let nonce = Nonce::from(nonce);
        let tag = self.0.encrypt_in_place_detached(&nonce, associated, bytes);
        tag.ok().map(Into::into)
    }

    /// Decrypts `sealed`, whose end is the tag, in place and gives the plaintext's length; `None`,
    /// and garbage in `sealed`, if the tag does not match.
    pub(crate) fn open(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        sealed: &mut [u8],
    ) -> Option<usize> {
        let (bytes, tag) = sealed.split_last_chunk_mut::<TAG_LEN>()?;
        let nonce = Nonce::from(nonce);
        let tag = Tag::from(*tag);
        let opened = self
            .0
            .decrypt_in_place_detached(&nonce, associated, bytes, &tag);
        opened.ok().map(|()| bytes.len())
    }
}

/// X25519 for snow.
pub(crate) fn curve() -> Option<Box<dyn Dh>> {
    let dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519)?;
    Some(Box::new(Wiped(dh)))
}

/// Overwrites its secret key when dropped, which snow's own does not.
struct Wiped(Box<dyn Dh>);

impl Dh for Wiped {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn pub_len(&self) -> usize {
        self.0.pub_len()
    }

    fn priv_len(&self) -> usize {
        self.0.priv_len()
    }

    fn set(&mut self, secret: &[u8]) {
        self.0.set(secret);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        self.0.generate(rng)
    }

    fn pubkey(&self) -> &[u8] {
        self.0.pubkey()
    }

    fn privkey(&self) -> &[u8] {
        self.0.privkey()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        self.0.dh(public, out)
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.set(&[0; 32]);
    }
}
