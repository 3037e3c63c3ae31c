//! WebSocket inside TLS on both ends, by tokio-websockets and tokio-rustls; nothing is encrypted
//! inside.

use futures::stream::{ReadyChunks, SplitSink, SplitStream};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_websockets::{ClientBuilder, Config, Message, ServerBuilder, WebSocketStream};

use super::our_websocket::FLUSH_THRESHOLD;
use super::stream::{Carrier, StreamNode};
use super::tls_settings;
use super::websocket::halves;

/// A WebSocket inside TLS.
pub type TlsWebSocket = StreamNode<TlsWebSocketCarrier>;

/// Carries each message as a binary message of a WebSocket inside TLS.
#[derive(Debug)]
pub struct TlsWebSocketCarrier;

type Stream = WebSocketStream<TlsStream<TcpStream>>;

impl Carrier for TlsWebSocketCarrier {
    const NAME: &'static str = "tokio-websockets, wss (tokio-rustls)";
    type Reader = ReadyChunks<SplitStream<Stream>>;
    type Writer = SplitSink<Stream, Message>;

    async fn dial(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        let stream: TlsStream<_> = tls_settings::dial(stream).await?.into();
        let builder = ClientBuilder::new()
            .uri("wss://127.0.0.1/")?
            .config(config());
        Ok(halves(builder.connect_on(stream).await?.0))
    }

    async fn accept(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        let stream: TlsStream<_> = tls_settings::accept(stream).await?.into();
        let builder = ServerBuilder::new().config(config());
        Ok(halves(builder.accept(stream).await?.1))
    }
}

/// Returns the configuration that the client of this crate's WebSocket has. With its default, 8 KiB
/// before a write, a TLS record would be half full.
fn config() -> Config {
    Config::default().flush_threshold(FLUSH_THRESHOLD)
}
