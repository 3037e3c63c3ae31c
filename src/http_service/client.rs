//! The client of a request.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use super::connections::Connections;
use super::counts::{Counts, HttpStats};
use super::progress::{Holding, Progress};
use crate::rt::sync::Mutex;

/// The client of a request, which is among the extensions of the request
/// ([`http::Extensions`](hyper::http::Extensions)).
#[derive(Debug, Clone)]
pub struct HttpClient {
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) is_encrypted: bool,
    pub(super) is_reached_by_tls: bool,
    pub(super) progress: Progress,
    pub(super) connections: Weak<Mutex<Connections>>,
    pub(super) counts: Arc<Counts>,
}

impl HttpClient {
    /// Returns the address of the client. On the gossip port, it is the address that a trusted proxy states, if there is
    /// one.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// Returns the address of this side at which the connection has arrived.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns whether the request has come inside of TLS, as far as this side knows: a proxy may have had TLS.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Returns whether the client has reached this side by TLS: its own, or that of a trusted proxy in front, which says so in
    /// the field `X-Forwarded-Proto`. A proxy that does not set the field passes on what clients write into it, so use this
    /// only for what concerns the client itself, such as the URL that it is told.
    pub fn is_reached_by_tls(&self) -> bool {
        self.is_reached_by_tls
    }

    /// Returns the counts of the service.
    pub fn stats(&self) -> HttpStats {
        self.counts.stats()
    }

    /// Notes that `len` bytes of a response are in memory until the returned value is dropped. Meanwhile only what the
    /// client takes counts as progress, and it must take at least 64 KiB/s on average, and something every 10 s.
    pub fn hold(&self, len: usize) -> Holding {
        self.progress.hold(len)
    }

    /// Ends the connections whose clients have taken nothing of a response that is in memory ([`hold`](Self::hold)) for a
    /// second, of the host for which the most bytes are in memory. Returns how many it has ended. For a response for
    /// which there is not enough memory otherwise.
    pub fn end_stalled(&self) -> usize {
        let Some(connections) = self.connections.upgrade() else {
            return 0;
        };
        let ended = connections.lock().end_stalled();
        self.counts
            .add(|counts| &counts.evicted, ended.len() as u64);
        ended.len()
    }
}
