//! Frames as binary messages of an accepted WebSocket (RFC 6455).
//!
//! This is the server's side of an established WebSocket, without extensions. A message is a frame of
//! at most 65,535 bytes; text is refused. Invariants: a frame leaves the caller's buffer only when the
//! queue of what is being written has room for it; the memory that a peer can make this side hold is
//! one message and a few pongs, whether it reads or not.
//!
//! | file | contents |
//! |---|---|
//! | `header` | headers of frames, and masks |
//! | `decoder` | received frames, put together to messages |
//! | `outgoing` | frames that the stream has not taken yet |
//! | `error` | the rules that a peer can break, and their close codes |

mod decoder;
mod error;
mod header;
mod outgoing;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::incoming::Incoming;
use super::readers::Readers;
use crate::rt::sync::Mutex;
use crate::rt::{self, Instant};
use crate::secure::{FrameBuffer, FrameEvent};
use crate::tcp::stream::{Stream, WriteHalf};
use decoder::{Decoded, Decoder};
pub use error::WebSocketError;
use header::Opcode;
use outgoing::Outgoing;

/// Queued bytes above which the writer takes no more frames out of its caller's buffer.
const FLUSH_THRESHOLD: usize = 256 << 10;
/// The most pings that are accepted in a row without a frame between them. Browsers send no pings, and
/// any other honest peer also sends frames.
const MAX_PINGS: usize = 100;
/// The code of a close frame if nothing is wrong.
const NORMAL_CLOSURE: u16 = 1000;
/// The time in which a peer may read a close frame and close the stream.
const LINGER: Duration = Duration::from_secs(1);
/// The most bytes that are read from a peer in that time, and ignored.
const MAX_IGNORED: usize = 256 << 10;

/// Returns the carrier over a WebSocket whose upgrade has been answered. `start` holds the bytes after
/// the request that have been read already.
pub(in crate::tcp) fn split(
    stream: Stream,
    start: BytesMut,
    readers: &Readers,
) -> (WebSocketReader, WebSocketWriter) {
    let (reading, writing) = stream.split();
    let out = Arc::new(Mutex::new(Outgoing::default()));
    let reader = WebSocketReader {
        incoming: Incoming::new(reading, start, readers),
        decoder: Decoder::default(),
        out: Arc::clone(&out),
        pings: 0,
        parting: None,
    };
    let writer = WebSocketWriter {
        stream: writing,
        out,
    };
    (reader, writer)
}

#[derive(Debug)]
pub(in crate::tcp) struct WebSocketReader {
    incoming: Incoming,
    decoder: Decoder,
    out: Arc<Mutex<Outgoing>>,
    // Pings received since the last frame.
    pings: usize,
    parting: Option<Parting>,
}

/// An end for which a close frame has been queued.
#[derive(Debug, Clone, Copy)]
struct Parting {
    /// `None` if the peer has closed the WebSocket in order.
    violation: Option<WebSocketError>,
    until: Instant,
}

#[derive(Debug)]
pub(in crate::tcp) struct WebSocketWriter {
    stream: WriteHalf,
    out: Arc<Mutex<Outgoing>>,
}

impl WebSocketReader {
    pub(super) async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        loop {
            if let Some(parting) = self.parting {
                // Boxed because it is rare: each reader would hold the room for it otherwise.
                return Box::pin(self.part(parting)).await;
            }
            match self.decoder.decode(&mut self.incoming.buffer) {
                Ok(Some(received)) => {
                    if let Some(event) = self.receive(received) {
                        return Ok(Some(event));
                    }
                }
                Ok(None) => {
                    if poll_fn(|cx| self.poll_fill(cx)).await? == 0 {
                        return self.ended();
                    }
                }
                Err(violation) => self.violated(violation),
            }
        }
    }

    fn receive(&mut self, received: Decoded) -> Option<FrameEvent> {
        match received {
            Decoded::Message(frame) => {
                self.pings = 0;
                return Some(FrameEvent::Frame(frame));
            }
            Decoded::Ping(payload) => {
                self.pings += 1;
                if self.pings > MAX_PINGS {
                    self.violated(WebSocketError::TooManyPings { max: MAX_PINGS });
                    return None;
                }
                self.out.lock().answer(payload);
            }
            Decoded::Pong => {}
            Decoded::Close(code) => {
                self.begin_parting(code, None);
                return None;
            }
        }
        // Inside of a message, only its end shows that the peer makes progress: it could keep the
        // connection and a part of a message for ever otherwise.
        let is_between = self.decoder.is_between_messages();
        is_between.then_some(FrameEvent::Activity)
    }

    fn violated(&mut self, violation: WebSocketError) {
        self.begin_parting(Some(violation.close_code()), Some(violation));
    }

    fn begin_parting(&mut self, code: Option<u16>, violation: Option<WebSocketError>) {
        self.out.lock().close(code);
        let now = Instant::now();
        self.parting = Some(Parting {
            violation,
            until: now.checked_add(LINGER).unwrap_or(now),
        });
    }

    /// Sends the close frame, and reads until the peer has closed the stream, since closing a socket
    /// with unread bytes resets the connection, and the peer might not see the close frame.
    async fn part(&mut self, parting: Parting) -> io::Result<Option<FrameEvent>> {
        let leaving = async {
            poll_fn(|cx| self.poll_owed(cx)).await?;
            poll_fn(|cx| self.poll_end(cx)).await?;
            self.incoming.outlet().shut_down()?;
            let mut ignored = 0;
            while ignored < MAX_IGNORED {
                self.incoming.buffer.clear();
                match poll_fn(|cx| self.incoming.poll_fill(0, cx)).await? {
                    0 => break,
                    read => ignored += read,
                }
            }
            io::Result::Ok(())
        };
        let left = parting.until.saturating_duration_since(Instant::now());
        // A peer that does not take its close frame loses nothing else.
        let _ = rt::timeout(left, leaving).await;
        match parting.violation {
            Some(violation) => Err(io::Error::new(io::ErrorKind::InvalidData, violation)),
            None => Ok(None),
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // If it fails, the writer is told by its own write. What has arrived is read first.
        let _ = self.poll_owed(cx);
        self.incoming.poll_fill(self.decoder.memory(), cx)
    }

    /// Writes the pong or the close frame that this side owes.
    fn poll_owed(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outlet = self.incoming.outlet();
        loop {
            {
                let mut out = self.out.lock();
                if !out.is_owed() || out.write(outlet)? {
                    return Poll::Ready(Ok(()));
                }
            }
            ready!(outlet.poll_writable(cx))?;
        }
    }

    /// Writes what TLS has to say at the end, if there is TLS.
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outlet = self.incoming.outlet();
        while !outlet.try_end()? {
            ready!(outlet.poll_writable(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn ended(&self) -> io::Result<Option<FrameEvent>> {
        if self.incoming.buffer.is_empty() && self.decoder.is_between_messages() {
            Ok(None)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    #[cfg(test)]
    fn accept_text(&mut self) {
        self.decoder.accept_text();
    }
}

impl WebSocketWriter {
    pub(super) async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        while !self.write(frames)? {
            self.writable().await?;
        }
        Ok(())
    }

    pub(super) async fn ping(&mut self) -> io::Result<()> {
        // Nothing is left of earlier pings then, so pings do not add up while the peer does not read.
        self.write_frames(&mut FrameBuffer::default()).await?;
        self.out.lock().push(Opcode::Ping, Bytes::new());
        self.write_frames(&mut FrameBuffer::default()).await
    }

    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        loop {
            {
                let mut out = self.out.lock();
                out.close(Some(NORMAL_CLOSURE));
                let outlet = self.stream.outlet();
                if out.write(outlet)? && outlet.try_end()? {
                    return Ok(());
                }
            }
            self.writable().await?;
        }
    }

    /// Waits until the stream takes more. Boxed because it is rare: each task that writes would hold the
    /// room for it otherwise.
    fn writable(&self) -> impl Future<Output = io::Result<()>> {
        Box::pin(self.stream.outlet().writable())
    }

    /// Writes until the stream takes no more. Returns whether everything has been written.
    fn write(&self, frames: &mut FrameBuffer) -> io::Result<bool> {
        let mut out = self.out.lock();
        loop {
            if out.is_closing() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            while out.len() < FLUSH_THRESHOLD && !frames.is_empty() {
                let frame = frames.pop();
                let incomplete = || io::Error::other("the frame buffer ends inside a frame");
                out.push(Opcode::Binary, frame.ok_or_else(incomplete)?);
            }
            if !out.write(self.stream.outlet())? {
                return Ok(false);
            }
            if frames.is_empty() {
                return Ok(true);
            }
        }
    }
}
