//! Dialling and binding both networks.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use futures::future::{Either, select};

use super::connection::EitherConnection;
use super::counts::EitherCounts;
use super::dialler::Dialler;
use super::listener::EitherListener;
use super::routes::{Attempt, HEAD_START, Route, Routes};
use super::takeover::Takeover;
use crate::config::ConfigError;
use crate::credential::NetCredential;
use crate::net::address::is_discard_only;
use crate::net::{
    Alpn, ConnectError, NetConnection as _, NetListener as _, NetTransport, PartialStats,
    unspecified_like,
};
use crate::rt;

/// The number of further ports that are tried when any port will do and the second network cannot
/// bind the port that the first network was assigned.
const MAX_PORT_RETRIES: u32 = 16;

/// A network that combines two: each peer is reached over the network that it speaks, the first one
/// preferred.
///
/// Its longest message is the shorter limit of the two, because the network that will carry a
/// message is not known when the message is queued. Clones share what is known about peers.
#[derive(Debug)]
pub struct EitherTransport<A: NetTransport, B> {
    first: A,
    second: B,
    routes: Arc<Routes<A::Connection>>,
}

impl<A: NetTransport, B: NetTransport> EitherTransport<A, B> {
    /// Combines two networks. `first` is preferred.
    pub fn new(first: A, second: B) -> Self {
        Self {
            first,
            second,
            routes: Arc::default(),
        }
    }

    /// Returns the preferred network.
    pub fn first(&self) -> &A {
        &self.first
    }

    /// Returns the other network.
    pub fn second(&self) -> &B {
        &self.second
    }

    /// Returns the number of times that the second network was about to be used for a peer that was
    /// reached over the first.
    pub fn counts(&self) -> EitherCounts {
        self.routes.counts()
    }

    fn of_second(&self, conn: B::Connection, takeover: Arc<Takeover>) -> Connection<A, B> {
        EitherConnection::dialled(conn, Arc::clone(&self.routes), takeover)
    }
}

type Connection<A, B> =
    EitherConnection<<A as NetTransport>::Connection, <B as NetTransport>::Connection>;

impl<A: NetTransport, B: Clone> Clone for EitherTransport<A, B> {
    fn clone(&self) -> Self {
        Self {
            first: self.first.clone(),
            second: self.second.clone(),
            routes: Arc::clone(&self.routes),
        }
    }
}

impl<A: NetTransport, B: NetTransport> NetTransport for EitherTransport<A, B> {
    type Listener = EitherListener<A::Listener, B::Listener>;
    type Connection = Connection<A, B>;

    /// Binds both networks to one address.
    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Self::Listener> {
        let mut retries = 0;
        loop {
            let first = self
                .first
                .create_listener(bind_addr, alpn_supported, credential);
            let first = first.await?;
            let addr = first.local_addr();
            let second = self
                .second
                .create_listener(addr, alpn_supported, credential);
            match second.await {
                Ok(second) => {
                    let dialler = Dialler::new(&self.first, addr, alpn_supported, credential);
                    let routes = Arc::clone(&self.routes);
                    return Ok(EitherListener::new((first, second), routes, dialler));
                }
                // The port that the system assigned in the first network may be in use in the
                // second.
                Err(error)
                    if bind_addr.port() == 0 && is_in_use(&error) && retries < MAX_PORT_RETRIES =>
                {
                    retries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Self::Connection> {
        self.connect_from(unspecified_like(addr), addr, alpn_preferred, credential)
            .await
    }

    async fn connect_from(
        &self,
        local_addr: SocketAddr,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Self::Connection> {
        let dialler = Dialler::new(&self.first, local_addr, alpn_preferred, credential);
        let name = dialler.name(addr);
        // The socket may have been opened again since, for other messages.
        let late = self.routes.take_late(name);
        let late = late.filter(|conn| alpn_preferred.contains(conn.alpn_negotiated()));
        if let Some(conn) = late {
            let in_use = self.routes.reached(addr);
            return Ok(EitherConnection::first(conn, Some(in_use)));
        }
        let second = || {
            self.second
                .connect_from(local_addr, addr, alpn_preferred, credential)
        };
        let route = self.routes.route(addr);
        let is_dialled_late = self.routes.is_dialled_late(name);
        if route == Route::Second || (route == Route::Unknown && is_dialled_late) {
            return Ok(self.of_second(second().await?, Arc::default()));
        }
        let dial = dialler.dial(addr);
        if is_discard_only(addr) {
            // It stands for a name of the network that has resolved it, and means nothing to the other.
            return match dial.await {
                Ok(conn) => Ok(EitherConnection::first(
                    conn,
                    Some(self.routes.reached(addr)),
                )),
                Err(error) if is_final(&error) => {
                    Ok(self.of_second(second().await?, Arc::default()))
                }
                Err(error) => Err(error),
            };
        }
        if route == Route::First {
            let attempt = Attempt::begin(&self.routes, addr);
            return match dial.await {
                Ok(conn) => Ok(EitherConnection::first(conn, Some(attempt.succeeded()))),
                Err(error) => {
                    attempt.failed();
                    Err(error)
                }
            };
        }
        let (conn, running) = match select(dial, pin!(rt::sleep(HEAD_START))).await {
            Either::Left((Ok(conn), _)) => {
                let in_use = self.routes.reached(addr);
                return Ok(EitherConnection::first(conn, Some(in_use)));
            }
            Either::Left((Err(error), _)) if is_final(&error) => return Err(error),
            Either::Left((Err(_), _)) => (second().await?, None),
            Either::Right(((), dial)) => (second().await?, Some(dial)),
        };
        if route == Route::FirstFails {
            let takeover = dialler.fall_back(addr, running, &self.routes);
            return Ok(self.of_second(conn, takeover));
        }
        let takeover = Arc::default();
        if let Some(dial) = running {
            dialler.go_on(addr, dial, &self.routes, &takeover);
        }
        Ok(self.of_second(conn, takeover))
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        match self.first.resolve(name).await {
            Ok(addrs) => Ok(addrs),
            Err(_) => self.second.resolve(name).await,
        }
    }

    /// Checks that one of the networks accepts `name`.
    ///
    /// # Errors
    ///
    /// Fails with the error of the first network if neither does.
    fn check_name(&self, name: &str) -> anyhow::Result<()> {
        let first = self.first.check_name(name);
        first.or_else(|error| self.second.check_name(name).map_err(|_| error))
    }

    /// Returns the sums over both networks.
    fn partial_stats(&self) -> PartialStats {
        self.first.partial_stats() + self.second.partial_stats()
    }

    fn max_message_len(&self) -> usize {
        self.first
            .max_message_len()
            .min(self.second.max_message_len())
    }
}

fn is_in_use(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|io| io.kind() == io::ErrorKind::AddrInUse)
}

/// Returns whether the second network must not be dialled after this error of the first: no network
/// reaches the address, or the configuration is invalid.
fn is_final(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ConnectError::NotDialable { .. }))
        || error.is::<ConfigError>()
}
