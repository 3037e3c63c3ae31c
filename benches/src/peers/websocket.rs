//! WebSocket on both ends, by tokio-websockets; plaintext.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::stream::{ReadyChunks, SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, Message, ServerBuilder, WebSocketStream};

use super::stream::{Carrier, ReadBatch, StreamNode, WriteBatch};

/// A plain WebSocket.
pub type WebSocket = StreamNode<WebSocketCarrier>;

/// Carries each message as a binary message of a WebSocket.
#[derive(Debug)]
pub struct WebSocketCarrier;

/// The halves of a WebSocket over a stream `S`.
pub(super) type Halves<S> = (
    ReadyChunks<SplitStream<WebSocketStream<S>>>,
    SplitSink<WebSocketStream<S>, Message>,
);

impl Carrier for WebSocketCarrier {
    const NAME: &'static str = "tokio-websockets, plain";
    type Reader = ReadyChunks<SplitStream<WebSocketStream<TcpStream>>>;
    type Writer = SplitSink<WebSocketStream<TcpStream>, Message>;

    async fn dial(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        let builder = ClientBuilder::new().uri("ws://localhost/")?;
        Ok(halves(builder.connect_on(stream).await?.0))
    }

    async fn accept(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        Ok(halves(ServerBuilder::new().accept(stream).await?.1))
    }
}

pub(super) fn halves<S>(stream: WebSocketStream<S>) -> Halves<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (writer, reader) = stream.split();
    (reader.ready_chunks(256), writer)
}

impl<S> ReadBatch for ReadyChunks<SplitStream<WebSocketStream<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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

impl<S> WriteBatch for SplitSink<WebSocketStream<S>, Message>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn write(&mut self, messages: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        for message in messages.drain(..) {
            self.feed(Message::binary(message)).await?;
        }
        Ok(self.flush().await?)
    }
}
