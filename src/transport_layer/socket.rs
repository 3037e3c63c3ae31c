//! What a user holds.
//!
//! It starts and ends things; the work is done by the tasks. Invariant: once the socket is dropped,
//! or `shutdown` has returned, its port is free and no task of it exists.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::listener::handle_socket_listener;
use super::shared::Shared;
use super::submit::{self, Hub};
use super::{OutgoingConnection, SocketStats, TransportLayerConfig};
use crate::credential::{Identity, NetCredential};
use crate::message::{ChitchatMessage, Message};
use crate::net::{NetListener, NetTransport};
use crate::rt::sync::Ticket;
use crate::rt::{self, Task};

/// An open address: queues messages to peers and gives those that arrive.
///
/// Methods take `&self`: one task may send while another receives. Dropping the socket stops its
/// tasks and frees its port before `drop` returns; what is queued is lost then, and
/// [`shutdown`](Self::shutdown) sends it first.
pub struct TransportLayerSocket<T: NetTransport, M: Message = ChitchatMessage> {
    shared: Arc<Shared<T, M>>,
}

impl<T: NetTransport, M: Message> TransportLayerSocket<T, M> {
    /// Binds `listen_addr` and starts accepting.
    ///
    /// # Errors
    ///
    /// The address cannot be bound, or a value of the configuration is out of bounds
    /// ([`ConfigError`](crate::ConfigError)).
    ///
    /// # Panics
    ///
    /// Natively, outside a tokio runtime.
    pub async fn new(
        transport: T,
        credential: NetCredential,
        listen_addr: SocketAddr,
        config: TransportLayerConfig,
    ) -> anyhow::Result<Self> {
        config.validate()?;
        let mut config = config;
        if config.alpn.is_empty() {
            config.alpn.push(M::ALPN);
        }
        let listener = transport
            .create_listener(listen_addr, &config.alpn, &credential)
            .await?;
        let shared = Shared::new(transport, credential, listener.local_addr(), config);
        let accepting = handle_socket_listener(Arc::clone(&shared), listener);
        shared.keep_listener(Task::spawn(accepting));
        Ok(Self { shared })
    }

    /// The bound address, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// Who we are.
    pub fn local_identity(&self) -> Identity {
        self.shared.credential.identity()
    }

    /// The network that the socket is open on.
    pub fn transport(&self) -> &T {
        &self.shared.transport
    }

    /// Queues `message` for `to`. Ready at once, but for a full queue under `Backpressure`; what
    /// cannot be sent is dropped and counted in [`stats`](Self::stats).
    ///
    /// Cancel-safe: dropped before it is ready, it has queued nothing.
    ///
    /// # Errors
    ///
    /// The socket is closed; the message is given back.
    pub async fn send(&self, to: SocketAddr, message: M) -> Result<(), SendError<M>> {
        submit::submit(&*self.shared, to, message).await
    }

    /// The next message and the address to answer to. Peers take turns; the messages of one come
    /// in the order in which it sent them. Cancel-safe, and several callers may wait.
    ///
    /// # Errors
    ///
    /// The socket is closed and everything received has been given.
    pub async fn recv(&self) -> Result<(SocketAddr, M), ClosedError> {
        self.shared.incoming.recv().await
    }

    /// The queue of peer `to`, made if there is none. Nothing is dialled until there is something
    /// to send, or somebody waits for [`OutgoingConnection::connected`].
    ///
    /// # Errors
    ///
    /// The socket is closed.
    pub fn get_or_create_outgoing_connection(
        &self,
        to: SocketAddr,
    ) -> Result<OutgoingConnection<M>, ClosedError> {
        self.shared.ensure_peer(to)?;
        let hub: Arc<dyn Hub> = Arc::<Shared<T, M>>::clone(&self.shared);
        Ok(OutgoingConnection::new(hub, to))
    }

    /// A snapshot of all counters.
    pub fn stats(&self) -> SocketStats {
        self.shared.stats()
    }

    /// Stops accepting, sends what is queued for at most `deadline`, and closes every connection.
    /// `recv` then gives what has arrived, and ends. The port is free when this returns.
    ///
    /// `send` fails from the first poll on. May be called twice, also at once: each call waits
    /// for its own deadline, and the one that ends first closes the socket. Cancelled, it leaves
    /// the socket closed to new messages; call it again, or drop the socket.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        self.shared.stop_accepting();
        {
            let mut drain = Drain {
                shared: &self.shared,
                ticket: None,
            };
            let drained = poll_fn(|cx| drain.shared.poll_drained(&mut drain.ticket, cx));
            let _ = rt::timeout(deadline, drained).await;
        }
        let (conns, unsent) = self.shared.close_peers();
        self.shared.say_goodbye(conns).await;
        self.shared.close_tasks();
        ShutdownReport { unsent }
    }
}

/// A shutdown that waits for the queues to empty.
struct Drain<'a, T: NetTransport, M: Message> {
    shared: &'a Shared<T, M>,
    ticket: Ticket,
}

impl<T: NetTransport, M: Message> Drop for Drain<'_, T, M> {
    fn drop(&mut self) {
        self.shared.stop_waiting_for_drain(&mut self.ticket);
    }
}

impl<T: NetTransport, M: Message> Drop for TransportLayerSocket<T, M> {
    fn drop(&mut self) {
        let (conns, _) = self.shared.close_peers();
        self.shared.close_tasks();
        // The last clones: this ends the connections.
        drop(conns);
    }
}

impl<T: NetTransport, M: Message> std::fmt::Debug for TransportLayerSocket<T, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransportLayerSocket")
            .field("local_addr", &self.shared.local_addr)
            .finish_non_exhaustive()
    }
}

/// What a shutdown left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Messages that were still queued at the deadline, dropped as `Closed`.
    pub unsent: u64,
}

/// The socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the socket is closed")]
pub struct ClosedError;

/// The socket is closed; the message is inside.
#[derive(thiserror::Error)]
#[error("the socket is closed")]
pub struct SendError<M>(pub M);

impl<M> std::fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SendError(..)")
    }
}
