//! Measures the memory that peers hold by sending a part of a record, and then nothing.
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

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf as _, Bytes};
use gossip_transport::net::{
    Alpn, NetConnection as _, NetIncomingRequest as _, NetListener as _, NetTransport as _,
};
use gossip_transport::rt::Task;
use gossip_transport::secure::{
    self, Endpoints, FrameBuffer, FrameEvent, FrameReader, FrameWriter, HandshakeParams,
    SecureConfig, Suite,
};
use gossip_transport::tcp::{TcpConfig, TcpTransport};
use gossip_transport::{ClusterSecret, NetCredential, Trust};
use peak_alloc::PeakAlloc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const ALPN: Alpn = Alpn::from_static(b"memory-test/1");
const PEERS: usize = 16;
/// Records that arrive as fast as they can be read, so that reads are as long as they get.
const MESSAGES: usize = 400;
const LEN: usize = 60_000;
/// The part of the last record that arrives.
const PART: usize = 65_000;
/// Bytes that a peer may hold: the longest read, of 256 KiB, the record that it follows, and 16 KiB for
/// what else has grown meanwhile. With a buffer that doubles, it was 400 to 450 KiB.
const LIMIT: usize = (256 << 10) + (64 << 10) + (16 << 10);
/// Bytes that a peer may hold once all of them hold too much: its part of a record, and 16 KiB for what
/// else has grown meanwhile.
const REDUCED: usize = PART + (16 << 10);

struct Reader(OwnedReadHalf);

struct Writer(Arc<Mutex<OwnedWriteHalf>>);

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
        self.0.lock().await.write_all(bytes).await?;
        bytes.advance(bytes.len());
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_record_takes_bounded_memory_which_is_counted() {
    // One test, since the allocator counts for all.
    let (taken, counted) = hold_parts(SecureConfig::default()).await;
    assert!(taken <= LIMIT, "{taken} bytes for each peer");
    assert!(
        (PART..=taken).contains(&counted),
        "{counted} of {taken} bytes for each peer are counted"
    );
    let little = SecureConfig::default()
        .with_max_message_len(LEN)
        .with_max_partial_bytes(LEN);
    let (taken, counted) = hold_parts(little).await;
    assert!(taken <= REDUCED, "{taken} bytes for each peer at the limit");
    assert!((PART..=taken).contains(&counted), "{counted} of {taken}");
}

/// Lets each peer send long messages to a node with the limits `secure`, and then a part of a record. Returns
/// the bytes that it takes for each of them, and those of them that it counts.
async fn hold_parts(secure: SecureConfig) -> (usize, usize) {
    let secret = ClusterSecret::generate();
    let credential = || NetCredential::generate(Trust::secret(secret.clone()));
    let network = TcpTransport::new(TcpConfig::default().with_secure(secure));
    let listener = network
        .create_listener("127.0.0.1:0".parse().unwrap(), &[ALPN], &credential())
        .await
        .unwrap();
    let addr = listener.local_addr();
    let received = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&received);
    let _accepting = Task::spawn(async move {
        let mut reading = Vec::new();
        loop {
            let node = listener.accept().await.unwrap().accept().await.unwrap();
            let count = Arc::clone(&count);
            reading.push(Task::spawn(async move {
                while let Ok(Some(_)) = node.recv().await {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
    });
    let until_received = async |all: usize| {
        while received.load(Ordering::Relaxed) < all {
            tokio::task::yield_now().await;
        }
    };

    let mut peers = Vec::new();
    for n in 1..=PEERS {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (reading, writing) = stream.into_split();
        let writing = Arc::new(Mutex::new(writing));
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
        let (reader, writer) = (Reader(reading), Writer(Arc::clone(&writing)));
        let peer = secure::dial(reader, writer, Suite::ChaChaPoly, &params);
        let peer = peer.await.unwrap();
        peer.send(Bytes::from_static(b"first")).await.unwrap();
        until_received(n).await;
        peers.push((peer, writing));
    }
    let before = MEMORY.current_usage();
    let message = Bytes::from(vec![7; LEN]);
    let part = [&u16::MAX.to_be_bytes()[..], &vec![7; PART]].concat();
    for (n, (peer, writing)) in (1..).zip(&peers) {
        let mut batch = VecDeque::from(vec![message.clone(); MESSAGES]);
        peer.send_many(&mut batch).await.unwrap();
        drop(batch);
        // Frees the memory of the peer's own side.
        peer.keepalive().await.unwrap();
        writing.lock().await.write_all(&part).await.unwrap();
        until_received(PEERS + n * MESSAGES).await;
    }
    drop((message, part));
    // So that the parts have been read, too.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let taken = MEMORY.current_usage().saturating_sub(before) / PEERS;
    let counted = || network.partial_stats().part_record_bytes;
    let held = counted();
    drop(peers);
    while counted() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let counted = usize::try_from(held).unwrap() / PEERS;
    println!("{taken} bytes for each peer, {counted} of them counted");
    (taken, counted)
}
