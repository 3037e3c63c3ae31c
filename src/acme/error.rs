//! What can go wrong with an order, whose fault it is, and what to do about it.

use std::io;
use std::time::Duration;

use super::schedule::Class;
use crate::tcp::TlsFileError;

/// The most characters of a text of the authority that an error shows.
const MAX_SHOWN: usize = 300;
/// What the types of problems of RFC 8555 begin with.
const PROBLEM: &str = "urn:ietf:params:acme:error:";

/// The error of an attempt to get a certificate.
///
/// The certificate in use stays, and the attempt is repeated after a pause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeError {
    /// The authority cannot be reached, or does not answer in time.
    #[error(
        "cannot reach the certificate authority: check the network and the DNS of this machine, and the URL of the directory"
    )]
    Unreachable {
        /// What has failed.
        source: RequestError,
    },
    /// The certificate of the authority's own server is not trusted.
    #[error(
        "the server of the certificate authority is not trusted: if it is a private one, name its CA file (AcmeConfig::roots; \
         gossip-node --acme-ca FILE)"
    )]
    Untrusted {
        /// What has failed.
        source: RequestError,
    },
    /// The certificate of the authority's own server is not valid at the time of this machine.
    #[error(
        "the certificate of the server of the certificate authority has expired or is not valid yet: check the clock of this \
         machine"
    )]
    Clock {
        /// What has failed.
        source: RequestError,
    },
    /// The authority has a problem of its own.
    #[error(
        "the certificate authority cannot work on orders now ({reason}): wait, or look at its status page"
    )]
    Unavailable {
        /// What it has answered.
        reason: String,
        /// The time for which it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The authority limits the number of orders, accounts or failures.
    #[error(
        "the certificate authority limits its clients ({detail}): wait, and order for fewer names and nodes"
    )]
    RateLimited {
        /// What it has answered.
        detail: String,
        /// The time for which it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The authority refuses the account, the order or the names in it.
    #[error(
        "the certificate authority refuses the order ({problem}: {detail}): change what it names"
    )]
    Refused {
        /// The type of the problem (RFC 8555, section 6.7), without its prefix.
        problem: String,
        /// What it has answered.
        detail: String,
    },
    /// The authority does not let the account order.
    #[error(
        "the certificate authority refuses the account in {file} ({problem}: {detail}): if it was deactivated, remove that file \
         and start again, which creates another one"
    )]
    AccountRefused {
        /// The name of the file with the account.
        file: String,
        /// The type of the problem, without its prefix.
        problem: String,
        /// What it has answered.
        detail: String,
    },
    /// The authority issues certificates only to accounts that are bound to one at its owner.
    #[error(
        "the certificate authority requires an account that is bound to one at its owner ({detail}): get a key id and its key \
         there (AcmeConfig::external_account; gossip-node --acme-eab-key-id ID --acme-eab-key FILE)"
    )]
    ExternalAccountRequired {
        /// What it has answered.
        detail: String,
    },
    /// The authority does not accept the key that binds the account ([`AcmeConfig::external_account`](super::AcmeConfig::external_account)).
    #[error(
        "the certificate authority does not accept the key of the external account ({problem}: {detail}): check the key id and \
         the key, or get others from its owner (AcmeConfig::external_account; gossip-node --acme-eab-key-id and --acme-eab-key)"
    )]
    ExternalAccount {
        /// The type of the problem, without its prefix.
        problem: String,
        /// What it has answered.
        detail: String,
    },
    /// The authority could not validate that this node controls a name.
    #[error(
        "the certificate authority could not validate {name} ({problem}: {detail}): its port 443 must lead to the gossip port \
         of this node from the internet, without a proxy that ends TLS"
    )]
    Validation {
        /// The name.
        name: String,
        /// The type of the problem, without its prefix.
        problem: String,
        /// What the authority has found.
        detail: String,
    },
    /// The authority does not offer TLS-ALPN-01 for a name.
    #[error(
        "the certificate authority does not validate {name} by TLS-ALPN-01, the only way of this node: use another authority, \
         or get the certificate by another program (gossip-node --tls-cert)"
    )]
    NoChallenge {
        /// The name.
        name: String,
    },
    /// The order was not completed in time.
    #[error(
        "the certificate authority did not complete the order within {after:?}: wait, or look at its status page"
    )]
    Timeout {
        /// The time limit ([`AcmeConfig::order_timeout`](super::AcmeConfig::order_timeout)).
        after: Duration,
    },
    /// The authority does not follow RFC 8555.
    #[error(
        "the certificate authority answers in another way than RFC 8555 says ({reason}): check the URL of the directory"
    )]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// The authority has issued a certificate that cannot be used.
    #[error("the certificate that was issued cannot be used: this is an error of the authority")]
    Certificate {
        /// What is wrong with it.
        source: TlsFileError,
    },
    /// The certificate is not for all of the names.
    #[error(
        "the certificate is not for {name}: it was ordered for other names, or this is an error of the authority"
    )]
    WrongNames {
        /// The name that it lacks.
        name: String,
    },
    /// The authority has issued a certificate that is due for renewal already.
    #[error(
        "the certificate that was issued is due for renewal already: check the clock of this machine, and the lifetime of \
         certificates of the authority"
    )]
    AlreadyDue {
        /// Whether it is used nevertheless, since there is none that lasts longer.
        is_used: bool,
    },
    /// A key or a request cannot be made.
    #[error("the cryptographic library fails: {reason}")]
    Crypto {
        /// What has failed.
        reason: String,
    },
    /// A file of the account, of the certificate or of the attempts cannot be read or written.
    #[error(
        "cannot read or write {file}: check the disk and the directory, since nothing is ordered without it"
    )]
    Store {
        /// The name of the file.
        file: String,
        /// The error of the system.
        source: io::Error,
    },
}

/// The error of one request to the authority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A URL of the authority does not begin with `https:` or has no host.
    #[error("{url} is not a URL that begins with https://")]
    Url {
        /// The URL.
        url: String,
    },
    /// No connection to the server.
    #[error("cannot connect to {host}")]
    Connect {
        /// The host and the port.
        host: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The TLS handshake with the server failed.
    #[error("the TLS handshake with {host} failed")]
    Tls {
        /// The host and the port.
        host: String,
        /// The error of rustls, inside.
        source: io::Error,
    },
    /// The authorities that are trusted cannot be loaded.
    #[error("the certificate of the server cannot be verified")]
    Roots {
        /// What is wrong with them.
        source: TlsFileError,
    },
    /// The exchange of HTTP failed.
    #[error("the request to {host} failed")]
    Http {
        /// The host and the port.
        host: String,
        /// What has failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server has answered with an error that is not one of ACME.
    #[error("{host} answers with the status {status}")]
    Status {
        /// The host and the port.
        host: String,
        /// The status code of HTTP.
        status: u16,
    },
    /// The server did not answer in time.
    #[error("the server did not answer within {after:?}")]
    Timeout {
        /// The time limit ([`AcmeConfig::request_timeout`](super::AcmeConfig::request_timeout)).
        after: Duration,
    },
}

impl AcmeError {
    /// All kinds of errors, as [`kind`](Self::kind) returns them.
    pub const KINDS: [&'static str; 18] = [
        "unreachable",
        "untrusted",
        "clock",
        "unavailable",
        "rate_limited",
        "refused",
        "account_refused",
        "external_account_required",
        "external_account",
        "validation",
        "no_challenge",
        "timeout",
        "malformed",
        "certificate",
        "wrong_names",
        "already_due",
        "crypto",
        "store",
    ];

    /// Returns a name of the kind of error, for metrics: lower-case letters and underscores.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Untrusted { .. } => "untrusted",
            Self::Clock { .. } => "clock",
            Self::Unavailable { .. } => "unavailable",
            Self::RateLimited { .. } => "rate_limited",
            Self::Refused { .. } => "refused",
            Self::AccountRefused { .. } => "account_refused",
            Self::ExternalAccountRequired { .. } => "external_account_required",
            Self::ExternalAccount { .. } => "external_account",
            Self::Validation { .. } => "validation",
            Self::NoChallenge { .. } => "no_challenge",
            Self::Timeout { .. } => "timeout",
            Self::Malformed { .. } => "malformed",
            Self::Certificate { .. } => "certificate",
            Self::WrongNames { .. } => "wrong_names",
            Self::AlreadyDue { .. } => "already_due",
            Self::Crypto { .. } => "crypto",
            Self::Store { .. } => "store",
        }
    }

    /// Returns what the error says about the next attempt.
    pub(super) fn class(&self) -> Class {
        match self {
            Self::RateLimited { .. } => Class::Limited,
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::Clock { .. }
            | Self::Unavailable { .. }
            | Self::Crypto { .. }
            | Self::Store { .. } => Class::Unreached,
            Self::Refused { .. }
            | Self::ExternalAccountRequired { .. }
            | Self::ExternalAccount { .. }
            | Self::Validation { .. }
            | Self::NoChallenge { .. }
            | Self::Timeout { .. }
            | Self::Malformed { .. }
            | Self::Certificate { .. }
            | Self::WrongNames { .. }
            | Self::AccountRefused { .. }
            | Self::AlreadyDue { .. } => Class::Refused,
        }
    }

    /// Returns the time for which the authority asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Returns whether an order may still be completed, since this says nothing about it, unless it is the error of an order
    /// that is invalid.
    pub(super) fn is_about_now(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Unavailable { .. }
                | Self::RateLimited { .. }
                | Self::Timeout { .. }
        )
    }

    /// Returns the error of a problem that the authority has reported.
    pub(super) fn of_problem(
        problem: &instant_acme::Problem,
        retry_after: Option<Duration>,
    ) -> Self {
        let (kind, detail) = described(problem);
        match (&*kind, problem.status) {
            ("rateLimited", _) | (_, Some(429)) => Self::RateLimited {
                detail,
                retry_after,
            },
            ("serverInternal" | "badNonce", _) | (_, Some(500..)) => Self::Unavailable {
                reason: format!("{kind}: {detail}"),
                retry_after,
            },
            ("externalAccountRequired", _) => Self::ExternalAccountRequired { detail },
            _ => Self::Refused {
                problem: kind,
                detail,
            },
        }
    }

    /// Returns the error of an account that was to be bound to another one, and was not created.
    pub(super) fn of_binding(self) -> Self {
        match self {
            // A contact that is not accepted has a type of its own, for example.
            Self::Refused { problem, detail }
                if ["unauthorized", "malformed"].contains(&&*problem) =>
            {
                Self::ExternalAccount { problem, detail }
            }
            Self::ExternalAccountRequired { detail } => Self::ExternalAccount {
                problem: "externalAccountRequired".to_owned(),
                detail,
            },
            other => other,
        }
    }

    /// Returns the error of a request, with the time for which the authority has asked to wait.
    pub(super) fn of_request(error: RequestError, retry_after: Option<Duration>) -> Self {
        match error {
            RequestError::Status { status: 429, .. } => Self::RateLimited {
                detail: error.to_string(),
                retry_after,
            },
            RequestError::Status { status: 500.., .. } => Self::Unavailable {
                reason: error.to_string(),
                retry_after,
            },
            RequestError::Status { .. } | RequestError::Url { .. } => Self::Malformed {
                reason: error.to_string(),
            },
            RequestError::Roots { .. } => Self::Untrusted { source: error },
            RequestError::Tls { ref source, .. } => match certificate_error(source) {
                Some(wrong) if is_about_time(wrong) => Self::Clock { source: error },
                Some(_) => Self::Untrusted { source: error },
                None => Self::Unreachable { source: error },
            },
            _ => Self::Unreachable { source: error },
        }
    }

    /// Returns the error of `instant-acme`, with the time for which the authority has asked to wait.
    pub(super) fn of_library(error: instant_acme::Error, retry_after: Option<Duration>) -> Self {
        use instant_acme::Error;
        match error {
            Error::Api(problem) => Self::of_problem(&problem, retry_after),
            Error::Other(other) => match other.downcast() {
                Ok(error) => Self::of_request(*error, retry_after),
                Err(other) => Self::Malformed {
                    reason: shown(&other.to_string()),
                },
            },
            Error::Crypto | Error::KeyRejected => Self::Crypto {
                reason: error.to_string(),
            },
            other => Self::Malformed {
                reason: shown(&other.to_string()),
            },
        }
    }
}

/// The error of an attempt, and what it says about the next one.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: AcmeError,
    pub(super) class: Class,
}

impl Failed {
    /// Returns that of an error after which the authority has something that it counts, such as an account or a certificate.
    /// Another attempt is not free then, although the authority may not be reached.
    pub(super) fn counted(error: AcmeError) -> Self {
        let class = match error.class() {
            Class::Unreached => Class::Refused,
            class => class,
        };
        Self { error, class }
    }
}

impl From<AcmeError> for Failed {
    fn from(error: AcmeError) -> Self {
        let class = error.class();
        Self { error, class }
    }
}

/// Returns the type of a problem without its prefix, and its texts.
pub(super) fn described(problem: &instant_acme::Problem) -> (String, String) {
    let kind = problem.r#type.as_deref().unwrap_or("unknown");
    let mut detail = problem.detail.clone().unwrap_or_default();
    for part in &problem.subproblems {
        detail.push_str("; ");
        detail.push_str(&part.to_string());
    }
    let kind = kind.strip_prefix(PROBLEM).unwrap_or(kind);
    (shown(kind), shown(&detail))
}

/// Returns the beginning of a text of the authority, in one line.
pub(super) fn shown(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MAX_SHOWN).collect()
}

/// Returns what is wrong with the certificate of a server, if a handshake has failed for that.
fn certificate_error(error: &io::Error) -> Option<&rustls::CertificateError> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(error) => Some(error),
        _ => None,
    }
}

fn is_about_time(error: &rustls::CertificateError) -> bool {
    use rustls::CertificateError;
    matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> AcmeError {
        let problem = serde_json::from_str(json).unwrap();
        AcmeError::of_problem(&problem, Some(Duration::from_secs(7)))
    }

    #[test]
    fn a_problem_says_what_to_do_and_when_to_come_back() {
        let limited = problem(
            r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many\norders","status":429}"#,
        );
        assert_eq!(
            (limited.class(), limited.retry_after()),
            (Class::Limited, Some(Duration::from_secs(7)))
        );
        assert!(limited.to_string().contains("too many orders"), "{limited}");
        let down = problem(r#"{"status":503}"#);
        assert_eq!(
            (down.kind(), down.class(), down.retry_after()),
            (
                "unavailable",
                Class::Unreached,
                Some(Duration::from_secs(7))
            )
        );
        let refused = problem(
            r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no","status":400}"#,
        );
        assert_eq!(
            (refused.kind(), refused.class()),
            ("refused", Class::Refused)
        );
        assert!(
            refused.to_string().contains("(rejectedIdentifier: no)"),
            "{refused}"
        );
    }

    #[test]
    fn a_binding_that_is_refused_is_told_apart_from_other_reasons_for_which_there_is_no_account() {
        let of_binding = |kind: &str| {
            let json = format!(r#"{{"type":"{PROBLEM}{kind}","detail":"no","status":400}}"#);
            problem(&json).of_binding().kind()
        };
        for kind in ["unauthorized", "malformed", "externalAccountRequired"] {
            assert_eq!(of_binding(kind), "external_account");
        }
        assert_eq!(of_binding("invalidContact"), "refused");
        assert_eq!(of_binding("rateLimited"), "rate_limited");
    }

    #[test]
    fn a_text_of_the_authority_is_bounded() {
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), MAX_SHOWN);
    }
}
