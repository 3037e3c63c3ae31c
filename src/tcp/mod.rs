//! The network of a native node: TCP, with WebSocket accepted on the same port.

use std::net::SocketAddr;

use crate::credential::NetCredential;
use crate::net::{Alpn, NetIncomingRequest, NetListener, NetTransport};
use crate::secure::{SecureConfig, SecureConnection};

mod frames;

/// A connection over TCP, raw or inside a WebSocket.
pub type TcpConnection = SecureConnection<frames::TcpReader, frames::TcpWriter>;

/// Limits of the TCP network.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TcpConfig {
    /// Limits of the secure channel.
    pub secure: SecureConfig,
    /// Connections in handshake at a time, in all. Default 256.
    pub max_unauthenticated: usize,
    /// Connections in handshake at a time, from one address. Default 64.
    pub max_unauthenticated_per_ip: usize,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            secure: SecureConfig::default(),
            max_unauthenticated: 256,
            max_unauthenticated_per_ip: 64,
        }
    }
}

/// TCP. Clones share limits.
#[derive(Debug, Clone, Default)]
pub struct TcpTransport {}

impl TcpTransport {
    /// With `config`.
    pub fn new(_config: TcpConfig) -> Self {
        todo!()
    }
}

/// A bound port.
#[derive(Debug)]
pub struct TcpListener {}

/// A peer that connected.
#[derive(Debug)]
pub struct TcpIncomingRequest {}

impl NetTransport for TcpTransport {
    type Listener = TcpListener;
    type Connection = TcpConnection;
    async fn create_listener(
        &self,
        _bind_addr: SocketAddr,
        _alpn_supported: &[Alpn],
        _credential: &NetCredential,
    ) -> anyhow::Result<TcpListener> {
        todo!()
    }
    async fn connect(
        &self,
        _addr: SocketAddr,
        _alpn_preferred: &[Alpn],
        _credential: &NetCredential,
    ) -> anyhow::Result<TcpConnection> {
        todo!()
    }
    async fn resolve(&self, _name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        todo!()
    }
}

impl NetListener for TcpListener {
    type IncomingRequest = TcpIncomingRequest;
    type Connection = TcpConnection;
    fn local_addr(&self) -> SocketAddr {
        todo!()
    }
    async fn accept(&self) -> anyhow::Result<TcpIncomingRequest> {
        todo!()
    }
}

impl NetIncomingRequest for TcpIncomingRequest {
    type Connection = TcpConnection;
    fn remote_addr(&self) -> SocketAddr {
        todo!()
    }
    async fn accept(self) -> anyhow::Result<TcpConnection> {
        todo!()
    }
}
