//! Nodes over TCP that differ in their carrier only: a bounded queue and a writing task for each
//! connection, a reading task that enters the shared inbox once for each read.
//!
//! It is what a careful author would write around any stream: so a difference between two rows of
//! a table is the carrier's, and our own row has to stand against the whole of it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::peer::{Link, Node};

/// Messages in a queue or an inbox.
const QUEUE: usize = 1000;
/// Messages that are handed to a carrier at a time.
const BATCH: usize = 256;

/// What carries messages over a TCP stream.
pub trait Carrier: Send + 'static {
    /// See [`Node::NAME`].
    const NAME: &'static str;
    /// The reading half.
    type Reader: ReadBatch;
    /// The writing half.
    type Writer: WriteBatch;

    /// Makes the dialling end.
    fn dial(
        stream: TcpStream,
    ) -> impl Future<Output = anyhow::Result<(Self::Reader, Self::Writer)>> + Send;

    /// Makes the accepting end.
    fn accept(
        stream: TcpStream,
    ) -> impl Future<Output = anyhow::Result<(Self::Reader, Self::Writer)>> + Send;
}

/// Reads as many messages as lie ready, at least one.
pub trait ReadBatch: Send + 'static {
    /// Appends to `messages`; false at the end of the stream.
    fn read(
        &mut self,
        messages: &mut Vec<Bytes>,
    ) -> impl Future<Output = anyhow::Result<bool>> + Send;
}

/// Writes messages with as few system calls as it can.
pub trait WriteBatch: Send + 'static {
    /// Writes all and flushes.
    fn write(
        &mut self,
        messages: &mut Vec<Bytes>,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// See the module.
#[derive(Debug)]
pub struct StreamNode<C> {
    addr: SocketAddr,
    inbox: mpsc::Receiver<(StreamLink, Bytes)>,
    enter: mpsc::Sender<(StreamLink, Bytes)>,
    accepting: tokio::task::AbortHandle,
    carrier: std::marker::PhantomData<fn() -> C>,
}

/// The queue of one connection.
#[derive(Debug, Clone)]
pub struct StreamLink(mpsc::Sender<Bytes>);

impl Link for StreamLink {
    async fn send(&self, message: Bytes) -> anyhow::Result<()> {
        self.0.send(message).await.context("the connection is gone")
    }
}

impl<C: Carrier> Node for StreamNode<C> {
    const NAME: &'static str = C::NAME;
    type Link = StreamLink;
    type From = StreamLink;

    async fn bind() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (enter, inbox) = mpsc::channel(QUEUE);
        let accepted = enter.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let enter = accepted.clone();
                tokio::spawn(async move {
                    stream.set_nodelay(true)?;
                    serve(C::accept(stream).await?, enter);
                    anyhow::Ok(())
                });
            }
        });
        Ok(Self {
            addr,
            inbox,
            enter,
            accepting: accepting.abort_handle(),
            carrier: std::marker::PhantomData,
        })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<StreamLink> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(serve(C::dial(stream).await?, self.enter.clone()))
    }

    async fn recv(&mut self) -> anyhow::Result<(StreamLink, Bytes)> {
        self.inbox.recv().await.context("the node is gone")
    }

    fn link_to(&self, from: StreamLink) -> StreamLink {
        from
    }
}

impl<C> Drop for StreamNode<C> {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn serve<R: ReadBatch, W: WriteBatch>(
    (mut reader, mut writer): (R, W),
    enter: mpsc::Sender<(StreamLink, Bytes)>,
) -> StreamLink {
    let (queue, mut queued) = mpsc::channel(QUEUE);
    let writing = tokio::spawn(async move {
        let mut batch = Vec::new();
        while queued.recv_many(&mut batch, BATCH).await > 0 {
            writer.write(&mut batch).await?;
            batch.clear();
        }
        anyhow::Ok(())
    });
    let link = StreamLink(queue);
    let back = link.clone();
    tokio::spawn(async move {
        let mut messages = Vec::new();
        while reader.read(&mut messages).await? {
            while !messages.is_empty() {
                let count = messages.len().min(QUEUE);
                let permits = enter.reserve_many(count).await?;
                for (permit, message) in permits.zip(messages.drain(..count)) {
                    permit.send((back.clone(), message));
                }
            }
        }
        writing.abort();
        anyhow::Ok(())
    });
    link
}

/// The end of a stream inside a message.
pub(super) fn cut() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
