//! Frames over a browser WebSocket.

use std::io;

use crate::secure::{FrameBuffer, FrameEvent, FrameReader, FrameWriter};

/// The reading half.
#[derive(Debug)]
pub struct WebSocketReader;
/// The writing half.
#[derive(Debug)]
pub struct WebSocketWriter;

impl FrameReader for WebSocketReader {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        todo!()
    }
}
impl FrameWriter for WebSocketWriter {
    async fn write_frames(&mut self, _frames: &mut FrameBuffer) -> io::Result<()> {
        todo!()
    }
    async fn shutdown(&mut self) -> io::Result<()> {
        todo!()
    }
}
