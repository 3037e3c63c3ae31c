//! Ours: the whole socket, encrypted, with its queues, fairness, expiry and counters.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::OverflowPolicy;
use gossip_transport::{
    ClusterSecret, NetCredential, TransportLayerConfig, TransportLayerSocket,
    TransportLayerTransport, Trust,
};

use crate::peer::{Link, Node};

/// A socket that carries plain bytes.
pub type OurSocket = TransportLayerSocket<TcpTransport, Bytes>;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Ours(Arc<OurSocket>);

/// A peer of a socket.
#[derive(Debug)]
pub struct OurLink {
    socket: Arc<OurSocket>,
    to: SocketAddr,
}

/// The secret of every node of this process.
pub fn secret() -> ClusterSecret {
    static SECRET: OnceLock<ClusterSecret> = OnceLock::new();
    SECRET.get_or_init(ClusterSecret::generate).clone()
}

/// The interval of keepalives, if it is not the default.
static KEEPALIVE: OnceLock<Duration> = OnceLock::new();

/// Sets the interval of keepalives for every socket of this process that is opened from now on;
/// only the first call counts. What a burst has taken is given back with a keepalive.
pub fn keep_alive_every(interval: Duration) {
    let _ = KEEPALIVE.set(interval);
}

/// The defaults but for this: a full queue waits, since a benchmark that drops measures the
/// dropping.
pub fn config() -> TransportLayerConfig {
    let mut config = TransportLayerConfig::default();
    config.outgoing.overflow = OverflowPolicy::Backpressure;
    config.incoming.overflow = OverflowPolicy::Backpressure;
    if let Some(interval) = KEEPALIVE.get() {
        config.keepalive_interval = *interval;
    }
    config
}

/// What opens sockets, with [`config`] and a change of it.
pub fn network(
    change: impl FnOnce(&mut TransportLayerConfig),
) -> TransportLayerTransport<TcpTransport, Bytes> {
    let mut config = config();
    change(&mut config);
    let credential = NetCredential::generate(Trust::secret(secret()));
    TransportLayerTransport::with_config(TcpTransport::default(), credential, config)
}

impl Link for OurLink {
    async fn send(&self, message: Bytes) -> anyhow::Result<()> {
        Ok(self.socket.send(self.to, message).await?)
    }
}

impl Node for Ours {
    const NAME: &'static str = "**gossip-transport**, encrypted";
    type Link = OurLink;
    type From = SocketAddr;

    async fn bind() -> anyhow::Result<Self> {
        let socket = network(|_| {}).open("127.0.0.1:0".parse()?).await?;
        Ok(Self(Arc::new(socket)))
    }

    fn addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<OurLink> {
        let outgoing = self.0.get_or_create_outgoing_connection(to)?;
        outgoing.connected(CONNECT_LIMIT).await?;
        Ok(self.link_to(to))
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, Bytes)> {
        Ok(self.0.recv().await?)
    }

    fn link_to(&self, to: SocketAddr) -> OurLink {
        OurLink {
            socket: Arc::clone(&self.0),
            to,
        }
    }
}
