//! A TCP stream with or without TLS around it, and its two halves.
//!
//! The types in this file only dispatch between the two. It knows neither frames nor handshakes. Invariant: without TLS,
//! a stream has the halves of tokio and nothing besides.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::tls::TlsStream;
use crate::rt;

/// The time in which a refused peer may read the answer and close.
const LINGER: Duration = Duration::from_secs(1);
/// The most bytes that are read from a refused peer in that time, and ignored.
const MAX_IGNORED: usize = 1 << 20;

/// A TCP stream, or a TLS stream over one.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Arc<TlsStream>),
}

/// The half of a stream that reads.
#[derive(Debug)]
pub(super) enum ReadHalf {
    Plain(OwnedReadHalf),
    Tls(Arc<TlsStream>),
}

/// The half of a stream that writes. Dropping it ends that direction; with TLS, the peer takes that for a stream that was cut
/// off, unless it was shut down before.
#[derive(Debug)]
pub(super) enum WriteHalf {
    Plain(OwnedWriteHalf),
    Tls(TlsWriteHalf),
}

/// The half of a TLS stream that writes.
#[derive(Debug)]
pub(super) struct TlsWriteHalf(Arc<TlsStream>);

/// Where bytes are written to. Both halves of a stream have it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outlet<'a> {
    Plain(&'a TcpStream),
    Tls(&'a TlsStream),
}

impl Stream {
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.tcp(),
        }
    }

    pub(super) fn split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Plain(stream) => {
                let (reading, writing) = stream.into_split();
                (ReadHalf::Plain(reading), WriteHalf::Plain(writing))
            }
            Self::Tls(stream) => {
                let writing = TlsWriteHalf(Arc::clone(&stream));
                (ReadHalf::Tls(stream), WriteHalf::Tls(writing))
            }
        }
    }

    /// Appends what has arrived to `buffer`, at least a byte. Returns the number of bytes, which is 0 at the end.
    pub(super) async fn read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(buffer).await,
            Self::Tls(stream) => {
                let mut sink = |bytes: &[u8]| buffer.extend_from_slice(bytes);
                poll_fn(|cx| stream.poll_read(1, &mut sink, cx)).await
            }
        }
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                let mut bytes = BytesMut::from(bytes);
                while !stream.try_write_all(&mut bytes)? {
                    stream.writable().await?;
                }
                Ok(())
            }
        }
    }

    /// Ends this side's direction in order, and reads for a while, so that the peer has time to read the last answer:
    /// closing a socket with unread bytes resets the connection, and the answer could be lost.
    pub(super) async fn part(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await?,
            Self::Tls(stream) => end(stream).await?,
        }
        let drained = async {
            let mut unread = BytesMut::with_capacity(1 << 10);
            let mut ignored = 0;
            while ignored < MAX_IGNORED {
                unread.clear();
                match self.read_buf(&mut unread).await {
                    Ok(read @ 1..) => ignored += read,
                    Ok(0) | Err(_) => break,
                }
            }
        };
        // A peer that is still sending after this has had time to read its answer.
        let _ = rt::timeout(LINGER, drained).await;
        Ok(())
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl ReadHalf {
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream.as_ref(),
            Self::Tls(stream) => stream.tcp(),
        }
    }

    pub(super) fn outlet(&self) -> Outlet<'_> {
        match self {
            Self::Plain(stream) => Outlet::Plain(stream.as_ref()),
            Self::Tls(stream) => Outlet::Tls(stream),
        }
    }

    /// Completes when a read has something to return.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.as_ref().poll_read_ready(cx),
            Self::Tls(stream) => stream.poll_read_ready(cx),
        }
    }
}

impl WriteHalf {
    #[cfg(test)]
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream.as_ref(),
            Self::Tls(stream) => stream.0.tcp(),
        }
    }

    pub(super) fn outlet(&self) -> Outlet<'_> {
        match self {
            Self::Plain(stream) => Outlet::Plain(stream.as_ref()),
            Self::Tls(stream) => Outlet::Tls(&stream.0),
        }
    }

    /// Ends this direction of the stream in order.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => end(&stream.0).await,
        }
    }
}

/// Sends TLS's end of a stream, and shuts the socket down for writing.
async fn end(stream: &TlsStream) -> io::Result<()> {
    while !stream.try_end()? {
        stream.writable().await?;
    }
    stream.shut_down()
}

impl TlsWriteHalf {
    /// Writes all of `bytes` and flushes. Bytes that have been taken over are removed.
    pub(super) async fn write_all(&self, bytes: &mut BytesMut) -> io::Result<()> {
        while !self.0.try_write_all(bytes)? {
            self.0.writable().await?;
        }
        Ok(())
    }
}

impl Drop for TlsWriteHalf {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.shut_down();
    }
}

impl<'a> Outlet<'a> {
    /// Writes as much as fits. Returns the number of bytes that have been taken over.
    ///
    /// # Errors
    ///
    /// Fails with `WouldBlock` if nothing fits now.
    pub(super) fn try_write_vectored(self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write_vectored(slices),
            Self::Tls(stream) => stream.try_write_vectored(slices),
        }
    }

    /// Returns whether the socket has taken everything that was taken over. If not, a write or a further call goes on.
    pub(super) fn try_flush(self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(stream) => stream.try_flush(),
        }
    }

    /// Sends TLS's end of the stream, if there is TLS. Returns whether the socket has taken it.
    pub(super) fn try_end(self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(stream) => stream.try_end(),
        }
    }

    /// Returns the socket, to wait until it takes more.
    pub(super) fn tcp(self) -> &'a TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.tcp(),
        }
    }
}
