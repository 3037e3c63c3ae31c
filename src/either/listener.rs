//! A listener of both networks, and its incoming connections.
//!
//! Invariant: a flood of incoming connections on one network does not keep those of the other from
//! being accepted.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{Either, select};

use super::connection::EitherConnection;
use super::routes::Routes;
use crate::net::{NetIncomingRequest, NetListener};

/// A bound address of both networks.
#[derive(Debug)]
pub struct EitherListener<L: NetListener, M> {
    first: L,
    second: M,
    /// Whether the second network is polled first. It alternates, so that neither network starves
    /// the other.
    second_goes_first: AtomicBool,
    routes: Arc<Routes<L::Connection>>,
}

impl<L: NetListener, M> EitherListener<L, M> {
    pub(super) fn new(first: L, second: M, routes: Arc<Routes<L::Connection>>) -> Self {
        Self {
            first,
            second,
            second_goes_first: AtomicBool::new(false),
            routes,
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
        let accepted = if self.second_goes_first.fetch_xor(true, Ordering::Relaxed) {
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
            routes: Arc::clone(&self.routes),
        })
    }
}

/// An incoming connection of either network that has not been accepted.
#[derive(Debug)]
pub struct EitherIncomingRequest<R: NetIncomingRequest, S> {
    request: Either<R, S>,
    routes: Arc<Routes<R::Connection>>,
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
                Ok(EitherConnection::second(conn, self.routes, Arc::default()))
            }
        }
    }
}
