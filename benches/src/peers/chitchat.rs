//! Transports of upstream chitchat's, driven by one loop as its server drives them: its own, which
//! is plain UDP, and ours under the same trait, which is TCP, encrypted.
//!
//! A message is a Syn whose cluster id is as long as the message has to be: its codec takes
//! nothing else from outside. What is lost is lost: datagrams, and what a full queue of ours drops,
//! since upstream's loop must not wait.

use std::future::Future;
use std::marker::PhantomData;
use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport as _, UdpTransport};
use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};
use gossip_transport::chitchat::ChitchatTransport;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{NetCredential, Trust};
use tokio::sync::mpsc;

use crate::peer::{Link, Node};
use crate::peers::secret;

const QUEUE: usize = 1000;
/// What a datagram holds beside the id.
const LONGEST: usize = 65_400;

/// Which transport.
pub trait Kind: Send + Sync + 'static {
    /// The name in tables.
    const NAME: &'static str;

    /// A socket on a free port of the loopback.
    fn open() -> impl Future<Output = anyhow::Result<Box<dyn Socket>>> + Send;
}

/// Upstream's own.
#[derive(Debug)]
pub struct PlainUdp;

impl Kind for PlainUdp {
    const NAME: &'static str = "chitchat's UDP, plain";

    async fn open() -> anyhow::Result<Box<dyn Socket>> {
        UdpTransport.open("127.0.0.1:0".parse()?).await
    }
}

/// Ours.
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

/// A node of upstream's, but for its engine.
#[derive(Debug)]
pub struct Chitchat<K> {
    addr: SocketAddr,
    inbox: mpsc::Receiver<(SocketAddr, Bytes)>,
    queue: mpsc::Sender<(SocketAddr, Bytes)>,
    kind: PhantomData<K>,
}

/// An address.
#[derive(Debug)]
pub struct ChitchatLink {
    to: SocketAddr,
    queue: mpsc::Sender<(SocketAddr, Bytes)>,
}

impl Link for ChitchatLink {
    async fn send(&self, message: Bytes) -> anyhow::Result<()> {
        let sent = self.queue.send((self.to, message)).await;
        sent.context("the node is gone")
    }
}

impl<K: Kind> Node for Chitchat<K> {
    const NAME: &'static str = K::NAME;
    const RELIABLE: bool = false;
    const CONNECTS: bool = false;
    type Link = ChitchatLink;
    type From = SocketAddr;

    async fn bind() -> anyhow::Result<Self> {
        let mut socket = K::open().await?;
        let addr = socket.local_addr()?;
        let (enter, inbox) = mpsc::channel(QUEUE);
        let (queue, mut queued) = mpsc::channel::<(SocketAddr, Bytes)>(QUEUE);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    received = socket.recv() => {
                        let received = received?;
                        if let ChitchatMessage::Syn { cluster_id, .. } = received.envelope.message {
                            // A full inbox loses it, as a full socket buffer does.
                            let _ = enter.try_send((received.from_addr, cluster_id.into()));
                        }
                    }
                    Some((to, message)) = queued.recv() => {
                        socket.send(to, envelope(&message)).await?;
                    }
                    () = enter.closed() => return anyhow::Ok(()),
                }
            }
        });
        Ok(Self {
            addr,
            inbox,
            queue,
            kind: PhantomData,
        })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<ChitchatLink> {
        Ok(self.link_to(to))
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, Bytes)> {
        self.inbox.recv().await.context("the node is gone")
    }

    fn link_to(&self, to: SocketAddr) -> ChitchatLink {
        let queue = self.queue.clone();
        ChitchatLink { to, queue }
    }
}

fn envelope(message: &[u8]) -> ChitchatEnvelope {
    let id = message.get(..LONGEST).unwrap_or(message);
    ChitchatEnvelope {
        version: ProtocolVersion::V0,
        message: ChitchatMessage::Syn {
            cluster_id: String::from_utf8_lossy(id).into_owned(),
            digest: Default::default(),
        },
    }
}
