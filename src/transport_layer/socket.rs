//! A socket that sends and receives messages.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::config::TransportLayerConfig;
use super::driver::{
    Intake, Outbound, Shared, advertised_addr, handle_socket_listener, submit, submit_to_all,
    watch_trust, watch_wakings,
};
use super::error::{ClosedError, SendError};
use super::outgoing::OutgoingConnection;
use super::received::{ConnectedPeer, Received};
use super::stats::SocketStats;
use crate::credential::{Identity, NetCredential, Refusal, Trust};
use crate::message::{ChitchatMessage, Message};
use crate::net::{NetListener, NetTransport, canonical, is_dialable};
use crate::rt::sync::Ticket;
use crate::rt::{self, Task};

/// A bound address that sends messages to peers and receives theirs.
///
/// All methods take `&self`, so one task may send while another receives. Dropping the socket stops
/// its tasks and frees its port before `drop` returns. Messages that are queued are lost then; call
/// [`shutdown`](Self::shutdown) to send them first.
pub struct TransportLayerSocket<T: NetTransport, M: Message = ChitchatMessage> {
    shared: Arc<Shared<T, M>>,
    intake: Intake<T, M>,
}

impl<T: NetTransport, M: Message> TransportLayerSocket<T, M> {
    /// Binds `listen_addr` and starts to accept connections.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be bound, or with a [`ConfigError`](crate::ConfigError) if a value
    /// of the configuration is out of bounds.
    ///
    /// # Panics
    ///
    /// Panics natively outside of a tokio runtime.
    pub async fn new(
        transport: T,
        credential: NetCredential,
        listen_addr: SocketAddr,
        mut config: TransportLayerConfig,
    ) -> anyhow::Result<Self> {
        config.validate()?;
        if config.alpn.is_empty() {
            config.alpn = M::alpns();
        }
        let credential = credential.without_stated_addr();
        let listener = transport
            .create_listener(listen_addr, &config.alpn, &credential)
            .await?;
        let local_addr = canonical(listener.local_addr());
        let mut advertised = config.advertise_addr.map_or(local_addr, canonical);
        if advertised.port() == 0 {
            advertised.set_port(local_addr.port());
        }
        // A leaf accepts no connections, so it is known by its key.
        if is_dialable(advertised) && credential.trust().held_invite().is_none() {
            credential.state_addr(advertised);
        }
        let intake = Intake::new(transport, credential, local_addr, config);
        let shared = Arc::clone(&intake.shared);
        watch_trust(&shared);
        let accepting = handle_socket_listener(intake.clone(), listener);
        shared.keep_listener(Task::spawn(accepting));
        watch_wakings(&shared);
        Ok(Self { shared, intake })
    }

    /// Returns the bound address, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// Returns the address under which peers register this socket: the one that it states in
    /// handshakes, or else the key address of its identity.
    pub fn advertised_addr(&self) -> SocketAddr {
        advertised_addr(&self.shared.credential)
    }

    /// Returns the peers with a live connection if they have changed since the call that returned
    /// `seen`, and updates it. Pass in 0 at first.
    pub fn connected_peers(&self, seen: &mut u64) -> Option<Vec<ConnectedPeer>> {
        self.shared.connected_peers(seen)
    }

    /// Probes the connections of a peer that seems to be gone. One whose peer is not heard within 3 s is
    /// closed, so that the next message dials the peer, instead of waiting until it has been
    /// [silent](TransportLayerConfig::silence_timeout) for long.
    pub fn suspect(&self, addr: SocketAddr) {
        self.shared.suspect(addr, Duration::ZERO);
    }

    /// Probes the connections of an authenticated peer on which nothing was heard for `silence`, as
    /// [`suspect`](Self::suspect) does.
    pub(crate) fn suspect_if_silent(&self, addr: SocketAddr, silence: Duration) {
        self.shared.suspect(addr, silence);
    }

    /// Drops the messages for peers that are not connected.
    pub(crate) fn drop_unconnected(&self) {
        self.shared.drop_unconnected();
    }

    /// Closes the connections of a peer that holds an invite, and tells it why: what it gossips about itself is refused.
    pub(crate) fn refuse_leaf(&self, addr: SocketAddr, reason: Refusal) {
        self.shared.refuse_leaf(addr, reason);
    }

    /// Returns the number of failed dials in a row of `addr` and the error of the last one, or `None`
    /// if the last dial has succeeded or there was none.
    pub fn dial_failure(&self, addr: SocketAddr) -> Option<(u32, Arc<anyhow::Error>)> {
        self.shared.dial_failure(addr)
    }

    /// Returns our identity, which peers see.
    pub fn local_identity(&self) -> Identity {
        self.shared.credential.identity()
    }

    /// Returns the peers that the socket trusts.
    pub(crate) fn trust(&self) -> &Trust {
        self.shared.credential.trust()
    }

    /// Returns the network on which the socket is open.
    pub fn transport(&self) -> &T {
        &self.shared.transport
    }

    /// Sends `message` to `to`: hands it to the network at once if the connection is idle, and queues
    /// it otherwise. A message that cannot be sent is dropped and counted in [`stats`](Self::stats).
    ///
    /// Returns at once, except under [`OverflowPolicy::Backpressure`](super::OverflowPolicy) when the
    /// queue is full. Cancel-safe: if the future is dropped before it is ready, nothing is queued.
    ///
    /// # Errors
    ///
    /// Fails if the socket is closed. The error contains the message.
    pub async fn send(&self, to: SocketAddr, message: M) -> Result<(), SendError<M>> {
        submit(&self.intake, to, message).await
    }

    /// Sends `message` to each address of `to`, and encodes it once. Returns at once: where a queue is
    /// full and its policy is to wait, the message is dropped and counted as `Overflow`.
    ///
    /// # Errors
    ///
    /// Fails if the socket is closed. The error contains the message.
    pub fn send_to_all(&self, to: &[SocketAddr], message: M) -> Result<(), SendError<M>> {
        submit_to_all(&self.intake, to, message)
    }

    /// Returns the next message and the address to answer to.
    ///
    /// Peers take turns, and the messages of each are returned in the order in which it sent them.
    /// Cancel-safe. Several callers may wait at a time.
    ///
    /// # Errors
    ///
    /// Fails once the socket is closed and every received message has been returned.
    pub async fn recv(&self) -> Result<(SocketAddr, M), ClosedError> {
        self.shared.recv().await
    }

    /// Returns the next message with the identity and the role of its sender and the time of its
    /// arrival. Otherwise it does the same as [`recv`](Self::recv); each message is returned to one
    /// caller of either.
    ///
    /// # Errors
    ///
    /// Fails once the socket is closed and every received message has been returned.
    pub async fn recv_detailed(&self) -> Result<Received<M>, ClosedError> {
        self.shared.recv_detailed().await
    }

    /// Returns a handle to the queue of peer `to`, which is created if there is none.
    ///
    /// Nothing is dialled until there is something to send, or until
    /// [`OutgoingConnection::connected`] is awaited. One case is different: if all that is known of the peer is a
    /// connection without authentication, as what comes over UDP is, its address is dialled, because someone
    /// may have forged that. An identity that answers there takes the place of the connection. An address at which
    /// nobody proves an identity is dialled again at most every two minutes.
    ///
    /// # Errors
    ///
    /// Fails if the socket is closed.
    pub fn get_or_create_outgoing_connection(
        &self,
        to: SocketAddr,
    ) -> Result<OutgoingConnection<M>, ClosedError> {
        let to = canonical(to);
        self.intake.ask_for(to)?;
        let outbound: Arc<dyn Outbound> = Arc::new(self.intake.clone());
        Ok(OutgoingConnection::new(outbound, to))
    }

    /// Returns a snapshot of all counters.
    pub fn stats(&self) -> SocketStats {
        self.shared.stats()
    }

    /// Stops accepting, sends queued messages for at most `deadline`, and closes every connection.
    /// The port is free when this returns. `recv` then returns the messages that have arrived, and
    /// ends.
    ///
    /// `send` fails from the first poll on. May be called several times, also concurrently: each
    /// call waits for its own deadline, and the first one that ends closes the socket. If the
    /// future is dropped, the socket stays closed to new messages; call this again or drop the
    /// socket.
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
    shared: &'a Arc<Shared<T, M>>,
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
        // These are the last clones: dropping them ends the connections.
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

/// The result of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Messages that were still queued at the deadline. They are dropped as `Closed`.
    pub unsent: u64,
}
