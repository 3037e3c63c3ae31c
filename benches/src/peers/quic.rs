//! QUIC (quinn) with a stream for each message.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};
use tokio::sync::mpsc;

use super::tls;
use crate::peer::{Link, Node};

const QUEUE: usize = 1000;
const LONGEST: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct Quic {
    endpoint: Endpoint,
    addr: SocketAddr,
    inbox: mpsc::Receiver<(QuicLink, Bytes)>,
    enter: mpsc::Sender<(QuicLink, Bytes)>,
}

/// A connection.
#[derive(Debug, Clone)]
pub struct QuicLink(Connection);

impl Link for QuicLink {
    async fn send(&self, message: Bytes) -> anyhow::Result<()> {
        let mut stream = self.0.open_uni().await?;
        stream.write_chunk(message).await?;
        Ok(stream.finish()?)
    }
}

impl Node for Quic {
    const NAME: &'static str = "QUIC (quinn), a stream a message";
    type Link = QuicLink;
    type From = QuicLink;

    async fn bind() -> anyhow::Result<Self> {
        let (client, server) = tls::configs()?;
        let server = QuicServerConfig::try_from(Arc::clone(server))?;
        let server = ServerConfig::with_crypto(Arc::new(server));
        let mut endpoint = Endpoint::server(server, "127.0.0.1:0".parse()?)?;
        let client = QuicClientConfig::try_from(Arc::clone(client))?;
        endpoint.set_default_client_config(ClientConfig::new(Arc::new(client)));
        let (enter, inbox) = mpsc::channel(QUEUE);
        let (accepting, entering) = (endpoint.clone(), enter.clone());
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                let entering = entering.clone();
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
            enter,
        })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<QuicLink> {
        let connection = self.endpoint.connect(to, "localhost")?.await?;
        serve(&connection, self.enter.clone());
        Ok(QuicLink(connection))
    }

    async fn recv(&mut self) -> anyhow::Result<(QuicLink, Bytes)> {
        self.inbox.recv().await.context("the node is gone")
    }

    fn link_to(&self, from: QuicLink) -> QuicLink {
        from
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        self.endpoint.close(0_u32.into(), b"");
    }
}

fn serve(connection: &Connection, enter: mpsc::Sender<(QuicLink, Bytes)>) {
    let connection = connection.clone();
    tokio::spawn(async move {
        while let Ok(mut stream) = connection.accept_uni().await {
            let (enter, link) = (enter.clone(), QuicLink(connection.clone()));
            tokio::spawn(async move {
                let message = stream.read_to_end(LONGEST).await?;
                enter.send((link, message.into())).await?;
                anyhow::Ok(())
            });
        }
    });
}
