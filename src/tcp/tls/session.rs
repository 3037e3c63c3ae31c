//! An established TLS stream over TCP, and its handshake.
//!
//! Both halves of a connection share it: each call locks the session, moves bytes between it and the socket as far as the
//! socket is ready, and never waits inside the lock. A write seals many messages into records, and hands them to the
//! system in one call. It knows no certificates. Invariants: nothing is lost if a caller stops waiting; a stream holds at most
//! one record of received bytes (16 KiB), or a message of TLS itself in parts (64 KiB); what the socket does not take is at most
//! [`MAX_UNSENT`]; a poll ends soon, whatever the peer sends.

use std::fmt;
use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::net::Shutdown;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use rustls::Connection;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;

use super::error::TlsError;
use crate::rt::sync::Mutex;

/// The most bytes that are sealed before the socket takes them: a write of the system takes about as much.
const MAX_UNSENT: usize = 128 << 10;
/// The most bytes that are taken from the socket at once. On the stack, so it costs nothing while a stream is idle.
const READ_LEN: usize = 16 << 10;
/// The most bytes in a row that contain no data for the caller. Records may be empty, and change keys: a peer could send these
/// for ever. Longer than a message of TLS, which has at most 64 KiB.
const MAX_BARREN: usize = 128 << 10;
/// The number of reads of the socket without data for the caller after which others get their turn.
const READS_IN_A_ROW: usize = 4;

/// A TLS stream over TCP.
pub(in crate::tcp) struct TlsStream {
    tcp: TcpStream,
    session: Mutex<Session>,
}

struct Session {
    tls: Connection,
    /// What has broken the stream.
    failed: Option<TlsError>,
    /// The number of bytes that have arrived since there was data for the caller.
    barren: usize,
}

/// What has broken a handshake.
#[derive(Debug)]
pub(super) enum Broken {
    Tls(rustls::Error),
    /// The peer has ended or reset the stream before it has sent anything.
    Unanswered(io::Error),
    Io(io::Error),
}

impl TlsStream {
    /// Runs the handshake. `received` holds the bytes of the stream that have been read already.
    ///
    /// If the peer breaks the rules, it has been sent an alert, as far as the socket took that at once, and the stream is
    /// returned with the error. Dropping the future closes the stream.
    pub(super) async fn open(
        tcp: TcpStream,
        mut tls: Connection,
        received: BytesMut,
    ) -> Result<Self, (TcpStream, Broken)> {
        tls.set_buffer_limit(Some(MAX_UNSENT));
        match shake_hands(&tcp, &mut tls, &received).await {
            Ok(()) => Ok(Self {
                tcp,
                session: Mutex::new(Session {
                    tls,
                    failed: None,
                    barren: 0,
                }),
            }),
            Err(broken) => {
                // The alert. It is the last thing that is sent, so there is room for it.
                let _ = tls.write_tls(&mut Socket(&tcp));
                Err((tcp, broken))
            }
        }
    }

    /// Returns the socket. What TLS has not sent is lost.
    pub(super) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    pub(in crate::tcp) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Completes when a read has something to return, if only an error.
    pub(in crate::tcp) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.session.lock().has_result() {
            return Poll::Ready(Ok(()));
        }
        self.tcp.poll_read_ready(cx)
    }

    /// Hands bytes to `sink` until there are at least `max` of them, or no more have arrived. Returns their number, which
    /// is 0 once the peer has ended the stream in order. It may be more than `max` by what one read of the socket returns.
    pub(in crate::tcp) fn poll_read(
        &self,
        max: usize,
        sink: &mut impl FnMut(&[u8]),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        // The socket is read without tokio's own reads, which would count themselves.
        ready!(pin!(consume_budget()).poll(cx));
        for _ in 0..READS_IN_A_ROW {
            match self.session.lock().read(&self.tcp, max, sink) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            ready!(self.tcp.poll_read_ready(cx))?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Seals the bytes of `slices` and writes as much as the socket takes. Returns how many have been taken over.
    ///
    /// # Errors
    ///
    /// Fails with `WouldBlock` if the socket has not taken what was sealed before.
    pub(in crate::tcp) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.session.lock();
        if !session.flush(&self.tcp)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = session.tls.writer().write_vectored(slices)?;
        session.flush(&self.tcp)?;
        Ok(taken)
    }

    /// Writes what has been sealed. Returns whether nothing is left.
    pub(in crate::tcp) fn try_flush(&self) -> io::Result<bool> {
        self.session.lock().flush(&self.tcp)
    }

    /// Takes bytes out of `bytes` and writes until the socket takes no more. Returns whether everything has been written.
    pub(in crate::tcp) fn try_write_all(&self, bytes: &mut BytesMut) -> io::Result<bool> {
        while !bytes.is_empty() {
            match self.try_write_vectored(&[IoSlice::new(bytes)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => bytes.advance(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.try_flush()
    }

    /// Ends this side's direction of the stream with a close_notify. Returns whether the socket has taken all of it; if
    /// not, this must be called again.
    pub(in crate::tcp) fn try_end(&self) -> io::Result<bool> {
        let mut session = self.session.lock();
        session.tls.send_close_notify();
        session.flush(&self.tcp)
    }

    /// Shuts the socket down for writing. Without [`try_end`](Self::try_end) before, the peer takes the stream for
    /// cut off.
    pub(in crate::tcp) fn shut_down(&self) -> io::Result<()> {
        socket2::SockRef::from(&self.tcp).shutdown(Shutdown::Write)
    }

    /// Waits until the socket may take more. Boxed because it is rare: each task that writes would hold the room for it
    /// otherwise.
    pub(in crate::tcp) fn writable(&self) -> impl Future<Output = io::Result<()>> {
        Box::pin(self.tcp.writable())
    }
}

impl Session {
    /// Returns whether a read has a result without the socket.
    fn has_result(&mut self) -> bool {
        let is_waiting = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let mut reader = self.tls.reader();
        self.failed.is_some() || !reader.fill_buf().as_ref().is_err_and(is_waiting)
    }

    fn read(
        &mut self,
        tcp: &TcpStream,
        max: usize,
        sink: &mut impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let mut total = 0;
        loop {
            let has_ended = self.drain(&mut total, sink);
            if total >= max {
                return Ok(total);
            }
            let result = match (&self.failed, has_ended) {
                (Some(error), _) => Err(error.clone().into()),
                (None, true) => Ok(0),
                (None, false) => self.fill(tcp, &mut total, sink),
            };
            match result {
                // What has arrived is returned first. The next call has the same result.
                Ok(0) | Err(_) if total > 0 => return Ok(total),
                Ok(0) => return Ok(0),
                // There may be more, but the caller must get its turn.
                Ok(_) if total == 0 && !self.has_result() => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once from the socket. Returns the number of bytes that it had.
    fn fill(
        &mut self,
        tcp: &TcpStream,
        total: &mut usize,
        sink: &mut impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let mut received = [0; READ_LEN];
        let read = tcp.try_read(&mut received)?;
        if read == 0 {
            self.failed = Some(TlsError::Truncated);
        }
        let before = *total;
        let mut rest = received.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            let opened = match self.tls.read_tls(&mut rest) {
                // Nothing counts that follows the peer's end of the stream.
                Ok(0) => break,
                Ok(_) => self.tls.process_new_packets().map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // Also what has arrived whole before the record that is broken.
            self.drain(total, sink);
            if let Err(reason) = opened {
                self.failed = Some(TlsError::Broken { reason });
                break;
            }
        }
        // rustls frees the memory of a long record only when it is about to read again, which an idle stream is not.
        let _ = self.tls.read_tls(&mut Nothing);
        self.barren = match *total > before {
            true => 0,
            false => self.barren.saturating_add(read),
        };
        if self.barren > MAX_BARREN && self.failed.is_none() {
            let reason = "the peer sends records without data".to_owned();
            self.failed = Some(TlsError::Broken { reason });
        }
        // An alert, or the answer to a change of keys. If it fails, the writer is told by its own write.
        let _ = self.flush(tcp);
        match &self.failed {
            Some(error) => Err(error.clone().into()),
            None => Ok(read),
        }
    }

    /// Hands over what has been opened, and adds its length to `total`. Returns whether the peer has ended the stream.
    fn drain(&mut self, total: &mut usize, sink: &mut impl FnMut(&[u8])) -> bool {
        let mut reader = self.tls.reader();
        loop {
            match reader.fill_buf() {
                Ok(bytes) => {
                    let len = bytes.len();
                    if len == 0 {
                        return true;
                    }
                    sink(bytes);
                    *total += len;
                    reader.consume(len);
                }
                // Nothing is left, or the stream has been cut off, which the socket tells.
                Err(_) => return false,
            }
        }
    }

    /// Writes until the socket takes no more. Returns whether nothing is left.
    fn flush(&mut self, tcp: &TcpStream) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Socket(tcp)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

async fn shake_hands(tcp: &TcpStream, tls: &mut Connection, received: &[u8]) -> Result<(), Broken> {
    let mut is_answered = !received.is_empty();
    let mut received = received;
    while !received.is_empty() {
        tls.read_tls(&mut received).map_err(Broken::Io)?;
        tls.process_new_packets().map_err(Broken::Tls)?;
    }
    loop {
        while tls.wants_write() {
            match tls.write_tls(&mut Socket(tcp)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tcp.writable().await.map_err(Broken::Io)?;
                }
                written => _ = written.map_err(Broken::Io)?,
            }
        }
        if !tls.is_handshaking() {
            return Ok(());
        }
        match tls.read_tls(&mut Socket(tcp)) {
            Ok(0) => return Err(Broken::ended(is_answered)),
            Ok(_) => {
                is_answered = true;
                tls.process_new_packets().map_err(Broken::Tls)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tcp.readable().await.map_err(Broken::Io)?;
            }
            Err(error) => return Err(Broken::by(error, is_answered)),
        }
    }
}

impl Broken {
    /// Returns the error of a stream that has ended. `is_answered` says whether the peer has sent anything.
    pub(super) fn ended(is_answered: bool) -> Self {
        Self::by(io::ErrorKind::UnexpectedEof.into(), is_answered)
    }

    fn by(error: io::Error, is_answered: bool) -> Self {
        let is_end = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        );
        if is_end && !is_answered {
            Self::Unanswered(error)
        } else {
            Self::Io(error)
        }
    }
}

/// A source that never has anything.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// A socket whose reads and writes fail with `WouldBlock` instead of waiting.
pub(super) struct Socket<'a>(pub(super) &'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("tcp", &self.tcp)
            .finish_non_exhaustive()
    }
}
