//! QUIC by quinn, with a stream for each message.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};
use tokio::sync::mpsc;

use super::tls;
use crate::peer::{Node, SendHalf};

/// The inbox holds at most this many messages.
const INBOX: usize = 1000;
/// A message has at most this many bytes.
const LONGEST: usize = 1 << 20;

/// A QUIC endpoint.
#[derive(Debug)]
pub struct Quic {
    endpoint: Endpoint,
    addr: SocketAddr,
    inbox: mpsc::Receiver<(usize, Bytes)>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Messages, each with the index of its connection in `send_halves`.
    enter: mpsc::Sender<(usize, Bytes)>,
    send_halves: Mutex<Vec<QuicSendHalf>>,
}

/// A connection.
#[derive(Debug, Clone)]
pub struct QuicSendHalf(Connection);

impl SendHalf<Bytes> for QuicSendHalf {
    #[inline]
    async fn send(&self, message: Bytes) -> anyhow::Result<()> {
        let mut stream = self.0.open_uni().await?;
        stream.write_chunk(message).await?;
        Ok(stream.finish()?)
    }
}

impl Node for Quic {
    const NAME: &'static str = "QUIC (quinn), a stream a message";
    type Message = Bytes;
    type SendHalf = QuicSendHalf;
    type From = usize;

    async fn bind() -> anyhow::Result<Self> {
        let (client, server) = tls::configs()?;
        let server = QuicServerConfig::try_from(Arc::clone(server))?;
        let server = ServerConfig::with_crypto(Arc::new(server));
        let mut endpoint = Endpoint::server(server, "127.0.0.1:0".parse()?)?;
        let client = QuicClientConfig::try_from(Arc::clone(client))?;
        endpoint.set_default_client_config(ClientConfig::new(Arc::new(client)));
        let (enter, inbox) = mpsc::channel(INBOX);
        let send_halves = Mutex::default();
        let shared = Arc::new(Shared { enter, send_halves });
        let (accepting, entering) = (endpoint.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                let entering = Arc::clone(&entering);
                tokio::spawn(async move {
                    serve(&incoming.await?, entering);
                    anyhow::Ok(())
                });
            }
        });
        Ok(Self {
            addr: endpoint.local_addr()?,
            endpoint,
            inbox,
            shared,
        })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<QuicSendHalf> {
        let connection = self.endpoint.connect(to, "localhost")?.await?;
        serve(&connection, Arc::clone(&self.shared));
        Ok(QuicSendHalf(connection))
    }

    #[inline]
    async fn recv(&mut self) -> anyhow::Result<(usize, Bytes)> {
        self.inbox.recv().await.context("the node is gone")
    }

    fn send_half_to(&self, from: usize) -> anyhow::Result<QuicSendHalf> {
        let send_halves = self.shared.send_halves.lock();
        let send_halves = send_halves.unwrap_or_else(PoisonError::into_inner);
        send_halves.get(from).cloned().context("no such connection")
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        self.endpoint.close(0_u32.into(), b"");
    }
}

/// Starts a task that accepts the streams of a connection. Each stream is read by a task of its
/// own, since streams arrive independently of each other.
fn serve(connection: &Connection, shared: Arc<Shared>) {
    let connection = connection.clone();
    let index = {
        let mut send_halves = shared
            .send_halves
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        send_halves.push(QuicSendHalf(connection.clone()));
        send_halves.len() - 1
    };
    tokio::spawn(async move {
        while let Ok(mut stream) = connection.accept_uni().await {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                let message = stream.read_to_end(LONGEST).await?;
                shared.enter.send((index, message.into())).await?;
                anyhow::Ok(())
            });
        }
    });
}
