//! What is kept over restarts: the account, the certificate with its key, and when the next order may begin.
//!
//! Where it is kept is up to the user ([`AcmeStore`]). Invariants: a file that cannot be read or understood is reported, and
//! counts as missing; but an account that cannot be read is an error, since each order would create another one.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use blake2::{Blake2s256, Digest as _};
use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::config::AcmeConfig;
use super::error::AcmeError;
use crate::rt::sync::Mutex;

/// The longest file, in bytes. A chain with its key has a few kibibytes.
const MAX_LEN: usize = 256 << 10;

/// The place of the files of [`Acme`](super::Acme).
///
/// The methods may block: they are called by tasks that may. The files contain private keys, so nobody else may read them.
/// Nobody else may use the same place at the same time.
pub trait AcmeStore: Send + Sync + 'static {
    /// Reads the file `name`, or returns `None` if there is none.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read, or is longer than `max_len` bytes ([`io::ErrorKind::FileTooLarge`]).
    fn read(&self, name: &str, max_len: usize) -> io::Result<Option<Vec<u8>>>;

    /// Replaces the file `name`, or creates it. Once this returns, it lasts over a crash of the machine.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written. The file must have the old content or the new one then.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
}

/// The files of one configuration.
///
/// Their names depend on it, so that another authority or other names lead to another account or certificate, and the
/// former ones are found again if the configuration is changed back.
#[derive(Clone)]
pub(super) struct Files {
    store: Arc<dyn AcmeStore>,
    /// The name of the file with the account at this authority.
    pub(super) account: String,
    /// The name of the file with the key and then the certificate chain, which also is where an operator looks for it.
    pub(super) certificate: String,
    /// The name of the file about attempts.
    pub(super) attempts: String,
    /// The files that were reported as corrupt, and not written since.
    reported: Arc<Mutex<BTreeSet<String>>>,
}

/// The account.
#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    /// The contact that the authority knows.
    pub(super) contact: Vec<String>,
    pub(super) credentials: AccountCredentials,
}

/// What is known about earlier attempts. It is written before each one, so that a program which is started again and again
/// does not order again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Attempts {
    /// The number of attempts since there was a certificate that has lasted ([`has_lasted`](super::schedule::has_lasted)).
    pub(super) failures: u32,
    /// The time since 1970-01-01 UTC before which there is no other one, in seconds.
    not_before: u64,
    /// That at which the last one was begun, in seconds.
    #[serde(default)]
    begun: u64,
}

impl Attempts {
    /// Returns those after another attempt, which was begun at `begun`.
    pub(super) fn new(failures: u32, begun: Duration, not_before: Duration) -> Self {
        Self {
            failures,
            // Rounded up.
            not_before: (not_before + Duration::from_nanos(999_999_999)).as_secs(),
            begun: begun.as_secs(),
        }
    }

    pub(super) fn begun(&self) -> Duration {
        Duration::from_secs(self.begun)
    }

    pub(super) fn not_before(&self) -> Duration {
        Duration::from_secs(self.not_before)
    }
}

impl Files {
    pub(super) fn new(store: Arc<dyn AcmeStore>, config: &AcmeConfig) -> Self {
        let mut names: Vec<_> = config.names.iter().map(ToString::to_string).collect();
        names.sort();
        let of_account = hash(&[&config.directory]);
        let profile = config.profile.as_deref().unwrap_or_default();
        let parts = [&*config.directory, profile];
        let names = names.iter().map(String::as_str);
        let of_certificate = hash(&parts.into_iter().chain(names).collect::<Vec<_>>());
        Self {
            store,
            account: format!("account-{of_account}.json"),
            certificate: format!("certificate-{of_certificate}.pem"),
            attempts: format!("attempts-{of_certificate}.json"),
            reported: Arc::default(),
        }
    }

    /// Returns the key and the certificate chain, as PEM.
    pub(super) async fn certificate(&self) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = self.read(&self.certificate).await;
        bytes.map(Zeroizing::new)
    }

    pub(super) async fn account(&self) -> Result<Option<Account>, AcmeError> {
        match self.try_read(&self.account).await {
            Err(source) if !is_corrupt(&source) => Err(AcmeError::Store {
                file: self.account.clone(),
                source,
            }),
            read => Ok(self.parsed(&self.account, self.reported(&self.account, read))),
        }
    }

    pub(super) async fn attempts(&self) -> Attempts {
        let bytes = self.read(&self.attempts).await;
        self.parsed(&self.attempts, bytes).unwrap_or_default()
    }

    pub(super) async fn save_certificate(&self, pem: &[u8]) -> Result<(), AcmeError> {
        self.write(&self.certificate, pem.to_vec()).await
    }

    pub(super) async fn save_account(&self, account: &Account) -> Result<(), AcmeError> {
        self.write_json(&self.account, account).await
    }

    pub(super) async fn save_attempts(&self, attempts: Attempts) -> Result<(), AcmeError> {
        self.write_json(&self.attempts, &attempts).await
    }

    /// Reports once that a file is corrupt, and that a new one will take its place.
    pub(super) fn report_corrupt(&self, file: &str, error: &dyn std::fmt::Display) {
        if !self.reported.lock().insert(file.to_owned()) {
            return;
        }
        tracing::warn!(
            file,
            %error,
            "a file of the automatic certificates cannot be used, and will be replaced: check the disk"
        );
    }

    fn parsed<T: for<'a> Deserialize<'a>>(&self, name: &str, bytes: Option<Vec<u8>>) -> Option<T> {
        let bytes = Zeroizing::new(bytes?);
        match serde_json::from_slice(&bytes) {
            Ok(value) => Some(value),
            Err(error) => {
                // Its text would quote what may be a part of a key.
                let at = format!("line {}, column {}", error.line(), error.column());
                self.report_corrupt(name, &at);
                None
            }
        }
    }

    async fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), AcmeError> {
        let bytes = serde_json::to_vec(value).map_err(|error| AcmeError::Store {
            file: name.to_owned(),
            source: error.into(),
        })?;
        self.write(name, bytes).await
    }

    async fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.reported(name, self.try_read(name).await)
    }

    async fn try_read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let (store, file) = (Arc::clone(&self.store), name.to_owned());
        let reading = tokio::task::spawn_blocking(move || store.read(&file, MAX_LEN));
        reading.await.unwrap_or_else(|error| Err(error.into()))
    }

    fn reported(&self, name: &str, read: io::Result<Option<Vec<u8>>>) -> Option<Vec<u8>> {
        match read {
            Ok(bytes) => bytes,
            Err(error) => {
                self.report_corrupt(name, &error);
                None
            }
        }
    }

    async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<(), AcmeError> {
        let (store, file) = (Arc::clone(&self.store), name.to_owned());
        let bytes = Zeroizing::new(bytes);
        let writing = tokio::task::spawn_blocking(move || store.write(&file, &bytes));
        let written = writing.await.unwrap_or_else(|error| Err(error.into()));
        if written.is_ok() {
            self.reported.lock().remove(name);
        }
        written.map_err(|source| AcmeError::Store {
            file: name.to_owned(),
            source,
        })
    }
}

/// Returns whether an error says that a file can be read, and is none of these.
fn is_corrupt(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidData
    )
}

/// Returns a short name for `parts`, which differs for other parts.
fn hash(parts: &[&str]) -> String {
    let mut hash = Blake2s256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let bytes = hash.finalize();
    bytes
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
