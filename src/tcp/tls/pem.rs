//! Certificates and keys in PEM, and the files that they are in.
//!
//! It reads; nothing is verified here. Invariant: an error says where the text is from, and never quotes a key.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustls::pki_types::pem::{Error, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsFileError;

/// The longest file, in bytes. All authorities of a system take a quarter of a mebibyte.
const MAX_FILE_LEN: usize = 4 << 20;

/// Returns the contents of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let unreadable = |source| TlsFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_LEN + 1).unwrap_or(u64::MAX);
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > MAX_FILE_LEN {
        return Err(TlsFileError::TooLong {
            path: path.to_owned(),
            max: MAX_FILE_LEN,
        });
    }
    Ok(bytes)
}

/// Returns all certificates of a text, at least one.
pub(super) fn certificates(
    pem: &[u8],
    from: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let pem = checked(pem, from)?;
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificates.push(certificate.map_err(|error| malformed(&error, from))?);
    }
    if certificates.is_empty() {
        return Err(TlsFileError::NoCertificate {
            from: from.to_owned(),
        });
    }
    Ok(certificates)
}

/// Returns the first private key of a text.
pub(super) fn key(pem: &[u8], from: &str) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let pem = checked(pem, from)?;
    // Both forms: PKCS #8, and the older one with a header inside.
    let is_encrypted = [
        &b"-----BEGIN ENCRYPTED PRIVATE KEY-----"[..],
        b"Proc-Type: 4,ENCRYPTED",
    ]
    .iter()
    .any(|mark| pem.windows(mark.len()).any(|part| part == *mark));
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) if !is_encrypted => Ok(key),
        _ if is_encrypted => Err(TlsFileError::EncryptedKey {
            from: from.to_owned(),
        }),
        Err(Error::NoItemsFound) => Err(TlsFileError::NoKey {
            from: from.to_owned(),
        }),
        Err(error) => Err(malformed(&error, from)),
        // The arm above has all of these.
        Ok(key) => Ok(key),
    }
}

/// Returns a text without the mark of UTF-8 with which some editors begin a file.
///
/// # Errors
///
/// Fails if a section is indented. It would be skipped without a word.
fn checked<'a>(pem: &'a [u8], from: &str) -> Result<&'a [u8], TlsFileError> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let pem = pem.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(pem);
    let is_indented =
        |line: &[u8]| !line.starts_with(BEGIN) && line.trim_ascii_start().starts_with(BEGIN);
    if pem.split(|byte| *byte == b'\n').any(is_indented) {
        return Err(TlsFileError::Malformed {
            from: from.to_owned(),
            what: "a section is indented".to_owned(),
        });
    }
    Ok(pem)
}

fn malformed(error: &Error, from: &str) -> TlsFileError {
    // The texts of other errors quote what was found, which may be a part of a key.
    let what = match error {
        Error::MissingSectionEnd { .. } => "a section has no end",
        Error::IllegalSectionStart { .. } => "a section begins in a wrong way",
        Error::Base64Decode(_) => "a section is not base64",
        _ => "it is not PEM",
    };
    TlsFileError::Malformed {
        from: from.to_owned(),
        what: what.to_owned(),
    }
}
