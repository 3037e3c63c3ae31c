//! The task that gets a certificate, and renews it.
//!
//! It carries out what `schedule.rs` decides. Invariants: the certificate in use stays until there is a better one; nothing is
//! ordered before it was written down that it is; a failure is logged once, until another kind of failure follows or an order
//! succeeds.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::CertificateIdentifier;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use zeroize::Zeroizing;

use super::certificate_id::certificate_id;
use super::config::AcmeConfig;
use super::error::AcmeError;
use super::name::AcmeName;
use super::order::Authority;
use super::schedule::{self, Class, Lifetime};
use super::status::Shared;
use super::store::{Attempts, Files};
use crate::rt;
use crate::tcp::{TlsFileError, TlsIdentity};

/// The longest sleep: the clock of the machine may be set, and stands still while it is suspended.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The wait until a certificate is written again that could not be written.
const SAVE_EVERY: Duration = Duration::from_secs(300);
/// The wait until an authority is asked again for the window of renewal that has not said it.
const ASK_EVERY: Duration = Duration::from_secs(6 * 3600);

/// The state of the task.
pub(super) struct Worker {
    pub(super) config: AcmeConfig,
    pub(super) files: Files,
    pub(super) identity: TlsIdentity,
    pub(super) shared: Arc<Shared>,
    current: Option<Current>,
    attempts: Attempts,
    /// The kind of the failure that was logged last.
    logged: Option<&'static str>,
    unsaved: Option<Unsaved>,
}

/// The certificate in use.
struct Current {
    lifetime: Lifetime,
    renewal: Duration,
    /// The fraction by which chance moves the renewal.
    chance: f64,
    id: Option<CertificateIdentifier<'static>>,
    /// When the authority is asked for the window of renewal.
    ask_at: Duration,
    /// Whether it has told one, so it knows the certificate.
    is_known: bool,
}

/// A certificate that could not be written.
struct Unsaved {
    pem: Zeroizing<Vec<u8>>,
    save_at: Duration,
}

impl Worker {
    /// Takes over what an earlier process has left.
    pub(super) async fn open(
        config: AcmeConfig,
        files: Files,
        identity: TlsIdentity,
        shared: Arc<Shared>,
    ) -> Self {
        let mut this = Self {
            attempts: files.attempts().await,
            config,
            files,
            identity,
            shared,
            current: None,
            logged: None,
            unsaved: None,
        };
        if let Some(pem) = this.files.certificate().await {
            match this.use_certificate(&pem) {
                // What is counted are orders after which nothing was left here.
                Ok(()) => this.attempts = Attempts::new(0, this.attempts.not_before()),
                Err(AcmeError::Certificate { source }) => {
                    this.files.report_corrupt(&this.files.certificate, &source);
                }
                Err(error) => this.files.report_corrupt(&this.files.certificate, &error),
            }
        }
        this.publish();
        this
    }

    /// Returns when the next order begins.
    fn due(&self, now: Duration) -> Duration {
        let renewal = self.current.as_ref().map(|current| current.renewal);
        schedule::due(renewal, self.attempts.not_before(), now)
    }

    /// Works for ever.
    pub(super) async fn run(mut self) {
        loop {
            let now = rt::unix_time();
            self.save(now).await;
            self.ask(now).await;
            let due = self.due(now);
            if due > now {
                rt::sleep((due - now).min(LOOK_EVERY)).await;
                continue;
            }
            match self.attempt(now).await {
                Ok(()) => {
                    self.logged = None;
                    self.shared.succeeded();
                }
                Err(error) => self.fail(error).await,
            }
            self.publish();
        }
    }

    async fn attempt(&mut self, now: Duration) -> Result<(), AcmeError> {
        let failures = self.attempts.failures.saturating_add(1);
        let pause = self.pause(Class::Refused, failures);
        // Whatever happens from here on, also to this process.
        let attempts = Attempts::new(failures, now + pause);
        self.files.save_attempts(attempts).await?;
        self.attempts = attempts;
        self.shared.began();
        let names: Vec<_> = self.config.names.iter().map(ToString::to_string).collect();
        let (names, directory) = (names.join(" "), &self.config.directory);
        if self.logged.is_none() {
            tracing::info!(names, directory, "ordering a TLS certificate");
        } else {
            tracing::debug!(names, directory, "ordering a TLS certificate again");
        }
        let replaces = self.current.as_mut().and_then(|current| {
            // If the authority does not accept that, the next order does without.
            let is_known = std::mem::take(&mut current.is_known);
            current.id.clone().filter(|_| is_known)
        });
        let limit = self.config.order_timeout;
        let order = async {
            let mut authority = Authority::open(&self.config, &self.files).await?;
            authority.obtain(&self.identity, replaces).await
        };
        let ordered = rt::timeout(limit, order).await;
        let pem = ordered.unwrap_or_else(|elapsed| Err(AcmeError::Timeout { after: elapsed.0 }))?;
        self.use_certificate(&pem)?;
        tracing::info!("the TLS certificate was issued, and is in use");
        self.unsaved = Some(Unsaved {
            pem,
            save_at: Duration::ZERO,
        });
        let now = rt::unix_time();
        self.save(now).await;
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.renewal <= now)
        {
            return Err(AcmeError::AlreadyDue);
        }
        // The file keeps the number of attempts until the certificate has been found again.
        self.attempts = Attempts::new(0, self.attempts.not_before());
        Ok(())
    }

    /// Uses the key and the chain of `pem` from now on, if they are for all names.
    fn use_certificate(&mut self, pem: &[u8]) -> Result<(), AcmeError> {
        let unusable = |source| AcmeError::Certificate { source };
        // So that a certificate which cannot be used never is.
        TlsIdentity::from_pem(pem, pem).map_err(unusable)?;
        let malformed = |error: &dyn std::fmt::Display| {
            unusable(TlsFileError::Malformed {
                from: "the certificate".to_owned(),
                what: error.to_string(),
            })
        };
        let first = CertificateDer::from_pem_slice(pem).map_err(|error| malformed(&error))?;
        let parsed = ParsedCertificate::try_from(&first).map_err(|error| malformed(&error))?;
        for name in &self.config.names {
            let is_for_it =
                server_name(name).is_some_and(|name| verify_server_name(&parsed, &name).is_ok());
            if !is_for_it {
                let name = name.to_string();
                return Err(AcmeError::WrongNames { name });
            }
        }
        self.identity.replace_pem(pem, pem).map_err(unusable)?;
        let lifetime = Lifetime {
            from: self.identity.valid_from().unwrap_or_default(),
            until: self.identity.expires_at().unwrap_or_default(),
        };
        let chance = fastrand::f64();
        self.current = Some(Current {
            lifetime,
            renewal: schedule::renewal(lifetime, None, chance),
            chance,
            id: certificate_id(&first),
            ask_at: Duration::ZERO,
            is_known: false,
        });
        Ok(())
    }

    /// Writes a certificate that is not written yet, so that a restart does not order another one.
    async fn save(&mut self, now: Duration) {
        let Some(unsaved) = self.unsaved.as_mut().filter(|it| it.save_at <= now) else {
            return;
        };
        match self.files.save_certificate(&unsaved.pem).await {
            Ok(()) => self.unsaved = None,
            Err(error) => {
                unsaved.save_at = now + SAVE_EVERY;
                tracing::error!(
                    error = chain(&error),
                    "the TLS certificate is in use, but a restart will have to order another one"
                );
            }
        }
    }

    /// Asks the authority when to renew the certificate in use, if it is time to.
    async fn ask(&mut self, now: Duration) {
        let Some(current) = self.current.as_mut().filter(|it| it.ask_at <= now) else {
            return;
        };
        current.ask_at = now + ASK_EVERY;
        let Some(id) = &current.id else { return };
        // An account is created for an order only.
        if self.files.account().await.is_none() {
            return;
        }
        let asking = async {
            let authority = Authority::open(&self.config, &self.files).await?;
            authority.window(id).await
        };
        let answer = rt::timeout(self.config.order_timeout, asking).await;
        match answer.unwrap_or_else(|elapsed| Err(AcmeError::Timeout { after: elapsed.0 })) {
            Ok((window, again)) => {
                current.ask_at = now + schedule::window_asked_after(again);
                current.is_known = true;
                let (lifetime, chance) = (current.lifetime, current.chance);
                current.renewal = schedule::renewal(lifetime, Some(window), chance);
            }
            // Most authorities have no such window, and two thirds of the lifetime are good as well.
            Err(error) => tracing::debug!(error = chain(&error), "no window of renewal"),
        }
        self.publish();
    }

    async fn fail(&mut self, error: AcmeError) {
        let failures = self.attempts.failures.max(1);
        let failures = if matches!(error, AcmeError::Store { .. }) {
            failures.saturating_add(1)
        } else {
            failures
        };
        let pause = self.pause(error.class(), failures);
        self.attempts = Attempts::new(failures, rt::unix_time() + pause);
        let saved = self.files.save_attempts(self.attempts).await;
        if let Err(error) = saved {
            tracing::debug!(
                error = chain(&error),
                "the time of the next order is lost by a restart"
            );
        }
        let retry_in = format!("{} s", pause.as_secs());
        let file = &self.files.attempts;
        if self.logged == Some(error.kind()) {
            tracing::debug!(
                error = chain(&error),
                retry_in,
                "no TLS certificate was issued"
            );
        } else if self.identity.has_certificate() {
            tracing::warn!(
                error = chain(&error),
                retry_in,
                file,
                "no new TLS certificate was issued, the one in use stays; to try at once, remove the file and start again"
            );
        } else {
            tracing::warn!(
                error = chain(&error),
                retry_in,
                file,
                "no TLS certificate was issued, so TLS is refused; to try at once, remove the file and start again"
            );
        }
        self.logged = Some(error.kind());
        self.shared.failed(error);
    }

    fn pause(&self, class: Class, failures: u32) -> Duration {
        schedule::pause(class, failures, self.config.retry, fastrand::f64())
    }

    fn publish(&self) {
        self.shared.set_next(self.due(rt::unix_time()));
    }
}

fn server_name(name: &AcmeName) -> Option<ServerName<'static>> {
    match name.ip() {
        Some(ip) => Some(ServerName::IpAddress(ip.into())),
        None => ServerName::try_from(name.to_string()).ok(),
    }
}

/// Returns the texts of an error and its causes.
fn chain(error: &AcmeError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
