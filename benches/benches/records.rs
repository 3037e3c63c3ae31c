//! The record layer alone: messages are packed, sealed, opened and split, over a carrier that only
//! moves buffers. The floor is one copy of the bytes into messages.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use futures::channel::mpsc::{Receiver, Sender, channel};
use futures::{SinkExt as _, StreamExt as _};
use gossip_benches::peers::secret;
use gossip_transport::net::{Alpn, NetConnection as _};
use gossip_transport::secure::{
    self, Endpoints, FrameBuffer, FrameEvent, FrameReader, FrameWriter, HandshakeParams,
    SecureConfig, SecureConnection, Suite,
};
use gossip_transport::{NetCredential, Trust};
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// Bytes of messages in a batch.
const BATCH: usize = 256 << 10;
const LENS: [usize; 4] = [64, 1 << 10, 16 << 10, 64 << 10];

#[divan::bench(args = LENS)]
fn aes_gcm(bencher: Bencher<'_, '_>, len: usize) {
    measure(bencher, Suite::AesGcm, len);
}

#[divan::bench(args = LENS)]
fn chacha_poly(bencher: Bencher<'_, '_>, len: usize) {
    measure(bencher, Suite::ChaChaPoly, len);
}

#[divan::bench(args = LENS)]
fn copy(bencher: Bencher<'_, '_>, len: usize) {
    let message = vec![7_u8; len];
    let mut copied = Vec::with_capacity(BATCH / len);
    bencher
        .counter(BytesCount::new(BATCH))
        .counter(ItemsCount::new(BATCH / len))
        .bench_local(|| {
            // Into a vector that is kept, as the messages received are.
            copied.clear();
            copied.extend((0..BATCH / len).map(|_| Bytes::copy_from_slice(&message)));
        });
}

fn measure(bencher: Bencher<'_, '_>, suite: Suite, len: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (sender, receiver) = connected(&runtime, suite);
    let message = Bytes::from(vec![7; len]);
    let count = BATCH / len;
    let mut batch = VecDeque::with_capacity(count);
    let mut received = Vec::with_capacity(count);
    bencher
        .counter(BytesCount::new(BATCH))
        .counter(ItemsCount::new(count))
        .bench_local(|| {
            batch.extend(std::iter::repeat_n(&message, count).cloned());
            runtime
                .block_on(async {
                    sender.send_many(&mut batch).await?;
                    received.clear();
                    while received.len() < count {
                        receiver.recv_many(&mut received).await?;
                    }
                    anyhow::Ok(())
                })
                .expect("the channel stays open");
        });
}

type Connection = SecureConnection<Reader, Writer>;

fn connected(runtime: &Runtime, suite: Suite) -> (Connection, Connection) {
    let (to_acceptor, from_dialler) = channel(CAPACITY);
    let (to_dialler, from_acceptor) = channel(CAPACITY);
    let credential = NetCredential::generate(Trust::secret(secret()));
    let config = SecureConfig::default();
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let endpoints = Endpoints {
        local: addr,
        remote: addr,
    };
    let params = HandshakeParams {
        endpoints,
        alpn: &[Alpn::from_static(b"bench/1")],
        credential: &credential,
        config: &config,
        memory: &config.receive_memory(),
    };
    runtime
        .block_on(async {
            futures::try_join!(
                secure::dial(
                    Reader::new(from_acceptor),
                    Writer(to_acceptor),
                    suite,
                    &params,
                ),
                secure::accept(Reader::new(from_dialler), Writer(to_dialler), &params),
            )
        })
        .expect("both know the secret")
}

/// Writes that may be under way, since a batch takes several.
const CAPACITY: usize = 1024;

struct Writer(Sender<BytesMut>);

impl FrameWriter for Writer {
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        // A real carrier copies what it takes into the kernel.
        let written = BytesMut::from(&frames.bytes_mut()[..]);
        frames.bytes_mut().clear();
        self.0.send(written).await.map_err(io::Error::other)
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.0.close_channel();
        Ok(())
    }
}

struct Reader {
    incoming: Receiver<BytesMut>,
    rest: BytesMut,
}

impl Reader {
    fn new(incoming: Receiver<BytesMut>) -> Self {
        Self {
            incoming,
            rest: BytesMut::new(),
        }
    }
}

impl FrameReader for Reader {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        while self.rest.is_empty() {
            match self.incoming.next().await {
                Some(written) => self.rest = written,
                None => return Ok(None),
            }
        }
        // A write consists of whole frames, each after its length.
        let Some(len) = self.rest.first_chunk() else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let len = usize::from(u16::from_be_bytes(*len));
        let mut frame = self.rest.split_to(2 + len);
        let _ = frame.split_to(2);
        Ok(Some(FrameEvent::Frame(frame)))
    }
}
