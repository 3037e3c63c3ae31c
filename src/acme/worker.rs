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
use super::error::{AcmeError, Failed};
use super::name::AcmeName;
use super::order::{Authority, Pending};
use super::schedule::{self, Class, Lifetime};
use super::status::Shared;
use super::store::{Attempts, Files};
use crate::rt;
use crate::tcp::{TlsFileError, TlsIdentity};

/// The longest sleep: the clock of the machine may be set, and stands still while it is suspended.
const LOOK_EVERY: Duration = Duration::from_secs(60);
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
    /// The error of writing it, until it is published.
    not_saved: Option<AcmeError>,
    /// The order that the last attempt has begun and not ended.
    pending: Option<Pending>,
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

/// A certificate that can be used.
struct Checked {
    /// It alone.
    identity: TlsIdentity,
    id: Option<CertificateIdentifier<'static>>,
}

/// A certificate that is not written yet.
struct Unsaved {
    pem: Zeroizing<Vec<u8>>,
    save_at: Duration,
    is_reported: bool,
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
            not_saved: None,
            pending: None,
        };
        if let Some(pem) = this.files.certificate().await {
            let checked = this.check(&pem);
            match checked.and_then(|checked| this.use_certificate(&pem, checked)) {
                Ok(()) => {}
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
                let save_at = self.unsaved.as_ref().map_or(due, |it| it.save_at);
                let wait = due.min(save_at).saturating_sub(now);
                rt::sleep(wait.min(LOOK_EVERY)).await;
                continue;
            }
            match self.attempt(now).await {
                Ok(()) => {
                    self.logged = None;
                    self.shared.succeeded();
                }
                Err(failed) => self.fail(failed, now).await,
            }
            self.publish();
        }
    }

    async fn attempt(&mut self, now: Duration) -> Result<(), Failed> {
        let has_lasted = self.current.as_ref().is_some_and(|current| {
            schedule::has_lasted(current.lifetime, self.attempts.begun(), now)
        });
        let failures = if has_lasted {
            0
        } else {
            self.attempts.failures
        };
        let failures = failures.saturating_add(1);
        let retry = self.config.retry;
        let pause = schedule::pause(Class::Refused, None, failures, retry, fastrand::f64());
        // Whatever happens from here on, also to this process.
        let attempts = Attempts::new(failures, now, now + pause);
        self.files.save_attempts(attempts).await?;
        self.attempts = attempts;
        // Not by `self`, which the order borrows.
        let mut pending = self.pending.take().filter(Pending::is_resumable);
        if pending.is_none() {
            self.shared.began();
        }
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
            authority
                .obtain(&self.identity, replaces, &mut pending)
                .await
        };
        let ordered = rt::timeout(limit, order).await;
        self.pending = pending;
        let pem = ordered.map_err(|elapsed| AcmeError::Timeout { after: elapsed.0 })??;
        let is_due = |identity: &TlsIdentity| {
            let lifetime = Lifetime::of(identity);
            schedule::renewal(lifetime, None, 0.0) <= rt::unix_time()
        };
        let new = self.check(&pem)?;
        let is_new_due = is_due(&new.identity);
        let is_used = !is_new_due || new.identity.expires_at() >= self.identity.expires_at();
        if is_used {
            self.use_certificate(&pem, new)?;
            tracing::info!("the TLS certificate was issued, and is in use");
            self.unsaved = Some(Unsaved {
                pem,
                save_at: Duration::ZERO,
                is_reported: false,
            });
            self.save(rt::unix_time()).await;
        }
        if is_new_due {
            return Err(AcmeError::AlreadyDue { is_used }.into());
        }
        Ok(())
    }

    /// Uses the key and the chain of `pem` from now on, which were checked.
    fn use_certificate(&mut self, pem: &[u8], checked: Checked) -> Result<(), AcmeError> {
        self.identity.replace_pem(pem, pem).map_err(unusable)?;
        let lifetime = Lifetime::of(&checked.identity);
        let chance = fastrand::f64();
        self.current = Some(Current {
            lifetime,
            renewal: schedule::renewal(lifetime, None, chance),
            chance,
            id: checked.id,
            ask_at: Duration::ZERO,
            is_known: false,
        });
        Ok(())
    }

    /// Checks that the key and the chain of `pem` can be used, and are for all names.
    fn check(&self, pem: &[u8]) -> Result<Checked, AcmeError> {
        let identity = TlsIdentity::from_pem(pem, pem).map_err(unusable)?;
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
        Ok(Checked {
            identity,
            id: certificate_id(&first),
        })
    }

    /// Writes a certificate that is not written yet, so that a restart does not order another one.
    async fn save(&mut self, now: Duration) {
        let Some(unsaved) = self.unsaved.as_mut().filter(|it| it.save_at <= now) else {
            return;
        };
        match self.files.save_certificate(&unsaved.pem).await {
            Ok(()) => {
                self.unsaved = None;
                self.shared.saved();
            }
            Err(error) => {
                unsaved.save_at = now + self.config.retry;
                let error_text = chain(&error);
                if std::mem::replace(&mut unsaved.is_reported, true) {
                    tracing::debug!(
                        error = error_text,
                        "the TLS certificate is still not written"
                    );
                } else {
                    tracing::error!(
                        error = error_text,
                        "the TLS certificate is in use, but a restart will have to order another one"
                    );
                    self.not_saved = Some(error);
                }
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
        if !matches!(self.files.account().await, Ok(Some(_))) {
            return;
        }
        let asking = async {
            let authority = Authority::open(&self.config, &self.files).await;
            let authority = authority.map_err(|failed| failed.error)?;
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

    /// Reports the error of the attempt that was begun at `begun`.
    async fn fail(&mut self, Failed { error, class }: Failed, begun: Duration) {
        let failures = self.attempts.failures.max(1);
        // It was not even counted, since that could not be written, or may not have been.
        let failures = if matches!(error, AcmeError::Store { .. }) {
            failures.saturating_add(1)
        } else {
            failures
        };
        let asked = error.retry_after();
        let pause = schedule::pause(class, asked, failures, self.config.retry, fastrand::f64());
        self.attempts = Attempts::new(failures, begun, rt::unix_time() + pause);
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

    fn publish(&mut self) {
        // Not before the success of the attempt is.
        if let Some(error) = self.not_saved.take() {
            self.shared.not_saved(error);
        }
        self.shared.set_next(self.due(rt::unix_time()));
    }
}

fn unusable(source: TlsFileError) -> AcmeError {
    AcmeError::Certificate { source }
}

impl Lifetime {
    fn of(identity: &TlsIdentity) -> Self {
        Self {
            from: identity.valid_from().unwrap_or_default(),
            until: identity.expires_at().unwrap_or_default(),
        }
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
