//! The network of a browser tab: WebSocket, in a window and in a worker alike.

use std::net::SocketAddr;

use crate::credential::NetCredential;
use crate::net::{Alpn, NetIncomingRequest, NetListener, NetTransport};
use crate::secure::{SecureConfig, SecureConnection};

mod frames;

/// A connection over a WebSocket.
pub type WebSocketConnection = SecureConnection<frames::WebSocketReader, frames::WebSocketWriter>;

/// Limits of the WebSocket network.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WebSocketConfig {
    /// Limits of the secure channel.
    pub secure: SecureConfig,
}

/// WebSocket. Clones share the table of named URLs.
#[derive(Debug, Clone, Default)]
pub struct WebSocketTransport {}

impl WebSocketTransport {
    /// With `config`.
    pub fn new(_config: WebSocketConfig) -> Self {
        todo!()
    }
}

/// Never accepts: a browser cannot listen.
#[derive(Debug)]
pub struct WebSocketListener {}

/// Cannot exist.
#[derive(Debug)]
pub enum WebSocketIncomingRequest {}

impl NetTransport for WebSocketTransport {
    type Listener = WebSocketListener;
    type Connection = WebSocketConnection;
    async fn create_listener(
        &self,
        _bind_addr: SocketAddr,
        _alpn_supported: &[Alpn],
        _credential: &NetCredential,
    ) -> anyhow::Result<WebSocketListener> {
        todo!()
    }
    async fn connect(
        &self,
        _addr: SocketAddr,
        _alpn_preferred: &[Alpn],
        _credential: &NetCredential,
    ) -> anyhow::Result<WebSocketConnection> {
        todo!()
    }
    async fn resolve(&self, _name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        todo!()
    }
}

impl NetListener for WebSocketListener {
    type IncomingRequest = WebSocketIncomingRequest;
    type Connection = WebSocketConnection;
    fn local_addr(&self) -> SocketAddr {
        todo!()
    }
    async fn accept(&self) -> anyhow::Result<WebSocketIncomingRequest> {
        std::future::pending().await
    }
}

impl NetIncomingRequest for WebSocketIncomingRequest {
    type Connection = WebSocketConnection;
    fn remote_addr(&self) -> SocketAddr {
        match *self {}
    }
    async fn accept(self) -> anyhow::Result<WebSocketConnection> {
        match self {}
    }
}
