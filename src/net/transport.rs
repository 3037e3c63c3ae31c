//! The traits of a network that dials and listens, and of an incoming connection.

use std::future::Future;
use std::net::SocketAddr;

use super::accept_failure::AcceptFailure;
use super::alpn::Alpn;
use super::connection::NetConnection;
use super::stats::PartialStats;
use crate::credential::NetCredential;
use crate::rt::{MaybeSend, MaybeSync};

/// A network, which can dial and, where the platform allows it, listen.
///
/// Clones are cheap handles to the same network.
pub trait NetTransport: Clone + MaybeSend + MaybeSync + 'static {
    /// The listener that [`create_listener`](Self::create_listener) returns.
    type Listener: NetListener<Connection = Self::Connection>;
    /// The connection that [`connect`](Self::connect) and accepted requests return.
    type Connection: NetConnection;

    /// Binds `bind_addr`. Port 0 asks for any free port. The address is bound when this returns. An address
    /// that belongs to no machine is an error, see [`check_listenable`](super::check_listenable).
    ///
    /// On a platform that cannot listen (a browser), the unspecified address with port 0 returns a
    /// listener that accepts nothing, and any other address is an error.
    fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> impl Future<Output = anyhow::Result<Self::Listener>> + MaybeSend;

    /// Dials `addr`. Completes once the peer has proved its identity and has accepted ours.
    ///
    /// Dropping the future abandons the dial and leaves nothing open.
    fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> impl Future<Output = anyhow::Result<Self::Connection>> + MaybeSend;

    /// Dials `addr` for the socket whose listener is bound to `local_addr`.
    ///
    /// A network in which answers go to the port of the sender, such as UDP, must send from
    /// `local_addr`. By default this is [`connect`](Self::connect).
    fn connect_from(
        &self,
        local_addr: SocketAddr,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> impl Future<Output = anyhow::Result<Self::Connection>> + MaybeSend {
        let _ = local_addr;
        self.connect(addr, alpn_preferred, credential)
    }

    /// Resolves a name as a person writes it (`host:port`; in a browser also a `ws://` or `wss://`
    /// URL) to addresses that [`connect`](Self::connect) takes. Asks DNS where there is one.
    fn resolve(
        &self,
        name: &str,
    ) -> impl Future<Output = anyhow::Result<Vec<SocketAddr>>> + MaybeSend;

    /// Checks that `name` has a form that [`resolve`](Self::resolve) takes, without asking anyone, so that a
    /// mistake in a name is an error at once. By default it accepts every name.
    ///
    /// # Errors
    ///
    /// Fails if no retry of [`resolve`](Self::resolve) can succeed.
    fn check_name(&self, name: &str) -> anyhow::Result<()> {
        let _ = name;
        Ok(())
    }

    /// Returns the counts of messages that have been received in part. By default they are zero, for a
    /// network whose connections hold none.
    fn partial_stats(&self) -> PartialStats {
        PartialStats::default()
    }

    /// Returns the length of the longest message that a connection carries, in bytes. Default 16 MiB.
    fn max_message_len(&self) -> usize {
        16 << 20
    }
}

/// A bound address that accepts connections.
pub trait NetListener: MaybeSend + MaybeSync + 'static {
    /// The request that [`accept`](Self::accept) returns.
    type IncomingRequest: NetIncomingRequest<Connection = Self::Connection>;
    /// The connection that a request becomes when it is accepted.
    type Connection: NetConnection;

    /// Returns the bound address, with the real port.
    fn local_addr(&self) -> SocketAddr;

    /// Waits for the next incoming connection. Cheap: no handshake runs here. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Fails only if the listener is broken for good. A failure of one peer is an error of its
    /// request, and while the system is short of resources (no file descriptor left) this waits.
    fn accept(&self) -> impl Future<Output = anyhow::Result<Self::IncomingRequest>> + MaybeSend;
}

/// An incoming connection whose handshake has not run yet.
pub trait NetIncomingRequest: MaybeSend + 'static {
    /// The connection that the request becomes.
    type Connection: NetConnection;

    /// Returns the address that the connection came from.
    fn remote_addr(&self) -> SocketAddr;

    /// Returns whether the peer must prove an identity in [`accept`](Self::accept). If not, accepting
    /// completes at once, without a handshake that would have to be limited. Default: `true`.
    fn needs_handshake(&self) -> bool {
        true
    }

    /// Runs the handshake. Dropping the request, or this future, refuses the peer.
    fn accept(self) -> impl Future<Output = anyhow::Result<Self::Connection>> + MaybeSend;

    /// Returns the reason under which an error of [`accept`](Self::accept) is counted, or `None` if nothing has failed:
    /// the connection was for something else than gossip, and got it. By default there is one reason for all errors.
    fn failure(error: &anyhow::Error) -> Option<AcceptFailure> {
        let _ = error;
        Some(AcceptFailure::Other)
    }
}
