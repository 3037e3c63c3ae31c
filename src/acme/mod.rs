//! Certificates for TLS that a certificate authority issues and renews by itself: ACME (RFC 8555).
//!
//! The authority validates each name by a TLS connection to its port 443 (TLS-ALPN-01, RFC 8737), which the port with the
//! certificate answers itself, so no other port is needed. That works for DNS names and for IP addresses (RFC 8738).
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use gossip_transport::acme::{Acme, AcmeConfig, AcmeStore};
//! use gossip_transport::tcp::{TcpConfig, TcpTransport};
//!
//! async fn run(store: Arc<dyn AcmeStore>) -> anyhow::Result<()> {
//!     let names = vec!["node.example.com".parse()?];
//!     let acme = Acme::open(AcmeConfig::new(names), store).await?;
//!     let config = TcpConfig::default().with_tls(Some(acme.identity().clone()));
//!     let transport = TcpTransport::new(config);
//!     // Open a socket on port 443 with it, and then:
//!     let running = acme.start();
//! #   drop((transport, running));
//! #   Ok(())
//! }
//! ```
//!
//! The client of ACME is `instant-acme`. This module decides when to order, answers validations, and keeps the files. It
//! validates by no other way than TLS-ALPN-01, and revokes nothing. Invariants: the certificate in use stays, whatever
//! fails; no two orders follow each other without a pause, over restarts as well; only names of the configuration are
//! answered for, and only during an order.
//!
//! | file | contents |
//! |---|---|
//! | `config` | what is ordered, and where |
//! | `name` | names and addresses |
//! | `schedule` | when to order, to renew and to try again; plain values |
//! | `worker` | the task that does so |
//! | `order` | one order |
//! | `http` | requests to the authority |
//! | `certificate_id` | the name of a certificate in questions about its renewal |
//! | `store` | the files |
//! | `status` | what was done so far |
//! | `error` | what can go wrong |

mod certificate_id;
mod config;
mod error;
mod http;
mod name;
mod order;
mod schedule;
mod status;
mod store;
mod worker;

use std::fmt;
use std::sync::Arc;

pub use config::{AcmeConfig, ExternalAccount, LETS_ENCRYPT};
pub use error::{AcmeError, RequestError};
pub use name::{AcmeName, AcmeNameError};
pub use status::AcmeStatus;
pub use store::AcmeStore;

use crate::config::ConfigError;
use crate::rt::Task;
use crate::tcp::TlsIdentity;
use status::Shared;
use store::Files;
use worker::Worker;

/// A certificate that is ordered and renewed automatically. Nothing is ordered before [`start`](Self::start).
pub struct Acme {
    identity: TlsIdentity,
    worker: Worker,
}

/// The task that orders and renews the certificate. It ends when this is dropped; the certificate stays in use.
#[must_use = "nothing is renewed once this is dropped"]
pub struct RunningAcme {
    shared: Arc<Shared>,
    _task: Task,
}

impl Acme {
    /// Reads what an earlier process has left in `store`: the certificate, if it is for the same names and from the same
    /// directory, the account, and when the next order may begin. A file that is corrupt is logged as a warning, and counts as
    /// missing.
    ///
    /// # Errors
    ///
    /// Fails if the configuration is not valid.
    pub async fn open(config: AcmeConfig, store: Arc<dyn AcmeStore>) -> Result<Self, ConfigError> {
        config.validate()?;
        let files = Files::new(store, &config);
        let identity = TlsIdentity::without_certificate();
        let worker = Worker::open(config, files, identity.clone(), Arc::default()).await;
        Ok(Self { identity, worker })
    }

    /// Returns the identity for [`TcpConfig::tls`](crate::tcp::TcpConfig::tls). It has no certificate before the first one
    /// was issued, and refuses TLS until then.
    pub fn identity(&self) -> &TlsIdentity {
        &self.identity
    }

    /// Starts to order and to renew. The port with the identity must be bound before, since the authority dials it.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start(self) -> RunningAcme {
        RunningAcme {
            shared: Arc::clone(&self.worker.shared),
            _task: Task::spawn(self.worker.run()),
        }
    }
}

impl RunningAcme {
    /// Returns what was done so far.
    pub fn status(&self) -> AcmeStatus {
        self.shared.status()
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme")
            .field("config", &self.worker.config)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RunningAcme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningAcme")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
