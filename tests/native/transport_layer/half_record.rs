//! Peers that begin a record and never end it, over TCP and inside a WebSocket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use gossip_transport::rt::Task;
use gossip_transport::secure::{
    Endpoints, FrameBuffer, FrameEvent, FrameReader, FrameWriter, SecureConnection,
};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{TransportLayerSocket, TransportLayerTransport};
use gossip_transport::{ClusterSecret, Message as _, NetCredential};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::support::layer::{config, dial_over, ms, until};
use crate::support::{ANY_PORT, member};

type Socket = TransportLayerSocket<TcpTransport, Bytes>;

/// Much longer than a piece takes to arrive, and much shorter than a whole record.
const SILENCE: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Raw,
    WebSocket,
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
/// A key that changes nothing.
const MASK: [u8; 4] = [0; 4];

struct Reader(Carrier, OwnedReadHalf);

struct Writer(Carrier, Arc<Mutex<OwnedWriteHalf>>);

impl FrameReader for Reader {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        let Self(carrier, stream) = self;
        let mut is_frame = true;
        let len = if *carrier == Carrier::Raw {
            stream.read_u16().await?
        } else {
            is_frame = stream.read_u8().await? == 0x82;
            match stream.read_u8().await? {
                126 => stream.read_u16().await?,
                len => len.into(),
            }
        };
        let mut frame = vec![0; len.into()];
        stream.read_exact(&mut frame).await?;
        Ok(Some(if is_frame {
            FrameEvent::Frame(frame.as_slice().into())
        } else {
            FrameEvent::Activity
        }))
    }
}

impl FrameWriter for Writer {
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        let Self(carrier, stream) = self;
        let mut stream = stream.lock().await;
        if *carrier == Carrier::Raw {
            let bytes = frames.bytes_mut();
            stream.write_all(bytes).await?;
            bytes.advance(bytes.len());
            return Ok(());
        }
        while let Some(frame) = frames.pop() {
            let len = u16::try_from(frame.len()).unwrap();
            let mut header = vec![0x82];
            match u8::try_from(len) {
                Ok(len) if len < 126 => header.push(0x80 | len),
                _ => {
                    header.push(0x80 | 126);
                    header.extend(len.to_be_bytes());
                }
            }
            header.extend(MASK);
            stream.write_all(&header).await?;
            stream.write_all(&frame).await?;
        }
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a connection with `node`, and its stream.
async fn dial(
    node: &Socket,
    credential: &NetCredential,
    carrier: Carrier,
) -> (SecureConnection<Reader, Writer>, Arc<Mutex<OwnedWriteHalf>>) {
    let mut stream = TcpStream::connect(node.local_addr()).await.unwrap();
    let endpoints = Endpoints {
        local: stream.local_addr().unwrap(),
        remote: node.local_addr(),
    };
    if carrier == Carrier::WebSocket {
        stream.write_all(REQUEST.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
    }
    let (reading, writing) = stream.into_split();
    let writing = Arc::new(Mutex::new(writing));
    let writer = Writer(carrier, Arc::clone(&writing));
    let frames = (Reader(carrier, reading), writer);
    let dialled = dial_over(frames, endpoints, Bytes::ALPN, credential);
    (dialled.await.unwrap(), writing)
}

#[tokio::test]
async fn a_record_that_arrives_byte_by_byte_is_no_sign_of_life() {
    // A record of 60,000 bytes, or the first fragment of one, and what follows again and again: a byte,
    // and over a WebSocket a pong as well, which shows that the peer is there.
    let raw: (&[u8], &[u8]) = (&60_000_u16.to_be_bytes(), b"a");
    let websocket: (&[u8], &[u8]) = (b"\x02\x81\0\0\0\0a", b"\x00\x81\0\0\0\0a\x8a\x80\0\0\0\0");
    for (carrier, (start, more)) in [(Carrier::Raw, raw), (Carrier::WebSocket, websocket)] {
        let secret = ClusterSecret::generate();
        let config = config()
            .with_silence_timeout(SILENCE)
            .with_keepalive_interval(ms(100));
        let network = TcpTransport::default();
        let network = TransportLayerTransport::with_config(network, member(&secret), config);
        let node: Socket = network.open(ANY_PORT).await.unwrap();
        let (_connection, stream) = dial(&node, &member(&secret), carrier).await;
        until(&node, |stats| stats.connections.len() == 1).await;
        let begin = Instant::now();
        let (start, more) = (start.to_vec(), more.to_vec());
        let _writing = Task::spawn(async move {
            let mut stream = stream.lock().await;
            let mut next = start;
            while stream.write_all(&next).await.is_ok() {
                next.clone_from(&more);
                sleep(EVERY).await;
            }
        });
        until(&node, |stats| stats.connections.is_empty()).await;
        assert!(begin.elapsed() < SILENCE * 20, "{carrier:?}");
    }
}
