//! Dialling and binding both.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::{Either, select};

use super::connection::{EitherConnection, EitherListener, Overtaken};
use super::peers::{LATE_WAITS_FOR, Peers, Side};
use crate::credential::NetCredential;
use crate::net::{Alpn, ConnectError, NetListener as _, NetTransport, unspecified_like};
use crate::rt::{self, BoxFuture, Task};

/// How long the first network may take with a stranger before the second is dialled as well.
const HEAD_START: Duration = Duration::from_millis(250);
/// How long the first network may go on trying after that.
const TRIAL_TIME: Duration = Duration::from_secs(30);
/// Ports that are tried where any will do, and the second network does not get the first's.
const PORTS_TRIED: u32 = 16;

/// Two networks on one socket; see the module.
///
/// Its longest message is the shorter one of the two: by which of them a message goes is not known
/// when it is queued.
#[derive(Debug)]
pub struct EitherTransport<A: NetTransport, B> {
    first: A,
    second: B,
    peers: Arc<Peers<A::Connection>>,
}

impl<A: NetTransport, B: NetTransport> EitherTransport<A, B> {
    /// Prefers `first`.
    pub fn new(first: A, second: B) -> Self {
        Self {
            first,
            second,
            peers: Arc::default(),
        }
    }

    /// The network that is preferred.
    pub fn first(&self) -> &A {
        &self.first
    }

    /// The other one.
    pub fn second(&self) -> &B {
        &self.second
    }

    /// By the first network.
    fn dial_first(
        &self,
        local_addr: SocketAddr,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> BoxFuture<'static, anyhow::Result<A::Connection>> {
        let (first, credential) = (self.first.clone(), credential.clone());
        let alpn = alpn_preferred.to_vec();
        Box::pin(async move {
            first
                .connect_from(local_addr, addr, &alpn, &credential)
                .await
        })
    }

    fn of_first(&self, addr: SocketAddr, conn: A::Connection) -> Connection<A, B> {
        self.peers.note(addr, Side::First);
        EitherConnection::first(conn)
    }

    fn of_second(&self, conn: B::Connection, overtaken: Arc<Overtaken>) -> Connection<A, B> {
        EitherConnection::second(conn, Arc::clone(&self.peers), overtaken)
    }
}

type Connection<A, B> =
    EitherConnection<<A as NetTransport>::Connection, <B as NetTransport>::Connection>;

impl<A: NetTransport, B: Clone> Clone for EitherTransport<A, B> {
    fn clone(&self) -> Self {
        Self {
            first: self.first.clone(),
            second: self.second.clone(),
            peers: Arc::clone(&self.peers),
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
        let mut tries = 0;
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
                    return Ok(EitherListener::new(first, second, Arc::clone(&self.peers)));
                }
                // The port that the system gave the first may be somebody's in the second.
                Err(error) if bind_addr.port() == 0 && is_taken(&error) && tries < PORTS_TRIED => {
                    tries += 1;
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
        if let Some(conn) = self.peers.take_late(addr) {
            return Ok(self.of_first(addr, conn));
        }
        let second = || {
            self.second
                .connect_from(local_addr, addr, alpn_preferred, credential)
        };
        let speaks = self.peers.speaks(addr);
        if speaks == Some(Side::Second) || (speaks.is_none() && self.peers.tries(addr)) {
            return Ok(self.of_second(second().await?, Arc::default()));
        }
        let dial = self.dial_first(local_addr, addr, alpn_preferred, credential);
        if speaks == Some(Side::First) {
            return match dial.await {
                Ok(conn) => Ok(self.of_first(addr, conn)),
                Err(error) => {
                    // The next dial looks at both.
                    self.peers.forget(addr);
                    Err(error)
                }
            };
        }
        match select(dial, pin!(rt::sleep(HEAD_START))).await {
            Either::Left((Ok(conn), _)) => Ok(self.of_first(addr, conn)),
            Either::Left((Err(error), _)) if is_nowhere(&error) => Err(error),
            Either::Left((Err(_), _)) => Ok(self.of_second(second().await?, Arc::default())),
            Either::Right(((), dial)) => {
                let conn = second().await?;
                let overtaken = Arc::new(Overtaken::default());
                let (peers, told) = (Arc::downgrade(&self.peers), Arc::downgrade(&overtaken));
                let trial = Task::spawn(take_over(dial, addr, peers, told));
                self.peers.keep(addr, trial);
                Ok(self.of_second(conn, overtaken))
            }
        }
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        match self.first.resolve(name).await {
            Ok(addrs) => Ok(addrs),
            Err(_) => self.second.resolve(name).await,
        }
    }

    fn max_message_len(&self) -> usize {
        self.first
            .max_message_len()
            .min(self.second.max_message_len())
    }
}

/// If `dial` comes through after all, the connection of the second network makes room for it.
async fn take_over<A>(
    dial: BoxFuture<'static, anyhow::Result<A>>,
    addr: SocketAddr,
    peers: Weak<Peers<A>>,
    overtaken: Weak<Overtaken>,
) {
    let Ok(Ok(conn)) = rt::timeout(TRIAL_TIME, dial).await else {
        return;
    };
    {
        let Some(peers) = peers.upgrade() else { return };
        peers.put_late(addr, conn);
        peers.note(addr, Side::First);
    }
    if let Some(overtaken) = overtaken.upgrade() {
        overtaken.tell();
    }
    rt::sleep(LATE_WAITS_FOR).await;
    // Nobody wanted it.
    let unwanted = peers.upgrade().and_then(|peers| peers.take_late(addr));
    drop(unwanted);
}

fn is_taken(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|io| io.kind() == io::ErrorKind::AddrInUse)
}

/// No network gets there.
fn is_nowhere(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ConnectError::NotDialable { .. }))
}
