//! The network of a browser tab, as a native program: it dials one URL over a WebSocket, and cannot listen.

use std::net::SocketAddr;

use gossip_transport::NetCredential;
use gossip_transport::net::{Alpn, NetIncomingRequest, NetListener, NetTransport};
use gossip_transport::secure::Endpoints;
use tokio::net::TcpStream;
use tokio_websockets::ClientBuilder;

use super::tab::nowhere;
use super::{ANY_PORT, soon};
use crate::networks::tcp_listener::client::{WebSocketConnection, split};

/// Dials `ws://SEED` followed by a path, whatever the address of the seed is.
#[derive(Debug, Clone)]
pub(crate) struct WebTab {
    pub(crate) path: &'static str,
    /// A cookie of the page's origin.
    pub(crate) cookie: Option<&'static str>,
}

impl NetTransport for WebTab {
    type Listener = NoListener;
    type Connection = WebSocketConnection;

    async fn create_listener(
        &self,
        _: SocketAddr,
        _: &[Alpn],
        _: &NetCredential,
    ) -> anyhow::Result<NoListener> {
        Ok(NoListener)
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<WebSocketConnection> {
        let uri = format!("ws://{addr}{}", self.path);
        let mut builder = ClientBuilder::new().uri(&uri)?;
        if let Some(cookie) = self.cookie {
            builder = builder.add_header("Cookie".parse()?, cookie.parse()?)?;
        }
        let stream = TcpStream::connect(addr).await?;
        let (stream, _answer) = soon(builder.connect_on(stream)).await?;
        let endpoints = Endpoints {
            local: ANY_PORT,
            remote: addr,
        };
        let [alpn, ..] = alpn else {
            anyhow::bail!("no protocol");
        };
        Ok(super::layer::dial_over(split(stream), endpoints, alpn.clone(), credential).await?)
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        Ok(vec![name.parse()?])
    }
}

/// A listener that accepts nothing and has no address.
#[derive(Debug)]
pub(crate) struct NoListener;

/// An incoming connection of [`NoListener`], of which there is none.
#[derive(Debug)]
pub(crate) enum NoRequest {}

impl NetListener for NoListener {
    type IncomingRequest = NoRequest;
    type Connection = WebSocketConnection;

    fn local_addr(&self) -> SocketAddr {
        nowhere()
    }

    async fn accept(&self) -> anyhow::Result<NoRequest> {
        std::future::pending().await
    }
}

impl NetIncomingRequest for NoRequest {
    type Connection = WebSocketConnection;

    fn remote_addr(&self) -> SocketAddr {
        match *self {}
    }

    async fn accept(self) -> anyhow::Result<WebSocketConnection> {
        match self {}
    }
}
