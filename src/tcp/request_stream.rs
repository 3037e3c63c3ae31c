//! A stream of a gossip port for the HTTP service, which reads what was read of it before first.
//!
//! Invariant: bytes that were read and not taken stay in the stream, so that it can go back to the listener.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// The most bytes that are sealed by TLS at once: those of a record.
const MAX_SEALED: usize = 16 << 10;

/// A stream that one task reads and writes.
#[derive(Debug)]
pub(super) struct RequestStream {
    stream: Stream,
    received: BytesMut,
}

impl RequestStream {
    /// `received` holds the bytes of `stream` that have been read already.
    pub(super) fn new(stream: Stream, received: BytesMut) -> Self {
        Self { stream, received }
    }

    /// Returns the stream and the bytes of it that nobody has taken.
    pub(super) fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.received)
    }
}

impl AsyncRead for RequestStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, received } = self.get_mut();
        if received.is_empty() {
            match stream {
                Stream::Plain(stream) => return Pin::new(stream).poll_read(cx, buf),
                shared => ready!(shared.poll_read_into(received, cx))?,
            };
        }
        let len = received.len().min(buf.remaining());
        buf.put_slice(received.get(..len).unwrap_or_default());
        received.advance(len);
        if received.is_empty() {
            *received = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for RequestStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = &self.stream;
        if let Stream::Tls(_) = stream {
            // TLS takes much more than the socket at once, and a slow client would seem to read nothing for long.
            let first = bufs.iter().find(|buf| !buf.is_empty());
            let first = first.map_or(&[][..], |buf| buf.get(..MAX_SEALED).unwrap_or(buf));
            let first = [IoSlice::new(first)];
            return poll_until_taken(stream, cx, || stream.outlet().try_write_vectored(&first));
        }
        poll_until_taken(stream, cx, || stream.outlet().try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &self.stream;
        poll_until_taken(stream, cx, || taken(stream.outlet().try_flush()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &self.stream;
        ready!(poll_until_taken(stream, cx, || taken(
            stream.outlet().try_end()
        )))?;
        Poll::Ready(stream.outlet().shut_down())
    }
}

/// Tries until the stream takes something, or waits until it may.
fn poll_until_taken<T>(
    stream: &Stream,
    cx: &mut Context<'_>,
    attempt: impl Fn() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready!(stream.outlet().poll_writable(cx))?;
            }
            result => return Poll::Ready(result),
        }
    }
}

/// Returns an error if the stream has not taken all.
fn taken(is_taken: io::Result<bool>) -> io::Result<()> {
    match is_taken? {
        true => Ok(()),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::tcp::tls::tests::pair;

    #[tokio::test]
    async fn a_write_inside_tls_takes_a_record_so_that_it_is_seen_that_a_slow_client_reads() {
        let (server, _client) = pair().await;
        let mut stream = RequestStream::new(Stream::Tls(server), BytesMut::new());
        let response = vec![0; 1 << 20];
        assert_eq!(stream.write(&response).await.unwrap(), MAX_SEALED);
        let slices = [IoSlice::new(&[]), IoSlice::new(&response)];
        let taken = stream.write_vectored(&slices).await.unwrap();
        assert_eq!(taken, MAX_SEALED);
    }
}
