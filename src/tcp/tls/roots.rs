//! The certificate authorities that are trusted when TLS is dialled.
//!
//! Nothing is verified here. Invariant: there is at least one authority, or an error says why not.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;

use super::error::TlsFileError;
use super::pem;

/// The certificate authorities that are trusted when TLS is dialled. Default: those of the system. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct TlsRoots(Kind);

#[derive(Debug, Clone, Default)]
enum Kind {
    #[default]
    System,
    Given(Arc<RootCertStore>),
}

impl TlsRoots {
    /// Trusts the authorities that the system trusts. They are loaded by the first dial.
    pub fn system() -> Self {
        Self::default()
    }

    /// Trusts the certificates of a PEM text, and no others. A certificate that nobody has issued but itself is trusted as
    /// an authority.
    ///
    /// # Errors
    ///
    /// Fails if there is no certificate, or one of them cannot be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsFileError> {
        Self::given(pem, "the CA file")
    }

    /// Trusts the certificates of a PEM file, and no others. It is read once.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or as [`from_pem`](Self::from_pem).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TlsFileError> {
        let path = path.as_ref();
        Self::given(&pem::read(path)?, &path.display().to_string())
    }

    fn given(pem: &[u8], from: &str) -> Result<Self, TlsFileError> {
        let mut roots = RootCertStore::empty();
        for certificate in pem::certificates(pem, from)? {
            let added = roots.add(certificate);
            added.map_err(|error| TlsFileError::Malformed {
                from: from.to_owned(),
                what: error.to_string(),
            })?;
        }
        Ok(Self(Kind::Given(Arc::new(roots))))
    }

    /// Loads the authorities. Blocks for as long as reading them takes.
    pub(crate) fn load(&self) -> Result<Arc<RootCertStore>, TlsFileError> {
        if let Kind::Given(roots) = &self.0 {
            return Ok(Arc::clone(roots));
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Systems have some certificates that are no authorities, or too old to be understood.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            let what = if errors.is_empty() {
                "none was found".to_owned()
            } else {
                errors.join("; ")
            };
            return Err(TlsFileError::NoSystemRoots { what });
        }
        Ok(Arc::new(roots))
    }
}
