//! The configuration of automatic certificates.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::name::AcmeName;
use crate::config::{ConfigError, at_least, setters};
use crate::tcp::TlsRoots;

/// The directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The most names of one certificate: public authorities accept no more.
const MAX_NAMES: usize = 100;

/// What is ordered, from which certificate authority, and by whom.
///
/// By [`Acme`](super::Acme), the user agrees to the terms of service of the authority.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcmeConfig {
    /// The names of the certificate, from 1 to 100. Each must lead to the port that answers TLS with the identity, from the
    /// internet at port 443 if the authority is a public one.
    pub names: Vec<AcmeName>,
    /// Where the authority may write about problems: `mailto:` URLs. May be empty, if the authority accepts that.
    pub contact: Vec<String>,
    /// The URL of the authority's directory, which begins with `https:`. Default: [`LETS_ENCRYPT`].
    pub directory: String,
    /// The authorities that are trusted when the directory is dialled. Default: those of the system.
    pub roots: TlsRoots,
    /// The profile of the certificate, as the authority names it. Default: none, or `shortlived` if one of the names is an IP
    /// address and the authority offers that profile, since public ones issue no other certificates for addresses.
    pub profile: Option<String>,
    /// The account at the authority's owner to which the ACME account is bound, if the authority requires one. Default: none.
    pub external_account: Option<ExternalAccount>,
    /// The wait after the first order that was refused. It doubles with each further failure, up to 72 times itself.
    /// After an order that did not reach the authority it begins at a thirtieth and ends at 12 times of it. At least 1 ms.
    /// Default 300 s, with which public authorities see no more than four failures within the first hour.
    pub retry: Duration,
    /// The time limit of one request to the authority; at least 1 ms. Default 30 s.
    pub request_timeout: Duration,
    /// The time limit of an order, validations included; at least 1 ms. Default 300 s.
    pub order_timeout: Duration,
}

/// An account to which the ACME account is bound (RFC 8555, section 7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The name of the key. At least one character.
    pub key_id: String,
    /// The key for HMAC with SHA-256, decoded. At least one byte.
    pub key: Vec<u8>,
}

impl AcmeConfig {
    /// Returns a configuration with the defaults.
    pub fn new(names: Vec<AcmeName>) -> Self {
        Self {
            names,
            ..Self::default()
        }
    }

    setters! {
        with_contact => contact: Vec<String>,
        with_directory => directory: String,
        with_roots => roots: TlsRoots,
        with_profile => profile: Option<String>,
        with_external_account => external_account: Option<ExternalAccount>,
        with_retry => retry: Duration,
        with_request_timeout => request_timeout: Duration,
        with_order_timeout => order_timeout: Duration,
    }

    /// Checks every value. [`Acme::open`](super::Acme::open) calls it.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let error =
            |field, value: &str, bound| Err(ConfigError::new(field, value.to_owned(), bound));
        at_least("names", self.names.len(), 1)?;
        if self.names.len() > MAX_NAMES {
            return error("names", &self.names.len().to_string(), "at most 100");
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = self.names.iter().find(|name| !names.insert(*name)) {
            return error("names", &twice.to_string(), "there once");
        }
        if !self.directory.starts_with("https://") || !self.directory.is_ascii() {
            return error(
                "directory",
                &self.directory,
                "a URL that begins with https://",
            );
        }
        for contact in &self.contact {
            let address = contact.strip_prefix("mailto:").unwrap_or_default();
            if !address.contains('@') || address.contains(|c: char| c.is_whitespace()) {
                return error(
                    "contact",
                    contact,
                    "an address, such as mailto:admin@example.com",
                );
            }
        }
        if let Some(account) = &self.external_account {
            at_least("external_account.key_id", account.key_id.len(), 1)?;
            at_least("external_account.key", account.key.len(), 1)?;
        }
        let millisecond = Duration::from_millis(1);
        at_least("retry", self.retry, millisecond)?;
        at_least("request_timeout", self.request_timeout, millisecond)?;
        at_least("order_timeout", self.order_timeout, millisecond)
    }
}

impl Default for AcmeConfig {
    /// Has no names, so it is not valid yet.
    fn default() -> Self {
        Self {
            names: Vec::new(),
            contact: Vec::new(),
            directory: LETS_ENCRYPT.to_owned(),
            roots: TlsRoots::default(),
            profile: None,
            external_account: None,
            retry: Duration::from_secs(300),
            request_timeout: Duration::from_secs(30),
            order_timeout: Duration::from_secs(300),
        }
    }
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_bounds_is_an_error_that_names_it() {
        let names = |names: &[&str]| {
            let names = names.iter().map(|name| name.parse().unwrap());
            AcmeConfig::new(names.collect())
        };
        let config = || names(&["a.example"]);
        let external = |key_id: &str, key: &[u8]| {
            Some(ExternalAccount {
                key_id: key_id.to_owned(),
                key: key.to_vec(),
            })
        };
        for (config, expected) in [
            (config(), ""),
            (config().with_contact(vec!["mailto:a@b".to_owned()]), ""),
            (names(&[]), "names is 0, but must be at least 1"),
            (
                names(&["a.example", "A.example"]),
                "names is a.example, but must be there once",
            ),
            (
                config().with_directory("http://ca.example".to_owned()),
                "directory is http://ca.example, but must be a URL that begins with https://",
            ),
            (
                config().with_contact(vec!["a@b".to_owned()]),
                "contact is a@b, but must be an address, such as mailto:admin@example.com",
            ),
            (
                config().with_external_account(external("", b"key")),
                "external_account.key_id is 0, but must be at least 1",
            ),
            (
                config().with_external_account(external("id", b"")),
                "external_account.key is 0, but must be at least 1",
            ),
            (config().with_external_account(external("id", b"key")), ""),
            (
                config().with_retry(Duration::ZERO),
                "retry is 0ns, but must be at least 1ms",
            ),
        ] {
            let result = config.validate().map_err(|error| error.to_string());
            assert_eq!(result.err().unwrap_or_default(), expected);
        }
        let many: Vec<_> = (0..101).map(|i| format!("{i}.example")).collect();
        let many: Vec<_> = many.iter().map(|name| name.parse().unwrap()).collect();
        let error = AcmeConfig::new(many).validate().unwrap_err();
        assert_eq!(error.to_string(), "names is 101, but must be at most 100");
    }
}
