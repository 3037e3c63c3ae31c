//! Upstream chitchat's UDP transport, plain, driven by one loop as its server drives it.
//!
//! A message is a Syn whose cluster id is as long as the message has to be: its codec takes
//! nothing else from outside. Datagrams that are lost are lost.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use chitchat::transport::{Socket as _, UdpSocket};
use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};
use tokio::sync::mpsc;

use crate::peer::{Link, Node};

const QUEUE: usize = 1000;
/// What a datagram holds beside the id.
const LONGEST: usize = 65_400;

/// See the module.
#[derive(Debug)]
pub struct ChitchatUdp {
    addr: SocketAddr,
    inbox: mpsc::Receiver<(SocketAddr, Bytes)>,
    queue: mpsc::Sender<(SocketAddr, Bytes)>,
}

/// An address.
#[derive(Debug)]
pub struct UdpLink {
    to: SocketAddr,
    queue: mpsc::Sender<(SocketAddr, Bytes)>,
}

impl Link for UdpLink {
    async fn send(&self, message: Bytes) -> anyhow::Result<()> {
        let sent = self.queue.send((self.to, message)).await;
        sent.context("the node is gone")
    }
}

impl Node for ChitchatUdp {
    const NAME: &'static str = "chitchat's UDP, plain";
    const RELIABLE: bool = false;
    const CONNECTS: bool = false;
    type Link = UdpLink;
    type From = SocketAddr;

    async fn bind() -> anyhow::Result<Self> {
        let mut socket = UdpSocket::open("127.0.0.1:0".parse()?).await?;
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
        Ok(Self { addr, inbox, queue })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<UdpLink> {
        Ok(self.link_to(to))
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, Bytes)> {
        self.inbox.recv().await.context("the node is gone")
    }

    fn link_to(&self, to: SocketAddr) -> UdpLink {
        let queue = self.queue.clone();
        UdpLink { to, queue }
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
