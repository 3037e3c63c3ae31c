//! The files of the TLS certificate and its key, which are read again when they have changed, and that of a CA.
//!
//! They are looked at every second, and read at once on SIGHUP, by blocking tasks, since a file system may never answer.
//! Invariant: files that cannot be used change nothing, and are warned of once if they stay so.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use gossip_transport::rt::{self, Task};
use gossip_transport::tcp::{Reloaded, TcpConfig, TlsFileError, TlsIdentity, TlsRoots};

use crate::args::Args;
use crate::private_file;
use crate::rfc3339;
use crate::shutdown::HangUps;
use crate::watched_file::Stamp;

/// The time between two looks at the files. A change is read when it has stayed the same for as long, since there are two
/// files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The number of looks in a row that find files which cannot be used, after which that is reported. A certificate and its key are
/// replaced one after the other, and do not match in between.
const REPORT_AFTER: u32 = 5;

/// The time before its end at which a certificate should have been renewed: those for six days are renewed after four. It is
/// less for those that live for less than four days: a quarter of their lifetime.
const SOON: Duration = Duration::from_secs(24 * 3600);

/// What the arguments about TLS name.
#[derive(Debug)]
pub(crate) struct TlsFiles {
    identity: Option<TlsIdentity>,
    roots: TlsRoots,
    only: bool,
}

/// What is seen of the two files, `None` for one that cannot be seen.
type Sight = [Option<Stamp>; 2];

impl TlsFiles {
    /// Reads the files that the arguments name. `automatic` is the certificate of `--acme`, which has no files here.
    ///
    /// # Errors
    ///
    /// Fails if one of them cannot be read or used.
    pub(crate) fn read(args: &Args, automatic: Option<TlsIdentity>) -> anyhow::Result<Self> {
        let identity = match (&args.tls_cert, &args.tls_key) {
            (Some(certificate), Some(key)) => {
                if private_file::readable_by_others(key) {
                    tracing::warn!(
                        file = ?key,
                        "others than its owner can read the key of TLS: chmod 600"
                    );
                }
                let identity = TlsIdentity::from_files(certificate, key);
                Some(identity.context("--tls-cert and --tls-key")?)
            }
            _ => automatic,
        };
        let roots = match &args.tls_ca {
            Some(path) => TlsRoots::from_file(path).context("--tls-ca")?,
            None => TlsRoots::system(),
        };
        Ok(Self {
            identity,
            roots,
            only: args.tls_only,
        })
    }

    /// Returns whether there is a certificate, which SIGHUP reads again.
    pub(crate) fn has_certificate(&self) -> bool {
        self.identity.is_some()
    }

    /// Returns the certificate with its key, if there is one or will be one.
    pub(crate) fn identity(&self) -> Option<&TlsIdentity> {
        self.identity.as_ref()
    }

    /// Sets what the files contain.
    pub(crate) fn apply(&self, config: TcpConfig) -> TcpConfig {
        config
            .with_tls(self.identity.clone())
            .with_tls_only(self.only)
            .with_tls_roots(self.roots.clone())
    }

    /// Returns what is public of them, for `--check-config`; nothing if there is no certificate.
    pub(crate) fn fact(&self) -> String {
        let expiry = self.identity.as_ref().map(expiry);
        expiry.map_or(String::new(), |expires| {
            format!("TLS certificate: expires {expires}")
        })
    }

    /// Reads the certificate and the key again when they have changed, and at each of `hang_ups`, until the returned task
    /// is dropped.
    pub(crate) fn watch(&self, hang_ups: HangUps) -> Option<Task> {
        let identity = self.identity.clone()?;
        Some(Task::spawn(watch(identity, hang_ups)))
    }
}

async fn watch(identity: TlsIdentity, hang_ups: HangUps) {
    // Beside each other, since a file system that does not answer must not delay what is said about the validity.
    tokio::join!(watch_validity(&identity), watch_files(&identity, hang_ups));
}

async fn watch_validity(identity: &TlsIdentity) {
    let mut validity = Validity::of(identity, rt::unix_time());
    loop {
        rt::sleep(LOOK_EVERY).await;
        let before = std::mem::replace(&mut validity, Validity::of(identity, rt::unix_time()));
        if validity != before {
            validity.report(identity);
        }
    }
}

async fn watch_files(identity: &TlsIdentity, mut hang_ups: HangUps) {
    // They were read a while ago.
    let mut settled = None;
    let mut last = see(identity).await;
    let mut failures = Failures::default();
    loop {
        let is_asked = tokio::select! {
            () = rt::sleep(LOOK_EVERY) => false,
            () = hang_ups.next() => true,
        };
        if !is_asked {
            let seen = see(identity).await;
            let is_stable = std::mem::replace(&mut last, seen.clone()) == seen;
            if seen == settled || !is_stable {
                continue;
            }
            settled = seen;
        }
        match reload(identity).await {
            Ok(Reloaded::Replaced) => {
                tracing::info!(
                    expires = expiry(identity),
                    "the TLS certificate was replaced"
                );
                failures = Failures::default();
            }
            Ok(Reloaded::Unchanged) => {
                if is_asked && identity.files().is_some() {
                    tracing::info!("SIGHUP: the TLS certificate is the same as before");
                } else if is_asked {
                    tracing::info!(
                        "SIGHUP: nothing is read again, the TLS certificate is renewed automatically"
                    );
                }
                failures = Failures::default();
            }
            Err(error) => {
                // It is tried again, since what is missing may not be in the files.
                settled = None;
                let error = format!("{:#}", anyhow::Error::from(error));
                failures.note(error, is_asked);
            }
        }
    }
}

/// The looks in a row at files that cannot be used.
#[derive(Debug, Default)]
struct Failures {
    looks: u32,
    reported: Option<String>,
}

impl Failures {
    /// Notes that a look has failed, and reports the error if nobody has heard of it and it is no matter of a moment, or if
    /// somebody has asked.
    fn note(&mut self, error: String, is_asked: bool) {
        self.looks = self.looks.saturating_add(u32::from(!is_asked));
        let is_news = self.looks >= REPORT_AFTER && self.reported.as_ref() != Some(&error);
        if is_asked || is_news {
            tracing::warn!(error, "the node still uses its earlier TLS certificate");
            self.reported = Some(error);
        }
    }
}

/// For how long a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Validity {
    Long,
    /// It expires within [`SOON`], or a shorter time for one with a short life.
    Short,
    Expired,
}

impl Validity {
    fn of(identity: &TlsIdentity, now: Duration) -> Self {
        match (identity.valid_from(), identity.expires_at()) {
            (Some(from), Some(until)) => Self::at(now, from, until),
            _ => Self::Long,
        }
    }

    fn at(now: Duration, from: Duration, until: Duration) -> Self {
        let soon = SOON.min(until.saturating_sub(from) / 4);
        if until <= now {
            Self::Expired
        } else if until <= now + soon {
            Self::Short
        } else {
            Self::Long
        }
    }

    fn report(self, identity: &TlsIdentity) {
        let expires = expiry(identity);
        match self {
            Self::Long => {}
            Self::Short => tracing::warn!(
                expires,
                "the TLS certificate expires soon, and was not renewed: tabs and members that dial tls:// will be refused"
            ),
            Self::Expired => tracing::error!(
                expires,
                "the TLS certificate has expired: tabs and members that dial tls:// are refused"
            ),
        }
    }
}

async fn see(identity: &TlsIdentity) -> Option<Sight> {
    let identity = identity.clone();
    let look = move || {
        let (certificate, key) = identity.files()?;
        let stamp = |path: &Path| std::fs::metadata(path).ok().map(|file| Stamp::from(&file));
        Some([stamp(certificate), stamp(key)])
    };
    tokio::task::spawn_blocking(look).await.ok().flatten()
}

async fn reload(identity: &TlsIdentity) -> Result<Reloaded, TlsFileError> {
    let identity = identity.clone();
    let reloaded = tokio::task::spawn_blocking(move || identity.reload()).await;
    // The runtime is shut down otherwise.
    reloaded.unwrap_or(Ok(Reloaded::Unchanged))
}

fn expiry(identity: &TlsIdentity) -> String {
    let expires = identity.expires_at();
    expires.map_or_else(|| "at an unknown time".to_owned(), rfc3339::utc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_expires_soon_once_it_should_have_been_renewed() {
        use Validity::{Expired, Long, Short};
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        for (lifetime, age, expected) in [
            (90 * 24, 0, Long),
            (90 * 24, 89 * 24 - 1, Long),
            (90 * 24, 89 * 24, Short),
            (90 * 24, 90 * 24, Expired),
            (6 * 24, 4 * 24, Long),
            (6 * 24, 5 * 24, Short),
            // Those of a private authority, which are renewed after 16 hours.
            (24, 0, Long),
            (24, 17, Long),
            (24, 18, Short),
            (24, 24, Expired),
        ] {
            let from = hours(1_000_000);
            let found = Validity::at(from + hours(age), from, from + hours(lifetime));
            assert_eq!(found, expected, "{lifetime} {age}");
        }
    }
}
