//! Errors of certificates and keys, of names to dial with TLS, and of TLS handshakes.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::AlertDescription;

/// The error of a certificate, a key or a list of roots that cannot be used.
///
/// The operator must change a file first: a retry does not help. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFileError {
    /// The file cannot be read.
    #[error("cannot read {}: check that the file exists and that this user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is longer than any file of certificates.
    #[error("{} is longer than {} KiB, so it is no file of certificates", path.display(), max >> 10)]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        max: usize,
    },
    /// There is no certificate.
    #[error("{from} contains no certificate: it must be PEM, with \"-----BEGIN CERTIFICATE-----\"")]
    NoCertificate {
        /// Where it was looked for: a file, or a word for bytes in memory.
        from: String,
    },
    /// There is no private key.
    #[error(
        "{from} contains no private key: it must be PEM, with \"-----BEGIN PRIVATE KEY-----\" or the older forms for \
         RSA and EC"
    )]
    NoKey {
        /// Where it was looked for.
        from: String,
    },
    /// The private key is encrypted, and there is nobody to ask for its password.
    #[error(
        "the key in {from} is encrypted: decrypt it (\"openssl pkey -in KEY -out PLAIN\"), and protect the file"
    )]
    EncryptedKey {
        /// Where it is.
        from: String,
    },
    /// The text is not PEM, or what is inside is no certificate or key.
    #[error("{from} is malformed: {what}")]
    Malformed {
        /// Where it is.
        from: String,
        /// What is wrong with it.
        what: String,
    },
    /// The certificate is for another key.
    #[error(
        "the certificate in {certificate} is not for the key in {key}: the two files must be from the same request"
    )]
    KeyMismatch {
        /// Where the certificate is.
        certificate: String,
        /// Where the key is.
        key: String,
    },
    /// The certificate of the key is not the first one of the chain.
    #[error(
        "the chain in {from} is out of order: the certificate for the key is number {position}, but must be the first"
    )]
    ChainOrder {
        /// Where the chain is.
        from: String,
        /// The number of the certificate for the key, from 1 on.
        position: usize,
    },
    /// The certificate has expired, and the one in use has not.
    #[error(
        "the certificate in {from} has expired: renew it (or set the clock of this machine, if it is wrong)"
    )]
    Expired {
        /// Where it is.
        from: String,
    },
    /// The certificate is valid from a later time on, and the one in use is valid now.
    #[error("the certificate in {from} is not valid yet: check the clock of this machine")]
    NotValidYet {
        /// Where it is.
        from: String,
    },
    /// The system has no list of certificate authorities.
    #[error(
        "this system has no certificate authorities: install its package for them (\"ca-certificates\"), or name a file ({what})"
    )]
    NoSystemRoots {
        /// What was tried.
        what: String,
    },
}

/// The error of a name that begins with `tls://` and cannot be dialled. A retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} must be tls://host:port, such as tls://node.example.com:443 or tls://192.0.2.1:443"
)]
pub struct TlsNameError {
    /// The name, at most its first 100 characters.
    pub name: String,
}

/// The error of a dial whose TLS handshake failed. Nothing was sent inside of TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsDialError {
    /// No authority that this side trusts has issued the certificate.
    #[error(
        "the certificate of {name} is from an unknown authority: if it is your own, name its CA file here (TcpConfig::tls_roots)"
    )]
    UnknownIssuer {
        /// The name that was dialled.
        name: String,
    },
    /// The certificate, or one that has issued it, has expired.
    #[error(
        "the certificate of {name} has expired: renew it there (or set the clock of this machine, if it is wrong)"
    )]
    Expired {
        /// The name that was dialled.
        name: String,
    },
    /// The certificate is valid from a later time on.
    #[error("the certificate of {name} is not valid yet: check the clocks of both machines")]
    NotValidYet {
        /// The name that was dialled.
        name: String,
    },
    /// The certificate is for other names.
    #[error(
        "the certificate of {name} is for another name{}: dial that, or issue one for {name}",
        list(presented)
    )]
    WrongName {
        /// The name that was dialled.
        name: String,
        /// The names in the certificate, at most 8.
        presented: Vec<String>,
    },
    /// The certificate cannot be used for another reason.
    #[error("the certificate of {name} is refused: {reason}")]
    Certificate {
        /// The name that was dialled.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The peer does not speak TLS.
    #[error(
        "{name} does not speak TLS: configure a certificate there, or dial it without \"tls://\""
    )]
    NotTls {
        /// The name that was dialled.
        name: String,
    },
    /// The peer refused the handshake. A node without a certificate does so, too.
    #[error(
        "{name} refused the TLS handshake ({alert}): check that a certificate is configured there"
    )]
    Refused {
        /// The name that was dialled.
        name: String,
        /// The alert that it sent.
        alert: String,
    },
    /// The peer did not complete the handshake in time. A retry may help.
    #[error("{name} did not complete the TLS handshake within {after:?}")]
    Timeout {
        /// The name that was dialled.
        name: String,
        /// The time limit.
        after: Duration,
    },
    /// The peer has closed the connection without an answer. A retry may help.
    #[error(
        "{name} has closed the connection without an answer: it is busy or restarting, or does not speak TLS"
    )]
    Unanswered {
        /// The name that was dialled.
        name: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The connection broke. A retry may help.
    #[error("the connection to {name} broke during the TLS handshake")]
    Io {
        /// The name that was dialled.
        name: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The two sides have no version or cipher in common, or the peer broke the rules of TLS.
    #[error("the TLS handshake with {name} failed: {reason}")]
    Failed {
        /// The name that was dialled.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The roots cannot be loaded.
    #[error("the certificate of {name} cannot be verified")]
    Roots {
        /// The name that was dialled.
        name: String,
        /// What is wrong with the roots.
        source: TlsFileError,
    },
}

impl TlsDialError {
    /// Returns whether somebody must change something before a retry can help: the certificate is not one that this side
    /// accepts for the name, for another reason than its time.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::UnknownIssuer { .. }
            | Self::WrongName { .. }
            | Self::Certificate { .. }
            | Self::Roots { .. } => true,
            Self::Expired { .. }
            | Self::NotValidYet { .. }
            | Self::NotTls { .. }
            | Self::Refused { .. }
            | Self::Timeout { .. }
            | Self::Unanswered { .. }
            | Self::Io { .. }
            | Self::Failed { .. } => false,
        }
    }

    /// Returns whether the peer has said that it does not speak TLS. One that only ends the stream may be too busy for an
    /// answer.
    pub(in crate::tcp) fn says_no_tls(&self) -> bool {
        match self {
            Self::NotTls { .. } => true,
            // As a node without a certificate does.
            Self::Refused { alert, .. } => {
                *alert == format!("{:?}", AlertDescription::HandshakeFailure)
            }
            _ => false,
        }
    }
}

/// The error of an incoming connection whose TLS handshake failed. The peer is at fault unless the text says
/// otherwise; others are not affected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsAcceptError {
    /// The peer did not complete the handshake in time.
    #[error("the peer did not complete the TLS handshake within {after:?}")]
    Timeout {
        /// The time limit ([`TcpConfig::tls_handshake_timeout`](crate::tcp::TcpConfig::tls_handshake_timeout)).
        after: Duration,
    },
    /// The peer insists on other protocols than HTTP/1.1, such as only HTTP/2, or `acme-tls/1` for a name of which no
    /// validation was ordered here. It received an alert that says so.
    #[error("the peer accepts no HTTP/1.1 inside of TLS, such as a client that speaks HTTP/2 only")]
    NoCommonProtocol,
    /// There is no certificate yet. The peer received an alert.
    #[error(
        "there is no certificate for TLS yet: it is being ordered, and the log says what that waits for"
    )]
    NoCertificateYet,
    /// A certificate authority has validated that this side controls a name. That is no failure: such a connection has no
    /// other purpose.
    #[error(
        "a certificate authority has validated the name {name} (TLS-ALPN-01), which is no failure"
    )]
    Validation {
        /// The name that it has validated, in the form of RFC 8738 if it is an IP address.
        name: String,
    },
    /// The peer does not accept this side's certificate.
    #[error(
        "the peer refused the TLS handshake ({alert}): if it says so of the certificate, the peer does not trust it"
    )]
    Refused {
        /// The alert that the peer sent.
        alert: String,
    },
    /// The two sides have no version or cipher in common. The peer received an alert that says so.
    #[error("the peer speaks no version or cipher of TLS that is accepted here: {reason}")]
    Incompatible {
        /// What is missing.
        reason: String,
    },
    /// The peer broke the rules of TLS. It received an alert that says so.
    #[error("the peer broke the rules of TLS: {reason}")]
    Malformed {
        /// The broken rule.
        reason: String,
    },
    /// The connection broke, or the peer has closed it.
    #[error("the connection broke during the TLS handshake")]
    Io(#[source] io::Error),
}

/// The error of an established TLS stream. It is inside the [`io::Error`] of a failed read or write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The stream ended without TLS's own end (close_notify): somebody may have cut it.
    #[error("the TLS stream was cut off: it ended without a close_notify")]
    Truncated,
    /// The peer, or somebody on the way, broke the rules of TLS.
    #[error("the TLS stream broke: {reason}")]
    Broken {
        /// The broken rule.
        reason: String,
    },
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        let kind = match &error {
            TlsError::Truncated => io::ErrorKind::UnexpectedEof,
            TlsError::Broken { .. } => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// Returns the names of a certificate as the end of a clause.
fn list(names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!(" ({})", names.join(", "))
    }
}
