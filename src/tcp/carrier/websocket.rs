//! Frames as binary messages of an accepted WebSocket.
//!
//! tokio-websockets implements the protocol (RFC 6455): fragments, masks, closing and answers to
//! pings. This file converts its messages to frames and refuses messages that cannot be frames.
//! Invariants: a frame leaves the caller's buffer only when the stream has accepted all of it; the
//! memory that the stream queues for a peer that reads nothing is bounded.

use std::io;

use bytes::BytesMut;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio_websockets::{CloseCode, Config, Error, Limits, Message, ServerBuilder, WebSocketStream};

use crate::secure::{FrameBuffer, FrameEvent, MAX_FRAME_LEN};
use crate::tcp::sniff::SniffedStream;

/// Queued bytes at which the stream starts to write without a flush. Each batch of frames ends with
/// a flush.
const FLUSH_THRESHOLD: usize = 256 << 10;
/// The most pings that are accepted in a row without a frame between them. The stream queues an
/// answer to each ping even if the peer does not read, so this bounds that queue. Browsers send no
/// pings, and any other honest peer also sends frames.
const MAX_PINGS: usize = 100;

type Stream = WebSocketStream<SniffedStream>;

#[derive(Debug)]
pub(in crate::tcp) struct WebSocketReader {
    stream: SplitStream<Stream>,
    // Pings received since the last frame.
    pings: usize,
}

#[derive(Debug)]
pub(in crate::tcp) struct WebSocketWriter(SplitSink<Stream, Message>);

/// Answers the upgrade request at the start of `stream` and returns the carrier over the WebSocket.
///
/// # Errors
///
/// Fails if the request is malformed, after a `400 Bad Request` response, or if the stream breaks.
pub(in crate::tcp) async fn upgrade(
    stream: SniffedStream,
) -> io::Result<(WebSocketReader, WebSocketWriter)> {
    let (_request, stream) = ServerBuilder::new()
        .limits(Limits::default().max_payload_len(Some(MAX_FRAME_LEN)))
        .config(Config::default().flush_threshold(FLUSH_THRESHOLD))
        .accept(stream)
        .await
        .map_err(into_io)?;
    let (writer, stream) = stream.split();
    let reader = WebSocketReader { stream, pings: 0 };
    Ok((reader, WebSocketWriter(writer)))
}

impl WebSocketReader {
    pub(super) async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        let Some(message) = self.stream.next().await else {
            return Ok(None);
        };
        let message = message.map_err(into_io)?;
        if message.is_binary() {
            self.pings = 0;
            let frame = BytesMut::from(message.into_payload());
            return Ok(Some(FrameEvent::Frame(frame)));
        }
        if message.is_text() {
            return Err(violation(
                "received a text message on a WebSocket that carries binary frames",
            ));
        }
        if message.is_ping() {
            self.pings += 1;
            if self.pings > MAX_PINGS {
                return Err(violation("received too many pings without a frame"));
            }
        }
        // A ping, which the stream has answered, a pong, or a close frame, which ends the stream.
        Ok(Some(FrameEvent::Activity))
    }
}

impl WebSocketWriter {
    pub(super) async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        while !frames.is_empty() {
            // A frame is taken only when the stream is ready, so a call that is cancelled while it
            // waits leaves the frame in the buffer.
            std::future::poll_fn(|cx| self.0.poll_ready_unpin(cx))
                .await
                .map_err(into_io)?;
            let Some(frame) = frames.pop() else {
                return Err(io::Error::other("the frame buffer ends inside a frame"));
            };
            self.0
                .start_send_unpin(Message::binary(frame))
                .map_err(into_io)?;
        }
        // This also flushes frames that an earlier, cancelled call has passed to the stream.
        self.0.flush().await.map_err(into_io)
    }

    pub(super) async fn ping(&mut self) -> io::Result<()> {
        self.0
            .send(Message::ping(bytes::Bytes::new()))
            .await
            .map_err(into_io)
    }

    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.0
            .send(Message::close(Some(CloseCode::NORMAL_CLOSURE), ""))
            .await
            .map_err(into_io)
    }
}

fn violation(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::PayloadTooLong { .. } | Error::Protocol(_) | Error::Upgrade(_) => {
            io::Error::new(io::ErrorKind::InvalidData, error)
        }
        other => io::Error::other(other),
    }
}
