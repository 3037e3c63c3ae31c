//! TLS around the streams of the TCP network, with rustls.
//!
//! It hides what is said from those on the way, and satisfies pages that were served over https. It authenticates nobody to
//! the cluster: the secure channel runs inside, and decides which peers may connect, as it does without TLS. This module
//! obtains no certificates, and watches no files. Invariant: a stream that was cut off is never taken for one that has
//! ended in order.
//!
//! | file | contents |
//! |---|---|
//! | `identity` | the certificate and key with which TLS is accepted, and their replacement |
//! | `roots` | the authorities that are trusted when TLS is dialled |
//! | `server`, `client` | the two sides of a handshake |
//! | `hello` | the first message of a client |
//! | `validation` | connections of a certificate authority that validates a name |
//! | `unverified` | dialling an address for which no certificate can be issued |
//! | `session` | an established stream |
//! | `names` | names that are dialled with TLS |
//! | `pem` | files with certificates and keys |
//! | `validity` | the time for which a certificate is valid |
//! | `der` | reading DER |
//! | `error` | what can be wrong with all of these |

mod client;
mod der;
mod error;
mod hello;
mod identity;
mod names;
mod pem;
mod roots;
mod server;
mod session;
#[cfg(test)]
pub(super) mod tests;
mod unverified;
mod validation;
mod validity;

pub(super) use client::TlsConnector;
#[cfg(feature = "acme")]
pub(crate) use der::Der;
pub use error::{TlsAcceptError, TlsDialError, TlsError, TlsFileError, TlsNameError};
pub use identity::{Reloaded, TlsIdentity};
pub(super) use names::{TlsName, TlsNames};
pub use roots::TlsRoots;
pub(super) use server::{REFUSAL, TlsAcceptor, TlsPolicy};
pub(super) use session::TlsStream;
pub use validation::TlsValidation;
