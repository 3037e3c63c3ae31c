//! The name of a certificate in questions about its renewal (RFC 9773, section 4.1).
//!
//! It reads as much of the DER as leads there (RFC 5280, sections 4.1 and 4.2.1.1), and verifies nothing.

use instant_acme::CertificateIdentifier;
use rustls::pki_types::Der as Value;

use crate::tcp::Der;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// The version at the beginning of a certificate.
const VERSION: u8 = 0xA0;
/// The extensions at its end.
const EXTENSIONS: u8 = 0xA3;
/// The key identifier inside of an AuthorityKeyIdentifier.
const KEY_ID: u8 = 0x80;
/// The extension AuthorityKeyIdentifier, 2.5.29.35.
const AUTHORITY_KEY_ID: [u8; 3] = [0x55, 0x1D, 0x23];

/// Returns the name of a certificate in DER, or `None` if it lacks what the name consists of.
pub(super) fn certificate_id(certificate: &[u8]) -> Option<CertificateIdentifier<'static>> {
    let (authority, serial) = parts(certificate)?;
    let id = CertificateIdentifier::new(Value::from_slice(authority), Value::from_slice(serial));
    Some(id.into_owned())
}

/// Returns the key identifier of the issuer and the serial number, with its leading zero.
fn parts(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut certificate = Der(certificate);
    let mut certificate = Der(certificate.take(SEQUENCE)?);
    let mut body = Der(certificate.take(SEQUENCE)?);
    if body.0.first() == Some(&VERSION) {
        body.take(VERSION)?;
    }
    let serial = body.take(INTEGER)?;
    let mut extensions = loop {
        match body.next()? {
            (EXTENSIONS, contents) => break Der(Der(contents).take(SEQUENCE)?),
            _ => continue,
        }
    };
    loop {
        let mut extension = Der(extensions.take(SEQUENCE)?);
        if extension.take(OBJECT_ID)? != AUTHORITY_KEY_ID {
            continue;
        }
        if extension.0.first() == Some(&BOOLEAN) {
            extension.take(BOOLEAN)?;
        }
        let mut value = Der(extension.take(OCTET_STRING)?);
        let authority = Der(value.take(SEQUENCE)?).take(KEY_ID)?;
        return Some((authority, serial));
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, IsCa, Issuer, KeyIdMethod, KeyPair, SerialNumber};

    use super::*;

    fn certificate(has_authority: bool) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_identifier_method = KeyIdMethod::PreSpecified(vec![0x69, 0x88, 0x5b]);
        let issuer = Issuer::new(params, KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(&[0x00, 0x87, 0x65]));
        params.use_authority_key_identifier_extension = has_authority;
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &issuer).unwrap().der().to_vec()
    }

    #[test]
    fn the_name_is_the_key_of_the_issuer_and_the_serial_number() {
        let certificate = certificate(true);
        let id = certificate_id(&certificate).unwrap();
        // As Python's base64 encodes 69885b and 008765.
        assert_eq!(id.to_string(), "aYhb.AIdl");
    }

    #[test]
    fn other_bytes_have_no_name() {
        assert!(certificate_id(&certificate(false)).is_none());
        let whole = certificate(true);
        for len in 0..whole.len() {
            assert!(certificate_id(&whole[..len]).is_none(), "{len}");
        }
    }
}
