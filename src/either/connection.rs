//! A connection of either network.
//!
//! It forwards each call to the connection of the network. Invariant: sending, probing and receiving on
//! a connection of the second network fail with [`TakenOver`](super::TakenOver) once the first
//! network has taken over, so that traffic moves to the first.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::routes::{InUse, Routes};
use super::takeover::Takeover;
use crate::credential::{Claims, Grounds, Identity};
use crate::net::{Alpn, CloseCode, CloseReason, NetConnection};
use crate::rt::Instant;

/// A connection of either network of an [`EitherTransport`](super::EitherTransport).
#[derive(Debug, Clone)]
pub struct EitherConnection<A, B>(Kind<A, B>);

#[derive(Debug, Clone)]
enum Kind<A, B> {
    First {
        conn: A,
        /// Exists as long as the connection, if the address of the peer is known.
        _in_use: Option<Arc<InUse>>,
    },
    Second(B, Arc<Context<A>>),
}

/// The shared state through which a connection of the second network learns of the first network.
#[derive(Debug)]
struct Context<A> {
    /// Where messages from the peer are recorded as answers, and when this side has dialled it, if it has. What comes by
    /// itself may be forged, and answers nothing.
    dialled: Option<(Arc<Routes<A>>, Instant)>,
    takeover: Arc<Takeover>,
}

impl<A> Context<A> {
    fn note_answer(&self, addr: SocketAddr) {
        if let Some((routes, since)) = &self.dialled {
            routes.answered_over_second(addr, *since);
        }
    }
}

impl<A, B> EitherConnection<A, B> {
    pub(super) fn first(conn: A, in_use: Option<Arc<InUse>>) -> Self {
        Self(Kind::First {
            conn,
            _in_use: in_use,
        })
    }

    /// Returns a connection of the second network that this side has dialled.
    pub(super) fn dialled(conn: B, routes: Arc<Routes<A>>, takeover: Arc<Takeover>) -> Self {
        let dialled = Some((routes, Instant::now()));
        Self(Kind::Second(conn, Arc::new(Context { dialled, takeover })))
    }

    /// Returns a connection of the second network that this side has accepted.
    pub(super) fn accepted(conn: B, takeover: Arc<Takeover>) -> Self {
        let dialled = None;
        Self(Kind::Second(conn, Arc::new(Context { dialled, takeover })))
    }

    /// Returns the connection if it belongs to the first, preferred network.
    pub fn as_first(&self) -> Option<&A> {
        match &self.0 {
            Kind::First { conn, .. } => Some(conn),
            Kind::Second(..) => None,
        }
    }

    /// Returns the connection if it belongs to the second network.
    pub fn as_second(&self) -> Option<&B> {
        match &self.0 {
            Kind::First { .. } => None,
            Kind::Second(conn, _) => Some(conn),
        }
    }
}

/// Makes the same call on the connection of whichever network it belongs to.
macro_rules! on_either {
    ($self:ident, $conn:ident => $call:expr) => {
        match &$self.0 {
            Kind::First { conn: $conn, .. } => $call,
            Kind::Second($conn, _) => $call,
        }
    };
}

impl<A: NetConnection, B: NetConnection> NetConnection for EitherConnection<A, B> {
    fn local_addr(&self) -> SocketAddr {
        on_either!(self, conn => conn.local_addr())
    }

    fn remote_addr(&self) -> SocketAddr {
        on_either!(self, conn => conn.remote_addr())
    }

    fn is_local(&self) -> bool {
        on_either!(self, conn => conn.is_local())
    }

    fn local_identity(&self) -> Identity {
        on_either!(self, conn => conn.local_identity())
    }

    fn remote_identity(&self) -> Identity {
        on_either!(self, conn => conn.remote_identity())
    }

    fn grounds(&self) -> Grounds {
        on_either!(self, conn => conn.grounds())
    }

    fn claims(&self) -> Option<&Arc<Claims>> {
        on_either!(self, conn => conn.claims())
    }

    fn stated_addr(&self) -> Option<SocketAddr> {
        on_either!(self, conn => conn.stated_addr())
    }

    fn alpn_negotiated(&self) -> &Alpn {
        on_either!(self, conn => conn.alpn_negotiated())
    }

    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        match &self.0 {
            Kind::First { conn, .. } => conn.send_many(batch).await,
            Kind::Second(conn, context) => {
                context.takeover.check()?;
                conn.send_many(batch).await
            }
        }
    }

    async fn keepalive(&self) -> anyhow::Result<()> {
        on_either!(self, conn => conn.keepalive().await)
    }

    async fn probe(&self) -> anyhow::Result<()> {
        match &self.0 {
            Kind::First { conn, .. } => conn.probe().await,
            Kind::Second(conn, context) => {
                context.takeover.check()?;
                conn.probe().await
            }
        }
    }

    fn last_answer(&self) -> Option<Instant> {
        on_either!(self, conn => conn.last_answer())
    }

    async fn recv(&self) -> anyhow::Result<Option<Bytes>> {
        match &self.0 {
            Kind::First { conn, .. } => conn.recv().await,
            Kind::Second(conn, context) => {
                let received = context.takeover.unless(conn.recv()).await?;
                context.note_answer(conn.remote_addr());
                Ok(received)
            }
        }
    }

    async fn recv_many(&self, messages: &mut Vec<Bytes>) -> anyhow::Result<bool> {
        match &self.0 {
            Kind::First { conn, .. } => conn.recv_many(messages).await,
            Kind::Second(conn, context) => {
                let open = context.takeover.unless(conn.recv_many(messages)).await?;
                context.note_answer(conn.remote_addr());
                Ok(open)
            }
        }
    }

    fn last_heard(&self) -> Instant {
        on_either!(self, conn => conn.last_heard())
    }

    async fn close(&self, code: CloseCode) {
        on_either!(self, conn => conn.close(code).await);
    }

    async fn leave(&self, code: CloseCode) {
        on_either!(self, conn => conn.leave(code).await);
    }

    async fn watch_close(&self) -> CloseReason {
        match &self.0 {
            Kind::First { conn, .. } => conn.watch_close().await,
            Kind::Second(conn, context) => {
                let ended = async { Ok(conn.watch_close().await) };
                let ended = context.takeover.unless(ended).await;
                ended.unwrap_or_else(|taken_over| CloseReason::Lost(Arc::new(taken_over)))
            }
        }
    }
}
