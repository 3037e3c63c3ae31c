//! The trait of a connection: an ordered stream of messages in both directions.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::alpn::Alpn;
use super::close::{CloseCode, CloseReason};
use crate::credential::{Claims, Grounds, Identity};
use crate::rt::{Instant, MaybeSend, MaybeSync};

/// A secure, ordered stream of messages in both directions.
///
/// Clones share the connection, which ends when it is closed or the last clone is dropped.
pub trait NetConnection: Clone + MaybeSend + MaybeSync + 'static {
    /// Returns our address as the peer sees it if the network knows it, otherwise as it is bound here.
    fn local_addr(&self) -> SocketAddr;

    /// Returns the address of the peer: as dialled, or where the accepted connection came from.
    fn remote_addr(&self) -> SocketAddr;

    /// Returns the identity that we have proved.
    fn local_identity(&self) -> Identity;

    /// Returns the identity that the peer has proved, or [`Identity::UNPROVED`] on a network without
    /// authentication.
    fn remote_identity(&self) -> Identity;

    /// Returns what else the peer has proved, on which the trust in this connection rests. Default:
    /// [`Grounds::Unknown`], with which a connection outlives the removal of a cluster secret.
    fn grounds(&self) -> Grounds {
        Grounds::Unknown
    }

    /// Returns the claims of the invite that the peer has presented, if it has. Default: `None`.
    fn claims(&self) -> Option<&Arc<Claims>> {
        None
    }

    /// Returns whether the connection leads to a loopback address. Only then may the peer state one. Default: whether
    /// [`remote_addr`](Self::remote_addr) is one, which an address that stands for a name never is.
    fn is_local(&self) -> bool {
        self.remote_addr().ip().to_canonical().is_loopback()
    }

    /// Returns the address at which the peer says that it can be dialled, or `None` if it states none.
    /// The claim is not verified.
    fn stated_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Returns the application protocol that both sides have agreed on.
    fn alpn_negotiated(&self) -> &Alpn;

    /// Sends one message. See [`send_many`](Self::send_many).
    fn send(&self, message: Bytes) -> impl Future<Output = anyhow::Result<()>> + MaybeSend {
        async move {
            let mut batch = VecDeque::from([message]);
            self.send_many(&mut batch).await
        }
    }

    /// Hands every message of `batch` to the network, with one flush at the end, so that many messages
    /// cost few system calls. A message leaves `batch` once the network owns it.
    ///
    /// Completes when the network has taken all bytes, which does not mean that the peer has
    /// received them. If the peer is slow, that may take as long as the connection lives.
    /// Cancel-safe: a message is either still in `batch`, or the next call that is awaited sends it
    /// whole, also if its own batch is empty.
    fn send_many(
        &self,
        batch: &mut VecDeque<Bytes>,
    ) -> impl Future<Output = anyhow::Result<()>> + MaybeSend;

    /// Sends a keepalive: a sign of life that is not a message.
    fn keepalive(&self) -> impl Future<Output = anyhow::Result<()>> + MaybeSend;

    /// Asks the peer for a sign of life, without waiting for it: [`last_heard`](Self::last_heard)
    /// rises when the answer arrives. The peer answers after its caller has received every message
    /// that was sent before. A network whose peers do not answer sends a
    /// [`keepalive`](Self::keepalive), which is the default.
    fn probe(&self) -> impl Future<Output = anyhow::Result<()>> + MaybeSend {
        self.keepalive()
    }

    /// Returns when the peer last answered a [`probe`](Self::probe), or `None` if it never has.
    fn last_answer(&self) -> Option<Instant> {
        None
    }

    /// Returns the next message, or `None` once the peer has closed the connection in order.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// Fails if the connection broke or was tampered with. Every later call fails in the same way.
    fn recv(&self) -> impl Future<Output = anyhow::Result<Option<Bytes>>> + MaybeSend;

    /// Waits for messages and appends at least one to `messages`. Returns `false` once the peer has
    /// closed the connection in order. Cancel-safe.
    ///
    /// The network chooses the number: as many as it can return without another system call, and at
    /// most about 64 KiB or 1,024 messages besides the first.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`recv`](Self::recv). Messages that came before the error have been
    /// returned by earlier calls.
    fn recv_many(
        &self,
        messages: &mut Vec<Bytes>,
    ) -> impl Future<Output = anyhow::Result<bool>> + MaybeSend {
        async move {
            let message = self.recv().await?;
            let open = message.is_some();
            messages.extend(message);
            Ok(open)
        }
    }

    /// Returns when the peer was last heard: a message, a keepalive or an answered ping.
    fn last_heard(&self) -> Instant;

    /// Returns how long the peer has been silent.
    fn silence(&self) -> Duration {
        Instant::now().saturating_duration_since(self.last_heard())
    }

    /// Says goodbye with `code`, releases the connection, and wakes every task that waits on it. Waits
    /// at most a second for the network to take the goodbye. Closing twice does nothing.
    fn close(&self, code: CloseCode) -> impl Future<Output = ()> + MaybeSend;

    /// Says goodbye with `code`, for which [`CloseCode::is_answered`] holds, behind everything that was sent, and
    /// goes on receiving until the peer has said goodbye as well. So no message is lost, in either direction. Sending
    /// waits for the end from now on, and sends nothing. Completes once the network has taken the goodbye.
    ///
    /// By default this is [`close`](Self::close), which loses messages that are on their way here.
    fn leave(&self, code: CloseCode) -> impl Future<Output = ()> + MaybeSend {
        self.close(code)
    }

    /// Completes when the connection has ended, for whatever reason. Cancel-safe.
    fn watch_close(&self) -> impl Future<Output = CloseReason> + MaybeSend;
}
