//! Frames over a TCP stream.

use std::io;

use crate::secure::{FrameBuffer, FrameEvent, FrameReader, FrameWriter};

/// The reading half.
#[derive(Debug)]
pub struct TcpReader;
/// The writing half.
#[derive(Debug)]
pub struct TcpWriter;

impl FrameReader for TcpReader {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        todo!()
    }
}
impl FrameWriter for TcpWriter {
    async fn write_frames(&mut self, _frames: &mut FrameBuffer) -> io::Result<()> {
        todo!()
    }
    async fn shutdown(&mut self) -> io::Result<()> {
        todo!()
    }
}
