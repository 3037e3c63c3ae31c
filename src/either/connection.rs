//! A connection, a listener and a stranger, of either network.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use futures::future::{Either, select};

use super::peers::{Peers, Side};
use crate::credential::Identity;
use crate::net::{Alpn, CloseCode, CloseReason, NetConnection, NetIncomingRequest, NetListener};
use crate::rt::sync::Epoch;

/// A connection of either network.
#[derive(Debug, Clone)]
pub struct EitherConnection<A, B>(Kind<A, B>);

#[derive(Debug, Clone)]
enum Kind<A, B> {
    First(A),
    Second(B, Arc<Company<A>>),
}

/// What a connection of the second network has to do with the first.
#[derive(Debug)]
struct Company<A> {
    /// Whom to tell that the peer has answered.
    peers: Arc<Peers<A>>,
    overtaken: Arc<Overtaken>,
}

/// Whether a dial of the first network has come through after all. It holds no connection, and so
/// keeps nobody's port.
#[derive(Debug, Default)]
pub(super) struct Overtaken {
    happened: AtomicBool,
    ended: Epoch,
}

impl Overtaken {
    pub(super) fn tell(&self) {
        self.happened.store(true, Ordering::Release);
        self.ended.advance();
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.happened.load(Ordering::Acquire) {
            return Err(anyhow!("the peer can be reached by the preferred network"));
        }
        Ok(())
    }

    /// Runs `future` unless it happens.
    async fn unless<T>(
        &self,
        future: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let seen = self.ended.current();
        self.check()?;
        match select(pin!(future), pin!(self.ended.later_than(seen))).await {
            Either::Left((result, _)) => result,
            Either::Right(((), future)) => {
                self.check()?;
                future.await
            }
        }
    }
}

impl<A, B> EitherConnection<A, B> {
    pub(super) fn first(conn: A) -> Self {
        Self(Kind::First(conn))
    }

    pub(super) fn second(conn: B, peers: Arc<Peers<A>>, overtaken: Arc<Overtaken>) -> Self {
        Self(Kind::Second(conn, Arc::new(Company { peers, overtaken })))
    }

    /// The connection, if it is of the preferred network.
    pub fn as_first(&self) -> Option<&A> {
        match &self.0 {
            Kind::First(conn) => Some(conn),
            Kind::Second(..) => None,
        }
    }

    /// The connection, if it is of the other network.
    pub fn as_second(&self) -> Option<&B> {
        match &self.0 {
            Kind::First(_) => None,
            Kind::Second(conn, _) => Some(conn),
        }
    }
}

/// The same call of whichever it is.
macro_rules! of_either {
    ($self:ident, $conn:ident => $call:expr) => {
        match &$self.0 {
            Kind::First($conn) => $call,
            Kind::Second($conn, _) => $call,
        }
    };
}

impl<A: NetConnection, B: NetConnection> NetConnection for EitherConnection<A, B> {
    fn local_addr(&self) -> SocketAddr {
        of_either!(self, conn => conn.local_addr())
    }

    fn remote_addr(&self) -> SocketAddr {
        of_either!(self, conn => conn.remote_addr())
    }

    fn local_identity(&self) -> Identity {
        of_either!(self, conn => conn.local_identity())
    }

    fn remote_identity(&self) -> Identity {
        of_either!(self, conn => conn.remote_identity())
    }

    fn alpn_negotiated(&self) -> &Alpn {
        of_either!(self, conn => conn.alpn_negotiated())
    }

    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        match &self.0 {
            Kind::First(conn) => conn.send_many(batch).await,
            Kind::Second(conn, company) => {
                company.overtaken.check()?;
                conn.send_many(batch).await
            }
        }
    }

    async fn keepalive(&self) -> anyhow::Result<()> {
        of_either!(self, conn => conn.keepalive().await)
    }

    async fn recv(&self) -> anyhow::Result<Option<Bytes>> {
        match &self.0 {
            Kind::First(conn) => conn.recv().await,
            Kind::Second(conn, company) => {
                let received = company.overtaken.unless(conn.recv()).await?;
                company.peers.note(conn.remote_addr(), Side::Second);
                Ok(received)
            }
        }
    }

    async fn recv_many(&self, messages: &mut Vec<Bytes>) -> anyhow::Result<bool> {
        match &self.0 {
            Kind::First(conn) => conn.recv_many(messages).await,
            Kind::Second(conn, company) => {
                let open = company.overtaken.unless(conn.recv_many(messages)).await?;
                company.peers.note(conn.remote_addr(), Side::Second);
                Ok(open)
            }
        }
    }

    fn silence(&self) -> Duration {
        of_either!(self, conn => conn.silence())
    }

    async fn close(&self, code: CloseCode) {
        of_either!(self, conn => conn.close(code).await);
    }

    async fn watch_close(&self) -> CloseReason {
        match &self.0 {
            Kind::First(conn) => conn.watch_close().await,
            Kind::Second(conn, company) => {
                let ended = async { Ok(conn.watch_close().await) };
                let ended = company.overtaken.unless(ended).await;
                ended.unwrap_or_else(|overtaken| CloseReason::Lost(Arc::new(overtaken)))
            }
        }
    }
}

/// A port of both networks.
#[derive(Debug)]
pub struct EitherListener<L: NetListener, M> {
    first: L,
    second: M,
    /// Whose turn it is when both have a stranger.
    seconds_turn: AtomicBool,
    peers: Arc<Peers<L::Connection>>,
}

impl<L: NetListener, M> EitherListener<L, M> {
    pub(super) fn new(first: L, second: M, peers: Arc<Peers<L::Connection>>) -> Self {
        Self {
            first,
            second,
            seconds_turn: AtomicBool::new(false),
            peers,
        }
    }
}

impl<L: NetListener, M: NetListener> NetListener for EitherListener<L, M> {
    type IncomingRequest = EitherIncomingRequest<L::IncomingRequest, M::IncomingRequest>;
    type Connection = EitherConnection<L::Connection, M::Connection>;

    fn local_addr(&self) -> SocketAddr {
        self.first.local_addr()
    }

    async fn accept(&self) -> anyhow::Result<Self::IncomingRequest> {
        let (first, second) = (pin!(self.first.accept()), pin!(self.second.accept()));
        // A flood of one kind must not keep the other out.
        let accepted = if self.seconds_turn.fetch_xor(true, Ordering::Relaxed) {
            match select(second, first).await {
                Either::Left((accepted, _)) => Either::Right(accepted?),
                Either::Right((accepted, _)) => Either::Left(accepted?),
            }
        } else {
            match select(first, second).await {
                Either::Left((accepted, _)) => Either::Left(accepted?),
                Either::Right((accepted, _)) => Either::Right(accepted?),
            }
        };
        Ok(EitherIncomingRequest {
            request: accepted,
            peers: Arc::clone(&self.peers),
        })
    }
}

/// A stranger of either network.
#[derive(Debug)]
pub struct EitherIncomingRequest<R: NetIncomingRequest, S> {
    request: Either<R, S>,
    peers: Arc<Peers<R::Connection>>,
}

impl<R: NetIncomingRequest, S: NetIncomingRequest> NetIncomingRequest
    for EitherIncomingRequest<R, S>
{
    type Connection = EitherConnection<R::Connection, S::Connection>;

    fn remote_addr(&self) -> SocketAddr {
        match &self.request {
            Either::Left(request) => request.remote_addr(),
            Either::Right(request) => request.remote_addr(),
        }
    }

    async fn accept(self) -> anyhow::Result<Self::Connection> {
        match self.request {
            Either::Left(request) => Ok(EitherConnection::first(request.accept().await?)),
            Either::Right(request) => {
                let conn = request.accept().await?;
                Ok(EitherConnection::second(conn, self.peers, Arc::default()))
            }
        }
    }
}
