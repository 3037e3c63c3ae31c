//! Connections by which a certificate authority validates a name: TLS-ALPN-01 (RFC 8737).
//!
//! A client that offers the protocol `acme-tls/1` and nothing else is shown the certificate that proves control over the name,
//! for as long as somebody here waits for that. It orders nothing. Invariant: no name is answered for that was not added, and
//! none after its [`TlsValidation`] was dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::rt::sync::Mutex;

/// The protocol that such a client offers.
pub(super) const ACME_TLS_1: &[u8] = b"acme-tls/1";

/// The certificates for names that are being validated, by name in lower case. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Validations(Arc<Mutex<BTreeMap<String, Arc<CertifiedKey>>>>);

/// An answer to the certificate authority that validates a name, until it is dropped.
///
/// See [`TlsIdentity::answer_validation`](super::TlsIdentity::answer_validation).
#[must_use = "nothing is answered once this is dropped"]
pub struct TlsValidation {
    name: String,
    answer: Arc<CertifiedKey>,
    of: Validations,
}

impl Validations {
    /// Answers for `name` with `answer`, instead of an earlier answer for that name.
    pub(super) fn add(&self, name: &str, answer: Arc<CertifiedKey>) -> TlsValidation {
        let name = name.to_ascii_lowercase();
        self.0.lock().insert(name.clone(), Arc::clone(&answer));
        TlsValidation {
            name,
            answer,
            of: self.clone(),
        }
    }

    /// Returns the answer to a client which validates, or `None` if nobody here waits for that.
    pub(super) fn answer(&self, hello: &ClientHello<'_>) -> Option<Answer> {
        let name = hello.server_name()?.to_ascii_lowercase();
        self.0.lock().get(&name).cloned().map(Answer)
    }
}

/// Returns whether a client offers the protocol of validations and nothing else, as RFC 8737 demands.
pub(super) fn is_validation(hello: &ClientHello<'_>) -> bool {
    let Some(mut protocols) = hello.alpn() else {
        return false;
    };
    protocols.next() == Some(ACME_TLS_1) && protocols.next().is_none()
}

/// The certificate for one client.
#[derive(Debug)]
pub(super) struct Answer(Arc<CertifiedKey>);

impl ResolvesServerCert for Answer {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Drop for TlsValidation {
    fn drop(&mut self) {
        let mut answers = self.of.0.lock();
        let current = answers.get(&self.name);
        if current.is_some_and(|current| Arc::ptr_eq(current, &self.answer)) {
            answers.remove(&self.name);
        }
    }
}

impl fmt::Debug for TlsValidation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsValidation")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
