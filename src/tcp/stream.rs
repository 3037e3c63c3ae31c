//! The stream of a connection and its two halves: TCP, TLS over TCP, or any stream that a server of the user has accepted.
//!
//! The types in this file only dispatch between the three. It knows neither frames nor handshakes. Invariant: without TLS,
//! a stream has the halves of tokio and nothing besides.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::any_stream::{AnyStream, Half};
use super::tls::TlsStream;
use crate::rt;

/// The time in which a refused peer may read the answer and close.
const LINGER: Duration = Duration::from_secs(1);
/// The most bytes that are read from a refused peer in that time, and ignored.
const MAX_IGNORED: usize = 1 << 20;

/// A TCP stream, a TLS stream over one, or a stream of any other kind.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Arc<TlsStream>),
    Any(Arc<AnyStream>),
}

/// The half of a stream that reads.
#[derive(Debug)]
pub(super) enum ReadHalf {
    Plain(OwnedReadHalf),
    Tls(Arc<TlsStream>),
    Any(Arc<AnyStream>),
}

/// The half of a stream that writes. Dropping it ends that direction; with TLS, the peer takes that for a stream that was cut
/// off, unless it was shut down before.
#[derive(Debug)]
pub(super) enum WriteHalf {
    Plain(OwnedWriteHalf),
    Tls(TlsWriteHalf),
    Any(AnyWriteHalf),
}

/// The half of a TLS stream that writes.
#[derive(Debug)]
pub(super) struct TlsWriteHalf(Arc<TlsStream>);

/// The half of any other stream that writes.
#[derive(Debug)]
pub(super) struct AnyWriteHalf(Arc<AnyStream>);

/// Where bytes are written to. Both halves of a stream have it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outlet<'a> {
    Plain(&'a TcpStream),
    Tls(&'a TlsStream),
    Any(&'a AnyStream),
}

impl Stream {
    /// Returns a stream of any kind as one that has two halves.
    pub(super) fn of(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self::Any(Arc::new(AnyStream::new(Box::pin(stream))))
    }

    /// Returns the TCP stream, if it is known.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.tcp()),
            Self::Any(_) => None,
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
            Self::Any(stream) => {
                let writing = AnyWriteHalf(Arc::clone(&stream));
                (ReadHalf::Any(stream), WriteHalf::Any(writing))
            }
        }
    }

    /// Appends what has arrived to `buffer`, at least a byte. Returns the number of bytes, which is 0 at the end.
    pub(super) async fn read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read_into(buffer, cx)).await
    }

    /// See [`read_buf`](Self::read_buf).
    pub(super) fn poll_read_into(
        &mut self,
        buffer: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => pin!(stream.read_buf(buffer)).poll(cx),
            Self::Tls(stream) => {
                let mut sink = |bytes: &[u8]| buffer.extend_from_slice(bytes);
                stream.poll_read(1, &mut sink, cx)
            }
            Self::Any(stream) => {
                let mut sink = |bytes: &[u8]| buffer.extend_from_slice(bytes);
                stream.poll_read(1, &mut sink, cx)
            }
        }
    }

    /// Returns where bytes are written to.
    #[cfg(feature = "http")]
    pub(super) fn outlet(&self) -> Outlet<'_> {
        match self {
            Self::Plain(stream) => Outlet::Plain(stream),
            Self::Tls(stream) => Outlet::Tls(stream),
            Self::Any(stream) => Outlet::Any(stream),
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
            Self::Any(stream) => {
                let mut bytes = BytesMut::from(bytes);
                while !stream.try_write_all(&mut bytes)? {
                    stream.writable(Half::Writing).await;
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
            Self::Any(stream) => end_any(stream).await?,
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
    /// Returns the TCP stream, if it is known.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream.as_ref()),
            Self::Tls(stream) => Some(stream.tcp()),
            Self::Any(_) => None,
        }
    }

    pub(super) fn outlet(&self) -> Outlet<'_> {
        match self {
            Self::Plain(stream) => Outlet::Plain(stream.as_ref()),
            Self::Tls(stream) => Outlet::Tls(stream),
            Self::Any(stream) => Outlet::Any(stream),
        }
    }

    /// Completes when a read has something to return.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.as_ref().poll_read_ready(cx),
            Self::Tls(stream) => stream.poll_read_ready(cx),
            Self::Any(stream) => stream.poll_read_ready(cx),
        }
    }
}

impl WriteHalf {
    #[cfg(test)]
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream.as_ref()),
            Self::Tls(stream) => Some(stream.0.tcp()),
            Self::Any(_) => None,
        }
    }

    pub(super) fn outlet(&self) -> Outlet<'_> {
        match self {
            Self::Plain(stream) => Outlet::Plain(stream.as_ref()),
            Self::Tls(stream) => Outlet::Tls(&stream.0),
            Self::Any(stream) => Outlet::Any(&stream.0),
        }
    }

    /// Ends this direction of the stream in order.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => end(&stream.0).await,
            Self::Any(stream) => end_any(&stream.0).await,
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

/// Ends this side's direction of a stream of any kind.
async fn end_any(stream: &AnyStream) -> io::Result<()> {
    while !stream.try_end()? {
        stream.writable(Half::Writing).await;
    }
    Ok(())
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

impl AnyWriteHalf {
    /// Writes all of `bytes` and flushes. Bytes that have been taken over are removed.
    pub(super) async fn write_all(&self, bytes: &mut BytesMut) -> io::Result<()> {
        while !self.0.try_write_all(bytes)? {
            self.0.writable(Half::Writing).await;
        }
        Ok(())
    }
}

impl Drop for AnyWriteHalf {
    fn drop(&mut self) {
        // As far as the stream does it at once: the reader's half may be kept.
        let _ = self.0.try_end();
    }
}

impl Drop for TlsWriteHalf {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.shut_down();
    }
}

impl Outlet<'_> {
    /// Writes as much as fits. Returns the number of bytes that have been taken over.
    ///
    /// # Errors
    ///
    /// Fails with `WouldBlock` if nothing fits now.
    pub(super) fn try_write_vectored(self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write_vectored(slices),
            Self::Tls(stream) => stream.try_write_vectored(slices),
            Self::Any(stream) => stream.try_write_vectored(slices),
        }
    }

    /// Returns whether the stream has taken everything that was taken over. If not, a write or a further call goes on.
    pub(super) fn try_flush(self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(stream) => stream.try_flush(),
            Self::Any(stream) => stream.try_flush(),
        }
    }

    /// Sends the end of the stream that precedes that of TCP, if there is one. Returns whether the stream has taken it.
    pub(super) fn try_end(self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(stream) => stream.try_end(),
            Self::Any(stream) => stream.try_end(),
        }
    }

    /// Shuts the stream down for writing, after [`try_end`](Self::try_end).
    pub(super) fn shut_down(self) -> io::Result<()> {
        let tcp = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.tcp(),
            // That was its end.
            Self::Any(_) => return Ok(()),
        };
        socket2::SockRef::from(tcp).shutdown(Shutdown::Write)
    }

    /// Completes when the stream may take more, for the half that reads and owes an answer.
    pub(super) fn poll_writable(self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // The half that writes waits with a waker of its own.
            Self::Plain(stream) => stream.poll_write_ready(cx),
            Self::Tls(stream) => stream.tcp().poll_write_ready(cx),
            Self::Any(stream) => stream.poll_writable(Half::Reading, cx).map(Ok),
        }
    }

    /// Waits, for the half that writes, until the stream may take more.
    pub(super) async fn writable(self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.writable().await,
            Self::Tls(stream) => stream.tcp().writable().await,
            Self::Any(stream) => {
                stream.writable(Half::Writing).await;
                Ok(())
            }
        }
    }
}
