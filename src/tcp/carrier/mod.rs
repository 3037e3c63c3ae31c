//! Frames over an accepted or dialled TCP stream.
//!
//! `raw` carries frames over TCP directly, `websocket` as messages of a WebSocket. `incoming` reads for
//! both, `acks` saves packets of quiet connections, and `readers` counts what all of them hold. The types
//! in this file only dispatch between the two. Invariant: both kinds are the same Rust type, so that all
//! connections of a node are, too.

mod acks;
mod incoming;
pub(super) mod raw;
mod readers;
pub(super) mod websocket;

use std::io;

pub(super) use readers::Readers;
pub use websocket::WebSocketError;

use crate::secure::{FrameBuffer, FrameEvent, FrameReader, FrameWriter, SecureConnection};

/// A secure connection over TCP, either directly or inside a WebSocket.
pub type TcpConnection = SecureConnection<TcpReader, TcpWriter>;

/// The reading half of a TCP connection.
#[derive(Debug)]
pub struct TcpReader(pub(super) Reader);

/// The writing half of a TCP connection.
#[derive(Debug)]
pub struct TcpWriter(pub(super) Writer);

#[derive(Debug)]
pub(super) enum Reader {
    Raw(raw::RawReader),
    // Boxed because it is larger.
    WebSocket(Box<websocket::WebSocketReader>),
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

    fn is_local(&self) -> bool {
        match &self.0 {
            Reader::Raw(reader) => reader.is_local(),
            // Nobody dials these here.
            Reader::WebSocket(_) => false,
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
