//! Measures the memory that a WebSocket peer can make a node hold by pinging without reading.
//!
//! The test has a process of its own, since the allocator counts the allocations of all threads.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::future::poll_fn;
use std::io;

use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use gossip_transport::net::{
    Alpn, NetConnection as _, NetIncomingRequest as _, NetListener as _, NetTransport as _,
};
use gossip_transport::rt::Task;
use gossip_transport::secure::{
    self, Endpoints, FrameBuffer, FrameEvent, FrameReader, FrameWriter, HandshakeParams,
    SecureConfig, Suite,
};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{ClusterSecret, NetCredential, Trust};
use peak_alloc::PeakAlloc;
use tokio::net::{TcpSocket, TcpStream};
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const ALPN: Alpn = Alpn::from_static(b"memory-test/1");
/// Fewer than the node accepts in a row.
const PINGS: usize = 100;
const PAYLOAD: [u8; 125] = [7; 125];
/// The answers to this many keepalives with their pings are many times what the system's buffers hold.
const KEEPALIVES: usize = 5000;
/// Buffers of reads that are going on, of up to 256 KiB each. Without a bound, the pongs took 88 MB.
const LIMIT: usize = 2 << 20;

struct Reader(SplitStream<WebSocketStream<TcpStream>>);

/// Sends pings before each frame once it is told to.
struct Writer {
    sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    frames: usize,
}

/// The frames of the handshake.
const QUIET_FRAMES: usize = 3;

impl FrameReader for Reader {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        match self.0.next().await {
            None => Ok(None),
            Some(Err(error)) => Err(io::Error::other(error)),
            Some(Ok(message)) if message.is_binary() => {
                let frame = BytesMut::from(message.into_payload());
                Ok(Some(FrameEvent::Frame(frame)))
            }
            Some(Ok(_)) => Ok(Some(FrameEvent::Activity)),
        }
    }
}

impl FrameWriter for Writer {
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        while let Some(frame) = frames.pop() {
            self.frames += 1;
            let pings = if self.frames > QUIET_FRAMES { PINGS } else { 0 };
            let pings = (0..pings).map(|_| Message::ping(Bytes::from_static(&PAYLOAD)));
            for message in pings.chain([Message::binary(frame)]) {
                let ready = poll_fn(|cx| self.sink.poll_ready_unpin(cx)).await;
                ready.map_err(io::Error::other)?;
                self.sink
                    .start_send_unpin(message)
                    .map_err(io::Error::other)?;
            }
        }
        self.sink.flush().await.map_err(io::Error::other)
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_pings_and_does_not_read_takes_no_memory() {
    let secret = ClusterSecret::generate();
    let credential = || NetCredential::generate(Trust::secret(secret.clone()));
    let listener = TcpTransport::default()
        .create_listener("127.0.0.1:0".parse().unwrap(), &[ALPN], &credential())
        .await
        .unwrap();
    let addr = listener.local_addr();
    let accepting = Task::spawn(async move {
        let node = listener.accept().await.unwrap().accept().await.unwrap();
        // Ends with an error once the peer has gone.
        while let Ok(Some(_)) = node.recv().await {}
    });

    let socket = TcpSocket::new_v4().unwrap();
    // The system holds little for a peer that does not read.
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(addr).await.unwrap();
    let builder = ClientBuilder::new().uri(&format!("ws://{addr}/")).unwrap();
    let (stream, _) = builder.connect_on(stream).await.unwrap();
    let (sink, stream) = stream.split();
    let params = HandshakeParams {
        endpoints: Endpoints {
            local: addr,
            remote: addr,
        },
        alpn: &[ALPN],
        credential: &credential(),
        config: &SecureConfig::default(),
        memory: &SecureConfig::default().receive_memory(),
    };
    let writer = Writer { sink, frames: 0 };
    let peer = secure::dial(Reader(stream), writer, Suite::ChaChaPoly, &params)
        .await
        .unwrap();
    let mut before = 0;
    for round in 0..KEEPALIVES {
        peer.keepalive().await.unwrap();
        if round == KEEPALIVES / 10 {
            before = MEMORY.current_usage();
        }
    }
    let after = MEMORY.current_usage();
    assert!(!accepting.is_finished(), "the connection must live on");
    assert!(
        after <= before + LIMIT,
        "{} bytes for a peer that does not read",
        after - before
    );
}
