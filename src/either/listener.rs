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
use super::dialler::Dialler;
use super::error::NotPreferred;
use super::routes::{Route, Routes};
use crate::net::{
    AcceptFailure, NetConnection as _, NetIncomingRequest, NetListener, canonical, is_dialable,
};

/// A bound address of both networks.
#[derive(Debug)]
pub struct EitherListener<L: NetListener, M> {
    first: L,
    second: M,
    /// Whether the second network is polled first. It alternates, so that neither network starves
    /// the other.
    second_goes_first: AtomicBool,
    routes: Arc<Routes<L::Connection>>,
    dialler: Dialler<L::Connection>,
}

impl<L: NetListener, M> EitherListener<L, M> {
    pub(super) fn new(
        (first, second): (L, M),
        routes: Arc<Routes<L::Connection>>,
        dialler: Dialler<L::Connection>,
    ) -> Self {
        Self {
            first,
            second,
            second_goes_first: AtomicBool::new(false),
            routes,
            dialler,
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
            dialler: self.dialler.clone(),
        })
    }
}

/// An incoming connection of either network that has not been accepted.
#[derive(Debug)]
pub struct EitherIncomingRequest<R: NetIncomingRequest, S> {
    request: Either<R, S>,
    routes: Arc<Routes<R::Connection>>,
    dialler: Dialler<R::Connection>,
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

    fn failure(error: &anyhow::Error) -> Option<AcceptFailure> {
        match R::failure(error) {
            Some(AcceptFailure::Other) => S::failure(error),
            failure => failure,
        }
    }

    fn needs_handshake(&self) -> bool {
        match &self.request {
            Either::Left(request) => request.needs_handshake(),
            Either::Right(request) => request.needs_handshake(),
        }
    }

    /// Runs the handshake of the network.
    ///
    /// # Errors
    ///
    /// Fails with [`NotPreferred`] if the request is one of the second network from an address that was
    /// reached over the first, and the first has not failed for longer than its head start.
    async fn accept(self) -> anyhow::Result<Self::Connection> {
        match self.request {
            Either::Left(request) => {
                let conn = request.accept().await?;
                // A member that states an address of its own host is there, or deceives nobody else. The holder of an
                // invite, who may share a host with a member over UDP, has no say in who is reached where.
                let stated = conn.stated_addr().filter(|_| conn.claims().is_none());
                let stated = stated.map(canonical).filter(|stated| {
                    is_dialable(*stated) && stated.ip() == canonical(conn.remote_addr()).ip()
                });
                let in_use = stated.map(|stated| self.routes.reached(stated));
                Ok(EitherConnection::first(conn, in_use))
            }
            Either::Right(request) => {
                let addr = request.remote_addr();
                let route = self.routes.route(addr);
                if route == Route::First {
                    self.routes.counters.count_refused();
                    self.dialler.check(addr, &self.routes);
                    return Err(NotPreferred { addr }.into());
                }
                let conn = request.accept().await?;
                let takeover = match route {
                    Route::FirstFails => self.dialler.fall_back(addr, None, &self.routes),
                    _ => Arc::default(),
                };
                Ok(EitherConnection::accepted(conn, takeover))
            }
        }
    }
}
