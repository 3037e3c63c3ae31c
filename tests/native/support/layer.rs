//! Sockets, most of them over the network in memory, and waiting for their statistics.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::memory::{MemoryConfig, MemoryNetwork, MemoryTransport};
use gossip_transport::net::{Alpn, NetTransport};
use gossip_transport::secure::{
    self, Endpoints, FrameReader, FrameWriter, HandshakeError, HandshakeParams, SecureConfig,
    SecureConnection, Suite,
};
use gossip_transport::transport_layer::{
    SocketStats, TransportLayerConfig, TransportLayerSocket, TransportLayerTransport,
};
use gossip_transport::{ClusterSecret, Message, NetCredential};

use super::{ANY_PORT, PATIENCE, member, soon};

pub(crate) type Socket = TransportLayerSocket<MemoryTransport, Bytes>;

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn config() -> TransportLayerConfig {
    TransportLayerConfig::default()
}

pub(crate) fn configured(change: impl FnOnce(&mut TransportLayerConfig)) -> TransportLayerConfig {
    let mut config = config();
    change(&mut config);
    config
}

/// Opens a socket on a free port of loopback, with the default configuration.
pub(crate) async fn open<T: NetTransport, M: Message>(
    network: T,
    credential: NetCredential,
) -> TransportLayerSocket<T, M> {
    let transport = TransportLayerTransport::new(network, credential);
    transport.open(ANY_PORT).await.unwrap()
}

/// Dials over the frames of a test, which need not behave.
pub(crate) async fn dial_over<R: FrameReader, W: FrameWriter>(
    (reader, writer): (R, W),
    endpoints: Endpoints,
    alpn: Alpn,
    credential: &NetCredential,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    let secure = SecureConfig::default();
    let params = HandshakeParams {
        endpoints,
        alpn: &[alpn],
        credential,
        config: &secure,
        memory: &secure.receive_memory(),
    };
    soon(secure::dial(reader, writer, Suite::ChaChaPoly, &params)).await
}

/// Waits until the statistics of `socket` satisfy `wanted`, and returns them.
pub(crate) async fn until<T: NetTransport, M: Message>(
    socket: &TransportLayerSocket<T, M>,
    wanted: impl Fn(&SocketStats) -> bool,
) -> SocketStats {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let stats = socket.stats();
        check_sums(&stats);
        if wanted(&stats) {
            return stats;
        }
        assert!(tokio::time::Instant::now() < deadline, "still {stats:#?}");
        tokio::time::sleep(ms(1)).await;
    }
}

/// Asserts that every message is counted, for each peer and in total.
pub(crate) fn check_sums(stats: &SocketStats) {
    for peer in stats.peers.values().chain([&stats.total]) {
        assert_eq!(
            peer.submitted,
            peer.sent + peer.queued + peer.dropped.total(),
            "{stats:#?}"
        );
        assert_eq!(
            peer.received,
            peer.delivered + peer.incoming_queued + peer.incoming_dropped.total(),
            "{stats:#?}"
        );
    }
}

/// A network of hosts `10.0.0.n` that trust each other.
pub(crate) struct World {
    pub(crate) network: MemoryNetwork,
    secret: ClusterSecret,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_config(MemoryConfig::default())
    }

    pub(crate) fn with_config(config: MemoryConfig) -> Self {
        Self {
            network: MemoryNetwork::with_config(7, config),
            secret: ClusterSecret::generate(),
        }
    }

    pub(crate) fn credential(&self) -> NetCredential {
        member(&self.secret)
    }

    pub(crate) async fn open(&self, n: u8, config: TransportLayerConfig) -> Socket {
        self.try_open(n, config).await.unwrap()
    }

    pub(crate) async fn try_open(
        &self,
        n: u8,
        config: TransportLayerConfig,
    ) -> anyhow::Result<Socket> {
        self.transport(n, config).open(addr(n)).await
    }

    pub(crate) fn transport(
        &self,
        n: u8,
        config: TransportLayerConfig,
    ) -> TransportLayerTransport<MemoryTransport, Bytes> {
        TransportLayerTransport::with_config(self.network.host(ip(n)), self.credential(), config)
    }
}

pub(crate) fn ip(n: u8) -> IpAddr {
    [10, 0, 0, n].into()
}

pub(crate) fn addr(n: u8) -> SocketAddr {
    (ip(n), 7000).into()
}

/// Returns a message that begins with `n` and is `len` bytes long, at least 8.
pub(crate) fn numbered(n: u64, len: usize) -> Bytes {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.resize(len.max(8), 0);
    bytes.into()
}

pub(crate) fn number(message: &Bytes) -> u64 {
    u64::from_be_bytes(message[..8].try_into().unwrap())
}
