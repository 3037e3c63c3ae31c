//! The listener of a browser, which never accepts a connection.
//!
//! It exists because the transport layer opens a listener for each socket. Invariant: a
//! [`WebSocketIncomingRequest`] cannot exist.

use std::net::SocketAddr;

use super::error::CannotListen;
use super::frames::WebSocketConnection;
use crate::net::{NetIncomingRequest, NetListener};

/// A listener that never accepts a connection, because a browser cannot listen.
#[derive(Debug)]
pub struct WebSocketListener {
    local_addr: SocketAddr,
}

impl WebSocketListener {
    /// Fails unless `addr` is the unspecified address with port 0.
    pub(super) fn bind(addr: SocketAddr) -> Result<Self, CannotListen> {
        if !addr.ip().is_unspecified() || addr.port() != 0 {
            return Err(CannotListen { addr });
        }
        Ok(Self { local_addr: addr })
    }
}

/// An incoming connection in a browser. It has no values.
#[derive(Debug)]
pub enum WebSocketIncomingRequest {}

impl NetListener for WebSocketListener {
    type IncomingRequest = WebSocketIncomingRequest;
    type Connection = WebSocketConnection;

    fn local_addr(&self) -> SocketAddr {
        self.local_addr
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
