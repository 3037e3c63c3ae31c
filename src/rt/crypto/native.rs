//! The ciphers and the curve of native targets: aws-lc.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use snow::Error;
use snow::types::{Dh, Random};
use zeroize::Zeroizing;

use super::aead::{Aead, TAG_LEN};

/// Whether this target has AES-256-GCM.
pub(crate) const HAS_AES_GCM: bool = true;

/// Returns whether this processor has instructions for AES-256-GCM.
pub(crate) fn prefers_aes_gcm() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let has = std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

/// Returns the SHA-1 hash of `bytes`, with which a server shows that it has understood a WebSocket
/// upgrade (RFC 6455, section 4.2.2). It protects nothing.
pub(crate) fn sha1(bytes: &[u8]) -> [u8; 20] {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    hash.as_ref().try_into().unwrap_or_default()
}

/// An expanded key, which aws-lc wipes when it is dropped.
pub(crate) struct AeadKey(LessSafeKey);

impl AeadKey {
    /// Expands `key`. Returns `None` if this target does not have the cipher.
    pub(crate) fn new(aead: Aead, key: &[u8; 32]) -> Option<Self> {
        let algorithm = match aead {
            Aead::AesGcm => &AES_256_GCM,
            Aead::ChaChaPoly => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, key).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// Encrypts `bytes` in place and returns the tag, or `None` if they are too long for the cipher.
    pub(crate) fn seal(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        bytes: &mut [u8],
    ) -> Option<[u8; TAG_LEN]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(associated), bytes);
        tag.ok()?.as_ref().try_into().ok()
    }

    /// Decrypts `sealed`, which must end with the tag, in place. Returns the length of the plaintext,
    /// or `None` if the tag does not match; `sealed` is then unusable.
    pub(crate) fn open(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        sealed: &mut [u8],
    ) -> Option<usize> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(associated), sealed);
        opened.ok().map(|plaintext| plaintext.len())
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
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (sealed, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
        let opened = self
            .0
            .open_separate_gather(nonce, Aad::empty(), sealed, tag, plaintext);
        opened.ok()
    }
}

const KEY_LEN: usize = 32;

/// A key pair of X25519, for snow: several times as fast as snow's own. Clones share the expanded key.
#[derive(Clone, Default)]
pub(crate) struct X25519 {
    secret: Zeroizing<[u8; KEY_LEN]>,
    key: Option<Arc<PrivateKey>>,
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
        let key = PrivateKey::from_private_key(&agreement::X25519, secret).ok();
        self.key = key.map(Arc::new);
        let public = self.key.as_ref().and_then(|key| {
            let public = key.compute_public_key().ok()?;
            public.as_ref().try_into().ok()
        });
        self.public = public.unwrap_or_default();
        *self.secret = secret.try_into().unwrap_or_default();
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
        let key = self.key.as_ref().ok_or(Error::Dh)?;
        let public = public.get(..KEY_LEN).ok_or(Error::Dh)?;
        let out = out.get_mut(..KEY_LEN).ok_or(Error::Dh)?;
        let public = UnparsedPublicKey::new(&agreement::X25519, public);
        agreement::agree(key, public, Error::Dh, |shared| {
            out.copy_from_slice(shared);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn a_curve_leaves_no_secret_key_in_memory() {
        use super::*;
        use crate::rt::crypto::tests::{assert_wiped_on_drop, secret};

        let secret = secret::<KEY_LEN>();
        let mut curve = X25519::default();
        curve.set(&secret);
        assert_wiped_on_drop(curve, &secret);
    }
}
