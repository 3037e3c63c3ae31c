//! The floor: TCP as fast as it gets without a protocol, a cipher or limits.
//!
//! Each message follows its length in 4 bytes. Small messages are copied into one buffer, large
//! ones go out as slices of one vectored write. What is read is split into messages without a copy.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::poll_fn;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::stream::{Carrier, ReadBatch, StreamNode, WriteBatch, cut};

/// Raw TCP.
pub type Floor = StreamNode<FloorCarrier>;

/// Messages shorter than this, in bytes, are copied together.
const COPY: usize = 4 << 10;
/// Bytes of copied messages that are written at a time.
const CHUNK: usize = 256 << 10;
/// Bytes that a read asks for.
const READ: usize = 128 << 10;
const LENGTH_LEN: usize = 4;

/// Carries messages over a plain TCP stream.
#[derive(Debug)]
pub struct FloorCarrier;

/// Splits the messages off a stream of bytes.
#[derive(Debug)]
pub struct SplitReader<R> {
    stream: R,
    buffer: BytesMut,
}

/// Writes messages as slices of one vectored write.
#[derive(Debug)]
pub struct VectoredWriter<W> {
    stream: W,
    parts: Vec<Bytes>,
    small: BytesMut,
}

impl Carrier for FloorCarrier {
    const NAME: &'static str = "floor: raw TCP";
    type Reader = SplitReader<OwnedReadHalf>;
    type Writer = VectoredWriter<OwnedWriteHalf>;

    async fn dial(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        let (reading, writing) = stream.into_split();
        Ok((SplitReader::new(reading), VectoredWriter::new(writing)))
    }

    async fn accept(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        Self::dial(stream).await
    }
}

impl<R> SplitReader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }
}

impl<R: AsyncRead + Unpin + Send + 'static> ReadBatch for SplitReader<R> {
    async fn read(&mut self, sink: &mut (impl FnMut(Bytes) + Send)) -> anyhow::Result<bool> {
        loop {
            let mut any = false;
            while let Some(message) = split_message(&mut self.buffer) {
                sink(message);
                any = true;
            }
            if any {
                return Ok(true);
            }
            self.buffer.reserve(READ);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(false)
                } else {
                    Err(cut().into())
                };
            }
        }
    }
}

/// Splits the next message off `buffer`, if all of it is there.
pub(super) fn split_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let len = u32::from_be_bytes(*buffer.first_chunk::<LENGTH_LEN>()?) as usize;
    if buffer.len() < LENGTH_LEN + len {
        return None;
    }
    buffer.advance(LENGTH_LEN);
    Some(buffer.split_to(len).freeze())
}

impl<W> VectoredWriter<W> {
    pub(super) fn new(stream: W) -> Self {
        Self {
            stream,
            parts: Vec::new(),
            small: BytesMut::new(),
        }
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> WriteBatch for VectoredWriter<W> {
    async fn write(&mut self, messages: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        for message in messages.drain(..) {
            self.small.put_u32(message.len() as u32);
            if message.len() < COPY {
                self.small.put_slice(&message);
                if self.small.len() >= CHUNK {
                    self.parts.push(self.small.split().freeze());
                }
            } else {
                self.parts.push(self.small.split().freeze());
                self.parts.push(message);
            }
        }
        if !self.small.is_empty() {
            self.parts.push(self.small.split().freeze());
        }
        let Self { stream, parts, .. } = self;
        let mut first = 0;
        while first < parts.len() {
            let mut written =
                poll_fn(|cx| poll_write(Pin::new(&mut *stream), cx, &parts[first..])).await?;
            while first < parts.len() && written >= parts[first].len() {
                written -= parts[first].len();
                first += 1;
            }
            if first < parts.len() {
                parts[first].advance(written);
            }
        }
        parts.clear();
        poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await?;
        Ok(())
    }
}

fn poll_write<W: AsyncWrite>(
    stream: Pin<&mut W>,
    cx: &mut Context<'_>,
    parts: &[Bytes],
) -> Poll<std::io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); 64];
    let count = parts.len().min(slices.len());
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    stream.poll_write_vectored(cx, &slices[..count])
}
