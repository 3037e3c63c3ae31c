//! The certificate and key with which this side accepts TLS, and their replacement at run time.
//!
//! Nothing is watched here: whoever owns the files calls [`TlsIdentity::reload`]. Invariant: the certificate in use and its
//! key belong together, whatever fails; a connection keeps the certificate with which it was accepted.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blake2::{Blake2s256, Digest as _};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::error::TlsFileError;
use super::pem;
use super::validation::{TlsValidation, Validations};
use super::validity::Validity;
use crate::rt;
use crate::rt::sync::Mutex;

/// A certificate chain with its private key, which can be replaced while connections are open. There may be none yet.
/// Clones share it.
#[derive(Clone)]
pub struct TlsIdentity(Arc<Inner>);

struct Inner {
    files: Option<Files>,
    /// `None` until there is one.
    current: Mutex<Option<Current>>,
    validations: Validations,
    reload_failures: AtomicU64,
}

#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug, Clone)]
struct Current {
    certified: Arc<CertifiedKey>,
    validity: Option<Validity>,
    /// A hash of both texts, to notice whether they have changed.
    digest: [u8; 32],
}

/// Whether [`TlsIdentity::reload`] has found another certificate or key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The files have the same contents as before.
    Unchanged,
    /// New connections are accepted with the new certificate.
    Replaced,
}

impl TlsIdentity {
    /// Reads a certificate chain and its private key from two PEM files. The certificate for the key is the first one of
    /// the chain. Both may be in one file.
    ///
    /// A certificate that has expired or is not valid yet is logged as a warning, since the clock may be wrong.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read or used.
    pub fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsFileError> {
        let files = Files {
            certificate: certificate.into(),
            key: key.into(),
        };
        let current = files.load()?;
        Ok(Self::new(Some(files), Some(current)))
    }

    /// Reads a certificate chain and its private key from two PEM texts.
    ///
    /// # Errors
    ///
    /// Fails if one of them cannot be used.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsFileError> {
        let current = load((certificate, "the certificate"), (key, "the key"))?;
        Ok(Self::new(None, Some(current)))
    }

    /// Returns an identity without a certificate. Until it gets one ([`replace_pem`](Self::replace_pem)), TLS handshakes are
    /// refused.
    pub fn without_certificate() -> Self {
        Self::new(None, None)
    }

    fn new(files: Option<Files>, current: Option<Current>) -> Self {
        if let Some(current) = &current {
            current.warn();
        }
        Self(Arc::new(Inner {
            files,
            current: Mutex::new(current),
            validations: Validations::default(),
            reload_failures: AtomicU64::new(0),
        }))
    }

    /// Reads the files again. Connections that are open stay as they are; new ones are accepted with what is in the files
    /// now. Without files, this does nothing. It blocks for as long as reading the files takes.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read or used, as in the moment in which only one of the two has been replaced; or if the
    /// certificate in use is valid now and the new one is not. The certificate in use stays. It is counted, see
    /// [`reload_failures`](Self::reload_failures).
    pub fn reload(&self) -> Result<Reloaded, TlsFileError> {
        let reloaded = self.try_reload();
        if reloaded.is_err() {
            self.0.reload_failures.fetch_add(1, Ordering::Relaxed);
        }
        reloaded
    }

    fn try_reload(&self) -> Result<Reloaded, TlsFileError> {
        let Some(files) = &self.0.files else {
            return Ok(Reloaded::Unchanged);
        };
        let (new, now) = (files.load()?, rt::unix_time());
        let is_valid = |validity: Validity| validity.from <= now && now < validity.until;
        if let Some(validity) = new.validity
            && !is_valid(validity)
            && self.validity().is_some_and(is_valid)
        {
            let from = files.certificate.display().to_string();
            return Err(match validity.from > now {
                true => TlsFileError::NotValidYet { from },
                false => TlsFileError::Expired { from },
            });
        }
        Ok(self.replace(new))
    }

    /// Returns how many times [`reload`](Self::reload) has failed.
    pub fn reload_failures(&self) -> u64 {
        self.0.reload_failures.load(Ordering::Relaxed)
    }

    /// Replaces the certificate chain and the key by those of two PEM texts. Connections that are open stay as they are. A
    /// certificate that has expired or is not valid yet is logged as a warning, and used.
    ///
    /// # Errors
    ///
    /// Fails if one of them cannot be used. The certificate in use stays.
    pub fn replace_pem(&self, certificate: &[u8], key: &[u8]) -> Result<Reloaded, TlsFileError> {
        let current = load((certificate, "the certificate"), (key, "the key"))?;
        Ok(self.replace(current))
    }

    fn replace(&self, new: Current) -> Reloaded {
        let mut current = self.0.current.lock();
        if current.as_ref().is_some_and(|old| old.digest == new.digest) {
            return Reloaded::Unchanged;
        }
        *current = Some(new.clone());
        drop(current);
        new.warn();
        Reloaded::Replaced
    }

    /// Shows the certificate authority that validates `name` a certificate (RFC 8737), until the returned value is dropped.
    ///
    /// `name` is what the authority names in its handshake: a DNS name, or for an IP address its name of reverse DNS
    /// (RFC 8738). `certificate` is the self-signed one with the extension of RFC 8737. Only a client that offers the protocol
    /// `acme-tls/1` and nothing else sees it. Its connection ends after the handshake, and is counted as
    /// [`AcceptFailure::Validation`](crate::net::AcceptFailure::Validation). With the feature `acme` of this crate,
    /// the module `acme` calls this.
    ///
    /// # Errors
    ///
    /// Fails if the certificate or the key cannot be used.
    pub fn answer_validation(
        &self,
        name: &str,
        certificate: &[u8],
        key: &[u8],
    ) -> Result<TlsValidation, TlsFileError> {
        let (certificate_name, key_name) = ("the certificate", "the key");
        let chain = pem::certificates(certificate, certificate_name)?;
        let key = aws_lc_rs::sign::any_supported_type(&pem::key(key, key_name)?);
        let key = key.map_err(|error| malformed(key_name, &error))?;
        // Whether they match cannot be told, since rustls understands no certificate with that extension.
        let answer = Arc::new(CertifiedKey::new(chain, key));
        Ok(self.0.validations.add(name, answer))
    }

    /// Returns whether there is a certificate.
    pub fn has_certificate(&self) -> bool {
        self.0.current.lock().is_some()
    }

    /// Returns the time since 1970-01-01 UTC from which the certificate in use is valid, or `None` as
    /// [`expires_at`](Self::expires_at).
    pub fn valid_from(&self) -> Option<Duration> {
        self.validity().map(|validity| validity.from)
    }

    /// Returns the time since 1970-01-01 UTC at which the certificate in use expires, or `None` if there is none, or if it
    /// has a form that is not understood.
    pub fn expires_at(&self) -> Option<Duration> {
        self.validity().map(|validity| validity.until)
    }

    fn validity(&self) -> Option<Validity> {
        self.0.current.lock().as_ref()?.validity
    }

    /// Returns the files of the certificate chain and of the key, or `None` if they were texts.
    pub fn files(&self) -> Option<(&Path, &Path)> {
        let files = self.0.files.as_ref()?;
        Some((&files.certificate, &files.key))
    }

    /// Returns what tells rustls the certificate for each new connection.
    pub(super) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.0) as Arc<dyn ResolvesServerCert>
    }

    /// Returns the answers to certificate authorities.
    pub(super) fn validations(&self) -> &Validations {
        &self.0.validations
    }
}

impl Files {
    fn load(&self) -> Result<Current, TlsFileError> {
        let certificate = pem::read(&self.certificate)?;
        let key = zeroize::Zeroizing::new(pem::read(&self.key)?);
        let name = |path: &Path| path.display().to_string();
        load(
            (&certificate, &name(&self.certificate)),
            (&key, &name(&self.key)),
        )
    }
}

/// Reads two PEM texts, each with what it is called in errors.
fn load(
    (certificate, certificate_name): (&[u8], &str),
    (key, key_name): (&[u8], &str),
) -> Result<Current, TlsFileError> {
    let chain = pem::certificates(certificate, certificate_name)?;
    let private_key = pem::key(key, key_name)?;
    let certified =
        certify(chain.clone(), private_key.clone_key()).map_err(|error| match error {
            Failure::Key(error) => malformed(key_name, &error),
            Failure::Certificate(error) => malformed(certificate_name, &error),
            Failure::Mismatch => {
                let mut others = chain.iter().skip(1);
                let is_for_key = |certificate: &CertificateDer<'static>| {
                    certify(vec![certificate.clone()], private_key.clone_key()).is_ok()
                };
                match others.position(is_for_key) {
                    Some(index) => TlsFileError::ChainOrder {
                        from: certificate_name.to_owned(),
                        position: index + 2,
                    },
                    None => TlsFileError::KeyMismatch {
                        certificate: certificate_name.to_owned(),
                        key: key_name.to_owned(),
                    },
                }
            }
        })?;
    let first = chain.first();
    Ok(Current {
        certified: Arc::new(certified),
        validity: first.and_then(|first| Validity::of(first)),
        digest: Blake2s256::new()
            .chain_update(Blake2s256::digest(certificate))
            .chain_update(Blake2s256::digest(key))
            .finalize()
            .into(),
    })
}

fn malformed(from: &str, error: &rustls::Error) -> TlsFileError {
    TlsFileError::Malformed {
        from: from.to_owned(),
        what: error.to_string(),
    }
}

/// The reason for which a certificate and a key cannot be used.
enum Failure {
    Key(rustls::Error),
    Certificate(rustls::Error),
    Mismatch,
}

fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Failure> {
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(Failure::Key)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Failure::Mismatch),
        Err(error) => Err(Failure::Certificate(error)),
    }
}

impl Current {
    fn warn(&self) {
        let now = rt::unix_time();
        match self.validity {
            Some(validity) if validity.until < now => {
                let days = (now - validity.until).as_secs() / 86_400;
                tracing::warn!(
                    days,
                    "the TLS certificate has expired, clients will refuse it: renew it"
                );
            }
            Some(validity) if validity.from > now => {
                tracing::warn!(
                    "the TLS certificate is not valid yet: check the clock of this machine"
                );
            }
            _ => {}
        }
    }
}

impl ResolvesServerCert for Inner {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.lock();
        current
            .as_ref()
            .map(|current| Arc::clone(&current.certified))
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("files", &self.0.files)
            .finish_non_exhaustive()
    }
}
