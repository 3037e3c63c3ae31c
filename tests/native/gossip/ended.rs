//! The end of a participant's tasks that it did not ask for: every method reports it, and none waits.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::gossip::{
    ConnectedError, DeleteError, GossipConfig, LeaveError, Liveness, Participant, SetError,
};
use gossip_transport::memory::{MemoryConnection, MemoryListener, MemoryNetwork, MemoryTransport};
use gossip_transport::net::{
    Alpn, CloseCode, CloseReason, NetConnection, NetIncomingRequest, NetListener, NetTransport,
};
use gossip_transport::rt::Instant;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{ClusterSecret, Identity, NetCredential, TransportLayerTransport};

use crate::support::{ANY_PORT, member, soon, until};

async fn join<T: NetTransport>(
    network: T,
    secret: &ClusterSecret,
    listen: SocketAddr,
    seed: Option<SocketAddr>,
) -> Participant<T> {
    let transport = TransportLayerTransport::new(network, member(secret));
    let mut config = GossipConfig::new("cluster", listen.to_string());
    config.seeds = seed.iter().map(SocketAddr::to_string).collect();
    let config = config.with_interval(Duration::from_millis(100));
    let socket = transport.open(listen).await.unwrap();
    Participant::join(socket, config).await.unwrap()
}

/// Asserts that every method reports the end of the participant's task.
async fn every_method_reports_the_end<T: NetTransport>(
    participant: Participant<T>,
    mut watch: gossip_transport::gossip::MembershipWatch,
) {
    // It reports earlier changes before the end.
    soon(async { while watch.changed().await {} }).await;
    assert!(!soon(participant.watch().changed()).await);
    assert_eq!(
        soon(participant.connected()).await,
        Err(ConnectedError::Left)
    );
    assert_eq!(participant.set("key", "v"), Err(SetError::Left));
    assert_eq!(participant.set_with_ttl("key", "v"), Err(SetError::Left));
    assert_eq!(participant.delete("key"), Err(DeleteError::Left));
    // What was known last is still there.
    assert_eq!(participant.get("key").as_deref(), Some("value"));
    assert!(!participant.members().is_empty());
    let left = participant.leave(Duration::from_millis(10));
    assert_eq!(soon(left).await, Err(LeaveError::Stopped));
}

#[test]
fn the_end_of_the_runtime_is_reported_by_every_method() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let secret = ClusterSecret::generate();
    let joined = join(TcpTransport::default(), &secret, ANY_PORT, None);
    let participant = first.block_on(joined);
    let watch = participant.watch();
    participant.set("key", "value").unwrap();
    // All tasks end.
    drop(first);
    runtime().block_on(async {
        every_method_reports_the_end(participant, watch).await;
    });
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_task_alone_is_reported_by_every_method() {
    let memory = MemoryNetwork::new(1);
    let secret = ClusterSecret::generate();
    let addrs: [SocketAddr; 2] = [1, 2].map(|n| ([10, 0, 0, n], 7000).into());
    let other = join(memory.host(addrs[1].ip()), &secret, addrs[1], None).await;
    let network = Panicking::new(memory.host(addrs[0].ip()), Place::Write);
    let panics = Arc::clone(&network.panics);
    let participant = join(network, &secret, addrs[0], Some(addrs[1])).await;
    let watch = participant.watch();
    participant.set("key", "value").unwrap();
    soon(participant.connected()).await.unwrap();
    let sees = async |liveness| {
        let members = other.members().into_iter();
        let mut others = members.filter(|known| known.id != other.id());
        others.next().map(|member| member.liveness) == Some(liveness)
    };
    until("the other to see it", async || sees(Liveness::Live).await).await;

    // The task writes its next message itself.
    panics.store(true, Ordering::Relaxed);
    every_method_reports_the_end(participant, watch).await;
    until("the other to find it dead", async || {
        sees(Liveness::Dead).await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_seeds_are_resolved_is_reported_by_every_method() {
    let memory = MemoryNetwork::new(1);
    let secret = ClusterSecret::generate();
    let addrs: [SocketAddr; 2] = [1, 2].map(|n| ([10, 0, 0, n], 7000).into());
    let network = Panicking::new(memory.host(addrs[0].ip()), Place::Resolve);
    let participant = join(network.clone(), &secret, addrs[0], Some(addrs[1])).await;
    let watch = participant.watch();
    participant.set("key", "value").unwrap();
    network.panics.store(true, Ordering::Relaxed);
    // Nobody looks for a seed any more.
    every_method_reports_the_end(participant, watch).await;
}

/// The function of a network that panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Write,
    Resolve,
}

/// A network in memory that accepts nothing, and panics in one place once it is told to.
#[derive(Debug, Clone)]
struct Panicking {
    memory: MemoryTransport,
    place: Place,
    panics: Arc<AtomicBool>,
}

impl Panicking {
    fn new(memory: MemoryTransport, place: Place) -> Self {
        Self {
            memory,
            place,
            panics: Arc::default(),
        }
    }

    fn reach(&self, place: Place) {
        let panics = self.place == place && self.panics.load(Ordering::Relaxed);
        assert!(!panics, "on purpose: {place:?}");
    }
}

impl NetTransport for Panicking {
    type Listener = Closed;
    type Connection = Connection;

    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Closed> {
        let memory = &self.memory;
        let listener = memory.create_listener(bind_addr, alpn_supported, credential);
        Ok(Closed(listener.await?))
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Connection> {
        let conn = self
            .memory
            .connect(addr, alpn_preferred, credential)
            .await?;
        let network = self.clone();
        Ok(Connection { conn, network })
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        self.reach(Place::Resolve);
        if self.place == Place::Resolve {
            anyhow::bail!("there is no such name yet");
        }
        self.memory.resolve(name).await
    }
}

struct Closed(MemoryListener);

enum Never {}

impl NetListener for Closed {
    type IncomingRequest = Never;
    type Connection = Connection;

    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    async fn accept(&self) -> anyhow::Result<Never> {
        std::future::pending().await
    }
}

impl NetIncomingRequest for Never {
    type Connection = Connection;

    fn remote_addr(&self) -> SocketAddr {
        match *self {}
    }

    async fn accept(self) -> anyhow::Result<Connection> {
        match self {}
    }
}

#[derive(Clone)]
struct Connection {
    conn: MemoryConnection,
    network: Panicking,
}

impl NetConnection for Connection {
    fn local_addr(&self) -> SocketAddr {
        self.conn.local_addr()
    }

    fn remote_addr(&self) -> SocketAddr {
        self.conn.remote_addr()
    }

    fn local_identity(&self) -> Identity {
        self.conn.local_identity()
    }

    fn remote_identity(&self) -> Identity {
        self.conn.remote_identity()
    }

    fn stated_addr(&self) -> Option<SocketAddr> {
        self.conn.stated_addr()
    }

    fn alpn_negotiated(&self) -> &Alpn {
        self.conn.alpn_negotiated()
    }

    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        self.network.reach(Place::Write);
        self.conn.send_many(batch).await
    }

    async fn keepalive(&self) -> anyhow::Result<()> {
        self.conn.keepalive().await
    }

    async fn recv(&self) -> anyhow::Result<Option<Bytes>> {
        self.conn.recv().await
    }

    fn last_heard(&self) -> Instant {
        self.conn.last_heard()
    }

    async fn close(&self, code: CloseCode) {
        self.conn.close(code).await;
    }

    async fn watch_close(&self) -> CloseReason {
        self.conn.watch_close().await
    }
}
