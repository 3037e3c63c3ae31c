//! The options for automatic certificates (ACME).

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use gossip_transport::acme::{AcmeConfig, AcmeName, LETS_ENCRYPT};

use super::error::Invalid;
use crate::values::path;

/// Automatic certificates.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AcmeOptions {
    /// Get and renew the certificate of TLS automatically (ACME); CONTACT is your mail address, which the authority is told
    ///
    /// You agree to the terms of service of the certificate authority. It validates each --domain by a connection to its
    /// port 443, which must lead to --listen (TLS-ALPN-01). Needs --domain and --acme-dir, and excludes --tls-cert. TLS is
    /// refused until the first certificate is there.
    #[arg(long, value_name = "CONTACT", value_parser = contact, group = "certificate",
        requires_all = ["domains", "acme_dir"], conflicts_with = "tls_cert")]
    pub(crate) acme: Option<String>,

    /// A DNS name or IP address of this node, for the certificate of --acme; may be given several times
    #[arg(long = "domain", value_name = "NAME_OR_IP", requires = "acme")]
    pub(crate) domains: Vec<AcmeName>,

    /// Directory that this node owns, created with mode 0700 if missing: the account, the certificate and its key
    ///
    /// Keep it: the authority limits the number of orders, and a node that starts without it orders again. It must be
    /// another one than --state-dir.
    #[arg(long, value_name = "DIR", value_parser = path(), requires = "acme")]
    pub(crate) acme_dir: Option<PathBuf>,

    /// The certificate authority, as the URL of its ACME directory [default: Let's Encrypt]
    #[arg(long, value_name = "URL", requires = "acme")]
    pub(crate) acme_directory: Option<String>,

    /// File of the CA certificates (PEM) that are trusted when --acme-directory is dialled [default: those of the system]
    #[arg(long, value_name = "FILE", value_parser = path(), requires = "acme")]
    pub(crate) acme_ca: Option<PathBuf>,

    /// The profile of the certificate, as the authority names it
    ///
    /// Without this option it is "shortlived" if one --domain is an IP address and the authority offers that.
    #[arg(long, value_name = "NAME", requires = "acme")]
    pub(crate) acme_profile: Option<String>,

    /// The id of the key by which your account at the authority is known (External Account Binding)
    ///
    /// For authorities that issue certificates to their customers only. They show the id and the key.
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new(),
        requires_all = ["acme", "acme_eab_key"])]
    pub(crate) acme_eab_key_id: Option<String>,

    /// File of that key, in one line of base64url as the authority shows it
    ///
    /// It is needed until the ACME account is in --acme-dir.
    #[arg(long, value_name = "FILE", value_parser = path(), requires_all = ["acme", "acme_eab_key_id"])]
    pub(crate) acme_eab_key: Option<PathBuf>,

    /// Port 443 of each --domain is forwarded to --listen, so do not warn that --listen has another port
    #[arg(long, requires = "acme")]
    pub(crate) acme_forwarded: bool,
}

impl AcmeOptions {
    /// Returns the configuration, without what is in files, or `None` without `--acme`.
    pub(crate) fn config(&self) -> Option<AcmeConfig> {
        let contact = self.acme.clone()?;
        let directory = self.acme_directory.clone();
        let directory = directory.unwrap_or_else(|| LETS_ENCRYPT.to_owned());
        let config = AcmeConfig::new(self.domains.clone())
            .with_contact(vec![contact])
            .with_directory(directory)
            .with_profile(self.acme_profile.clone());
        Some(config)
    }

    /// Checks what clap cannot check.
    ///
    /// # Errors
    ///
    /// Fails with a text that says what to change.
    pub(super) fn check(&self, state_dir: Option<&PathBuf>) -> Result<(), Invalid> {
        let Some(config) = self.config() else {
            return Ok(());
        };
        config.validate().map_err(|error| {
            let option = match &*error.field {
                "names" => "domain",
                "directory" => "acme-directory",
                _ => "acme",
            };
            Invalid::new(
                option,
                format!("is {}, but must be {}", error.value, error.bound),
            )
        })?;
        if self.acme_dir.is_some() && self.acme_dir.as_ref() == state_dir {
            let reason =
                "must be another directory than that of --state-dir, for example one in it";
            return Err(Invalid::new("acme-dir", reason));
        }
        Ok(())
    }
}

/// Parses a mail address into a URL.
fn contact(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    let is_address = address
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
    if !is_address || address.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("must be a mail address, such as admin@example.com".to_owned());
    }
    Ok(format!("mailto:{address}"))
}
