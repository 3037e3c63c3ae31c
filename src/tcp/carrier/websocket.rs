//! Frames as binary messages of an accepted WebSocket.
//!
//! The protocol (RFC 6455) is tokio-websockets' work: fragments, masks, closing, answers to pings.
//! This file turns its messages into frames and refuses what can never be one. Invariants: a frame
//! leaves the caller's buffer only once the stream has taken it whole; what the stream queues for a
//! peer that reads nothing is bounded.

use std::io;

use bytes::BytesMut;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio_websockets::{CloseCode, Config, Error, Limits, Message, ServerBuilder, WebSocketStream};

use crate::secure::{FrameBuffer, FrameEvent, MAX_FRAME_LEN};
use crate::tcp::sniff::SniffedStream;

/// Bytes queued before the stream writes by itself; a batch of frames ends with a flush anyway.
const FLUSH_THRESHOLD: usize = 256 << 10;
/// Pings from the peer without a frame among them. The stream queues an answer to each, whether the
/// peer reads it or not; a browser sends none at all, and a peer that lives sends frames.
const MAX_PINGS: usize = 100;

type Stream = WebSocketStream<SniffedStream>;

#[derive(Debug)]
pub(in crate::tcp) struct WebSocketReader {
    stream: SplitStream<Stream>,
    // Since the last frame.
    pings: usize,
}

#[derive(Debug)]
pub(in crate::tcp) struct WebSocketWriter(SplitSink<Stream, Message>);

/// Answers the upgrade request that `stream` begins with.
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
                "a text message on a WebSocket that carries binary frames",
            ));
        }
        if message.is_ping() {
            self.pings += 1;
            if self.pings > MAX_PINGS {
                return Err(violation("a flood of pings"));
            }
        }
        // A ping (answered by the stream), a pong, or the close frame that the end follows.
        Ok(Some(FrameEvent::Activity))
    }
}

impl WebSocketWriter {
    pub(super) async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        while !frames.is_empty() {
            // Ready first: cancelled while waiting, the frame is still in the buffer.
            std::future::poll_fn(|cx| self.0.poll_ready_unpin(cx))
                .await
                .map_err(into_io)?;
            let Some(frame) = frames.pop() else {
                return Err(io::Error::other("a frame buffer that ends inside a frame"));
            };
            self.0
                .start_send_unpin(Message::binary(frame))
                .map_err(into_io)?;
        }
        // Also what an earlier, cancelled call has handed over.
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
