//! Nodes over TCP that differ in their carrier only: a bounded queue and a writing task for each
//! connection, and a reading task that enters the shared inbox once for each read.
//!
//! This is what a careful author would write around any stream. So a difference between two rows
//! of a table comes from the carrier, and the row of this crate is compared with all of it.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::peer::{Node, SendHalf};
use crate::queue::Queue;

/// The queue of a connection holds at most this many bytes. A larger limit, here and for the inbox,
/// is slower at 1 KiB and up, since the messages leave the cache before they are used again.
const QUEUE: usize = 256 << 10;
/// The inbox of a node holds at most this many bytes.
const INBOX: usize = 256 << 10;
/// Bytes that a message counts in addition to its own: a handle in a queue, and its length on the
/// wire.
const HANDLE: usize = 36;

/// A way to carry messages over a TCP stream.
pub trait Carrier: Send + 'static {
    /// The name of the peer in tables.
    const NAME: &'static str;
    /// The reading half.
    type Reader: ReadBatch;
    /// The writing half.
    type Writer: WriteBatch;

    /// Creates the dialling end.
    fn dial(
        stream: TcpStream,
    ) -> impl Future<Output = anyhow::Result<(Self::Reader, Self::Writer)>> + Send;

    /// Creates the accepting end.
    fn accept(
        stream: TcpStream,
    ) -> impl Future<Output = anyhow::Result<(Self::Reader, Self::Writer)>> + Send;
}

/// Reads messages.
pub trait ReadBatch: Send + 'static {
    /// Waits for at least one message and passes it and all others that are ready to `sink`.
    /// Returns false at the end of the stream.
    fn read(
        &mut self,
        sink: &mut (impl FnMut(Bytes) + Send),
    ) -> impl Future<Output = anyhow::Result<bool>> + Send;
}

/// Writes messages with as few system calls as it can.
pub trait WriteBatch: Send + 'static {
    /// Writes all of `messages`, which is not empty, leaves it empty, and flushes.
    fn write(
        &mut self,
        messages: &mut VecDeque<Bytes>,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// A node that carries messages over a [`Carrier`].
#[derive(Debug)]
pub struct StreamNode<C> {
    addr: SocketAddr,
    /// Messages that were taken from the inbox and not yet returned by `recv`.
    ready: VecDeque<(usize, Bytes)>,
    shared: Arc<Shared>,
    carrier: PhantomData<fn() -> C>,
}

#[derive(Debug)]
struct Shared {
    /// Messages, each with the index of its connection in `send_halves`.
    inbox: Queue<(usize, Bytes)>,
    send_halves: Mutex<Vec<StreamSendHalf>>,
    tasks: Mutex<JoinSet<()>>,
}

/// The queue of one connection.
#[derive(Debug, Clone)]
pub struct StreamSendHalf(Arc<Queue<Bytes>>);

impl SendHalf<Bytes> for StreamSendHalf {
    #[inline]
    async fn send(&self, message: Bytes) -> anyhow::Result<()> {
        let weight = message.len() + HANDLE;
        Ok(self.0.push(message, weight).await?)
    }
}

impl<C: Carrier> Node for StreamNode<C> {
    const NAME: &'static str = C::NAME;
    type Message = Bytes;
    type SendHalf = StreamSendHalf;
    type From = usize;

    async fn bind() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            inbox: Queue::new(INBOX),
            send_halves: Mutex::default(),
            tasks: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        shared.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                let accepted = Arc::clone(&accepting);
                accepting.spawn(async move {
                    stream.set_nodelay(true)?;
                    accepted.serve(C::accept(stream).await?);
                    Ok(())
                });
            }
        });
        Ok(Self {
            addr,
            ready: VecDeque::new(),
            shared,
            carrier: PhantomData,
        })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<StreamSendHalf> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(self.shared.serve(C::dial(stream).await?))
    }

    #[inline]
    async fn recv(&mut self) -> anyhow::Result<(usize, Bytes)> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(message);
            }
            self.shared.inbox.take(&mut self.ready).await?;
        }
    }

    fn send_half_to(&self, from: usize) -> anyhow::Result<StreamSendHalf> {
        let send_halves = self.shared.send_halves.lock();
        let send_halves = send_halves.unwrap_or_else(PoisonError::into_inner);
        send_halves.get(from).cloned().context("no such connection")
    }
}

impl<C> Drop for StreamNode<C> {
    fn drop(&mut self) {
        self.shared.inbox.close();
        let tasks = self.shared.tasks.lock();
        tasks.unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

impl Shared {
    fn spawn(&self, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let tasks = self.tasks.lock();
        let mut tasks = tasks.unwrap_or_else(PoisonError::into_inner);
        // A failure ends the connection, which the scenario notices by its time limit.
        tasks.spawn(async move { drop(task.await) });
        while tasks.try_join_next().is_some() {}
    }

    /// Starts the two tasks of a connection.
    fn serve<R: ReadBatch, W: WriteBatch>(
        self: &Arc<Self>,
        (mut reader, mut writer): (R, W),
    ) -> StreamSendHalf {
        let send_half = StreamSendHalf(Arc::new(Queue::new(QUEUE)));
        let index = {
            let mut send_halves = self
                .send_halves
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            send_halves.push(send_half.clone());
            send_halves.len() - 1
        };
        let queued = send_half.clone();
        self.spawn(async move {
            let mut messages = VecDeque::new();
            loop {
                queued.0.take(&mut messages).await?;
                writer.write(&mut messages).await?;
            }
        });
        let (read, back) = (Arc::clone(self), send_half.clone());
        self.spawn(async move {
            let mut messages = VecDeque::new();
            let mut weight = 0;
            loop {
                let more = reader
                    .read(&mut |message: Bytes| {
                        weight += message.len() + HANDLE;
                        messages.push_back((index, message));
                    })
                    .await;
                read.inbox.push_all(&mut messages, weight).await?;
                weight = 0;
                if !matches!(more, Ok(true)) {
                    back.0.close();
                    return more.map(drop);
                }
            }
        });
        send_half
    }
}

/// Returns the error of a stream that ends inside a message.
pub(super) fn cut() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
