//! Length-delimited frames by tokio-util's `Framed`, which most authors would start with;
//! plaintext.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::{SinkExt, StreamExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use super::stream::{Carrier, ReadBatch, StreamNode, WriteBatch};

/// tokio-util's `Framed` over TCP.
pub type Framed = StreamNode<FramedCarrier>;

/// Carries messages by tokio-util's length-delimited codec.
#[derive(Debug)]
pub struct FramedCarrier;

impl Carrier for FramedCarrier {
    const NAME: &'static str = "tokio-util Framed, plain";
    type Reader = futures::stream::ReadyChunks<FramedRead<OwnedReadHalf, LengthDelimitedCodec>>;
    type Writer = FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>;

    async fn dial(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        let (reading, writing) = stream.into_split();
        let reader = FramedRead::new(reading, LengthDelimitedCodec::new());
        let writer = FramedWrite::new(writing, LengthDelimitedCodec::new());
        Ok((reader.ready_chunks(256), writer))
    }

    async fn accept(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        Self::dial(stream).await
    }
}

impl ReadBatch for <FramedCarrier as Carrier>::Reader {
    async fn read(&mut self, sink: &mut (impl FnMut(Bytes) + Send)) -> anyhow::Result<bool> {
        let Some(chunk) = self.next().await else {
            return Ok(false);
        };
        for message in chunk {
            sink(message?.freeze());
        }
        Ok(true)
    }
}

impl WriteBatch for <FramedCarrier as Carrier>::Writer {
    async fn write(&mut self, messages: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        for message in messages.drain(..) {
            self.feed(message).await?;
        }
        Ok(SinkExt::<Bytes>::flush(self).await?)
    }
}
