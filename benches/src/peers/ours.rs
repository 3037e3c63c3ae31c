//! This crate: the whole socket, encrypted, with its queues, fairness, expiry and counters.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::message::Message;
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::OverflowPolicy;
use gossip_transport::{
    ClusterSecret, NetCredential, TransportLayerConfig, TransportLayerSocket,
    TransportLayerTransport, Trust,
};

use crate::peer::{Node, Payload, SendHalf};

/// A socket that carries plain bytes.
pub type OurSocket = TransportLayerSocket<TcpTransport, Bytes>;

pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A socket of this crate over TCP.
#[derive(Debug)]
pub struct Ours<M: Message = Bytes>(Arc<TransportLayerSocket<TcpTransport, M>>);

/// A peer of a socket.
#[derive(Debug)]
pub struct OurSendHalf<M: Message> {
    pub(super) socket: Arc<TransportLayerSocket<TcpTransport, M>>,
    pub(super) to: SocketAddr,
}

/// Returns the secret of every node of this process.
pub fn secret() -> ClusterSecret {
    static SECRET: OnceLock<ClusterSecret> = OnceLock::new();
    SECRET.get_or_init(ClusterSecret::generate).clone()
}

/// The interval of keepalives, if it is not the default.
static KEEPALIVE: OnceLock<Duration> = OnceLock::new();

/// Sets the interval of keepalives for every socket of this process that is opened from now on.
/// Only the first call has an effect. A connection frees the buffers of a burst with a keepalive.
pub fn keep_alive_every(interval: Duration) {
    let _ = KEEPALIVE.set(interval);
}

/// Returns the default configuration, except that full queues wait: a benchmark that drops messages
/// would measure the dropping.
pub fn config() -> TransportLayerConfig {
    let mut config = TransportLayerConfig::default();
    config.outgoing.overflow = OverflowPolicy::Backpressure;
    config.incoming.overflow = OverflowPolicy::Backpressure;
    match KEEPALIVE.get() {
        Some(interval) => config.with_keepalive_interval(*interval),
        None => config,
    }
}

/// Returns a transport that opens sockets with [`config`].
pub fn network<M: Message>() -> TransportLayerTransport<TcpTransport, M> {
    network_over(TcpTransport::default())
}

/// Returns a transport that opens sockets with [`config`] over `network`.
pub(super) fn network_over<T: NetTransport, M: Message>(
    network: T,
) -> TransportLayerTransport<T, M> {
    let credential = NetCredential::generate(Trust::secret(secret()));
    TransportLayerTransport::with_config(network, credential, config())
}

impl<M: Message + Payload> SendHalf<M> for OurSendHalf<M> {
    #[inline]
    async fn send(&self, message: M) -> anyhow::Result<()> {
        Ok(self.socket.send(self.to, message).await?)
    }
}

impl<M: Message + Payload> Node for Ours<M> {
    const NAME: &'static str = "**gossip-transport**, encrypted";
    type Message = M;
    type SendHalf = OurSendHalf<M>;
    type From = SocketAddr;

    async fn bind() -> anyhow::Result<Self> {
        let socket = network().open("127.0.0.1:0".parse()?).await?;
        Ok(Self(Arc::new(socket)))
    }

    fn addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<OurSendHalf<M>> {
        let outgoing = self.0.get_or_create_outgoing_connection(to)?;
        outgoing.connected(CONNECT_LIMIT).await?;
        self.send_half_to(to)
    }

    #[inline]
    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, M)> {
        Ok(self.0.recv().await?)
    }

    fn send_half_to(&self, to: SocketAddr) -> anyhow::Result<OurSendHalf<M>> {
        let socket = Arc::clone(&self.0);
        Ok(OurSendHalf { socket, to })
    }
}
