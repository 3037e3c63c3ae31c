//! Transports of the published chitchat crate: its own, which is plain UDP, and the one of this
//! crate under the same trait, which is TCP, encrypted.
//!
//! Both are driven through `chitchat::transport::Socket` without a queue or a task in between,
//! which is faster than upstream's server drives them. A message is a Syn whose cluster id is as
//! long as the message must be, since no other field of a message can be set from outside. Messages
//! can be lost on the way: datagrams are, and a full queue of this crate drops messages, since
//! upstream's server must not wait. Only messages that arrive are counted.

use std::future::Future;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;

use chitchat::transport::{Socket, Transport as _, UdpTransport};
use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};
use gossip_transport::chitchat::ChitchatTransport;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{NetCredential, Trust};
use tokio::sync::Mutex;

use crate::peer::{Node, SendHalf};
use crate::peers::secret;

/// A transport for nodes of the chitchat crate.
pub trait Kind: Send + Sync + 'static {
    /// The name of the peer in tables.
    const NAME: &'static str;

    /// Opens a socket on a free port of the loopback interface.
    fn open() -> impl Future<Output = anyhow::Result<Box<dyn Socket>>> + Send;
}

/// Upstream's own transport.
#[derive(Debug)]
pub struct PlainUdp;

impl Kind for PlainUdp {
    const NAME: &'static str = "chitchat's UDP, plain";

    async fn open() -> anyhow::Result<Box<dyn Socket>> {
        UdpTransport.open("127.0.0.1:0".parse()?).await
    }
}

/// This crate's transport.
#[derive(Debug)]
pub struct OurTcp;

impl Kind for OurTcp {
    const NAME: &'static str = "chitchat over our TCP, encrypted";

    async fn open() -> anyhow::Result<Box<dyn Socket>> {
        let credential = NetCredential::generate(Trust::secret(secret()));
        let transport = ChitchatTransport::new(TcpTransport::default(), credential);
        transport.open("127.0.0.1:0".parse()?).await
    }
}

/// A socket of an upstream node.
///
/// Upstream's trait needs `&mut` to send as well as to receive. The lock stands in for the one task
/// that owns the socket in upstream's server; no scenario sends from one task while another
/// receives, so it is never waited for.
pub struct Chitchat<K> {
    addr: SocketAddr,
    socket: Arc<Mutex<Box<dyn Socket>>>,
    kind: PhantomData<K>,
}

/// The address of a peer, and the socket to send from.
pub struct ChitchatSendHalf {
    to: SocketAddr,
    socket: Arc<Mutex<Box<dyn Socket>>>,
}

impl SendHalf<String> for ChitchatSendHalf {
    async fn send(&self, message: String) -> anyhow::Result<()> {
        let mut socket = self.socket.lock().await;
        socket.send(self.to, envelope(message)).await?;
        Ok(())
    }
}

impl<K: Kind> Node for Chitchat<K> {
    const NAME: &'static str = K::NAME;
    const CONNECTS: bool = false;
    /// The room for the cluster id in a datagram, beside the rest of a Syn.
    const LONGEST: usize = 65_400;
    type Message = String;
    type SendHalf = ChitchatSendHalf;
    type From = SocketAddr;

    async fn bind() -> anyhow::Result<Self> {
        let socket = K::open().await?;
        Ok(Self {
            addr: socket.local_addr()?,
            socket: Arc::new(Mutex::new(socket)),
            kind: PhantomData,
        })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<ChitchatSendHalf> {
        self.send_half_to(to)
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, String)> {
        let received = self.socket.lock().await.recv().await?;
        match received.envelope.message {
            ChitchatMessage::Syn { cluster_id, .. } => Ok((received.from_addr, cluster_id)),
            _ => anyhow::bail!("only Syns are sent"),
        }
    }

    fn send_half_to(&self, to: SocketAddr) -> anyhow::Result<ChitchatSendHalf> {
        let socket = Arc::clone(&self.socket);
        Ok(ChitchatSendHalf { to, socket })
    }
}

fn envelope(cluster_id: String) -> ChitchatEnvelope {
    ChitchatEnvelope {
        version: ProtocolVersion::V0,
        message: ChitchatMessage::Syn {
            cluster_id,
            digest: Default::default(),
        },
    }
}
