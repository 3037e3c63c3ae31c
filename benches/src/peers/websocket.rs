//! WebSocket on both ends, by tokio-websockets; plaintext.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::stream::{ReadyChunks, SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, Message, ServerBuilder, WebSocketStream};

use super::stream::{Carrier, ReadBatch, StreamNode, WriteBatch};

/// A plain WebSocket.
pub type WebSocket = StreamNode<WebSocketCarrier>;

/// Carries each message as a binary message of a WebSocket.
#[derive(Debug)]
pub struct WebSocketCarrier;

type Stream = WebSocketStream<TcpStream>;

impl Carrier for WebSocketCarrier {
    const NAME: &'static str = "tokio-websockets, plain";
    type Reader = ReadyChunks<SplitStream<Stream>>;
    type Writer = SplitSink<Stream, Message>;

    async fn dial(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        let builder = ClientBuilder::new().uri("ws://localhost/")?;
        Ok(halves(builder.connect_on(stream).await?.0))
    }

    async fn accept(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        Ok(halves(ServerBuilder::new().accept(stream).await?.1))
    }
}

fn halves(stream: Stream) -> (ReadyChunks<SplitStream<Stream>>, SplitSink<Stream, Message>) {
    let (writer, reader) = stream.split();
    (reader.ready_chunks(256), writer)
}

impl ReadBatch for ReadyChunks<SplitStream<Stream>> {
    async fn read(&mut self, sink: &mut (impl FnMut(Bytes) + Send)) -> anyhow::Result<bool> {
        let Some(chunk) = self.next().await else {
            return Ok(false);
        };
        for message in chunk {
            sink(message?.into_payload().into());
        }
        Ok(true)
    }
}

impl WriteBatch for SplitSink<Stream, Message> {
    async fn write(&mut self, messages: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        for message in messages.drain(..) {
            self.feed(Message::binary(message)).await?;
        }
        Ok(self.flush().await?)
    }
}
