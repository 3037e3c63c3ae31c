//! Frames over an accepted or dialled stream, whichever protocol it speaks.
//!
//! It only picks the carrier: `raw` for frames over TCP itself, `websocket` for frames that are
//! messages of a WebSocket. One type serves both, so that a node's connections are of one type.

use std::io;

use crate::secure::{FrameBuffer, FrameEvent, FrameReader, FrameWriter};

pub(super) mod raw;
pub(super) mod websocket;

/// The reading half of a TCP connection.
#[derive(Debug)]
pub struct TcpReader(pub(super) Reader);

/// The writing half of a TCP connection.
#[derive(Debug)]
pub struct TcpWriter(pub(super) Writer);

#[derive(Debug)]
pub(super) enum Reader {
    Raw(raw::RawReader),
    WebSocket(websocket::WebSocketReader),
}

#[derive(Debug)]
pub(super) enum Writer {
    Raw(raw::RawWriter),
    WebSocket(websocket::WebSocketWriter),
}

impl FrameReader for TcpReader {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        match &mut self.0 {
            Reader::Raw(reader) => reader.read_frame().await,
            Reader::WebSocket(reader) => reader.read_frame().await,
        }
    }
}

impl FrameWriter for TcpWriter {
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        match &mut self.0 {
            Writer::Raw(writer) => writer.write_frames(frames).await,
            Writer::WebSocket(writer) => writer.write_frames(frames).await,
        }
    }

    async fn ping(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Writer::Raw(_) => Ok(()),
            Writer::WebSocket(writer) => writer.ping().await,
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Writer::Raw(writer) => writer.shutdown().await,
            Writer::WebSocket(writer) => writer.shutdown().await,
        }
    }
}
