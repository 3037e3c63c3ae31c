//! Peers that send a part of a message and no more, over TCP.

use std::future::pending;
use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use gossip_transport::net::NetConnection as _;
use gossip_transport::rt::Task;
use gossip_transport::secure::{
    Endpoints, FrameBuffer, FrameEvent, FrameReader, FrameWriter, SecureConfig, SecureConnection,
};
use gossip_transport::tcp::{TcpConfig, TcpTransport};
use gossip_transport::transport_layer::{TransportLayerSocket, TransportLayerTransport};
use gossip_transport::{ClusterSecret, Message as _, NetCredential};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::support::layer::{config, dial_over, ms, numbered, until};
use crate::support::{ANY_PORT, member, soon};

const MIB: usize = 1 << 20;

type Socket = TransportLayerSocket<TcpTransport, Bytes>;

async fn open(credential: NetCredential, secure: SecureConfig) -> Socket {
    let network = TcpTransport::new(TcpConfig::default().with_secure(secure));
    let network = TransportLayerTransport::with_config(network, credential, config());
    network.open(ANY_PORT).await.unwrap()
}

struct Reader(OwnedReadHalf);

/// Writes `left` bytes more, and then nothing.
struct Writer {
    stream: OwnedWriteHalf,
    left: usize,
}

impl FrameReader for Reader {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        let len = self.0.read_u16().await?;
        let mut frame = vec![0; len.into()];
        self.0.read_exact(&mut frame).await?;
        Ok(Some(FrameEvent::Frame(frame.as_slice().into())))
    }
}

impl FrameWriter for Writer {
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        let bytes = frames.bytes_mut();
        while !bytes.is_empty() {
            if self.left == 0 {
                pending::<()>().await;
            }
            let len = bytes.len().min(self.left);
            let written = self.stream.write(&bytes[..len]).await?;
            bytes.advance(written);
            self.left -= written;
        }
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A peer that sends `part` bytes of a message of `len` bytes, and no more.
struct Stingy {
    connection: SecureConnection<Reader, Writer>,
    _sending: Task,
}

impl Stingy {
    async fn dial(node: &Socket, credential: &NetCredential, part: usize, len: usize) -> Self {
        let stream = TcpStream::connect(node.local_addr()).await.unwrap();
        let endpoints = Endpoints {
            local: stream.local_addr().unwrap(),
            remote: node.local_addr(),
        };
        let (reading, stream) = stream.into_split();
        let writer = Writer { stream, left: part };
        let frames = (Reader(reading), writer);
        let dialled = dial_over(frames, endpoints, Bytes::ALPN, credential);
        let connection = dialled.await.unwrap();
        let sender = connection.clone();
        let sending = Task::spawn(async move {
            let _ = sender.send(vec![7; len].into()).await;
        });
        Self {
            connection,
            _sending: sending,
        }
    }
}

#[tokio::test]
async fn the_rest_of_a_message_must_arrive_in_time() {
    let secret = ClusterSecret::generate();
    let secure = SecureConfig::default().with_partial_timeout(ms(500));
    let node = open(member(&secret), secure).await;
    let stingy = Stingy::dial(&node, &member(&secret), 3 * MIB, 16 * MIB).await;
    let stats = until(&node, |stats| stats.partial.bytes > 0).await;
    assert_eq!(stats.partial.max_bytes, 64 * MIB as u64);
    // It is released although the connection is alive and has been silent for much less than 90 s.
    let stats = until(&node, |stats| stats.partial.timed_out == 1).await;
    assert_eq!(stats.partial.bytes, 0);
    until(&node, |stats| stats.connections.is_empty()).await;
    assert!(stingy.connection.silence() < Duration::from_secs(60));
}

#[tokio::test]
async fn unfinished_messages_have_a_common_limit_and_cost_those_who_have_the_most() {
    let secret = ClusterSecret::generate();
    let secure = SecureConfig::default()
        .with_max_message_len(MIB)
        .with_max_partial_bytes(4 * MIB);
    let node = open(member(&secret), secure).await;
    let honest = open(member(&secret), SecureConfig::default()).await;
    let mut peers = Vec::new();
    for _ in 0..20 {
        let credential = member(&secret);
        peers.push(Stingy::dial(&node, &credential, MIB - 20_000, MIB).await);
        let bytes = node.stats().partial.bytes;
        assert!(bytes <= 4 * MIB as u64, "{bytes} bytes");
    }
    // Four of them fit.
    let stats = until(&node, |stats| stats.partial.evicted >= 16).await;
    assert!(stats.partial.bytes <= 4 * MIB as u64, "{stats:?}");
    // An honest peer has less than these, so its message is received.
    for n in 0..5 {
        honest
            .send(node.local_addr(), numbered(n, MIB / 2))
            .await
            .unwrap();
        let (_, message) = soon(node.recv()).await.unwrap();
        assert_eq!(message.len(), MIB / 2);
    }
}
