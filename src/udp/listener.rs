//! Flows from new addresses, as incoming connections.
//!
//! It has no queue of its own; the endpoint holds the pending flows. Invariant: an endpoint accepts
//! flows from new addresses only while its listener exists.

use std::net::SocketAddr;
use std::sync::Arc;

use super::connection::UdpConnection;
use super::endpoint::Endpoint;
use crate::credential::Identity;
use crate::net::{NetConnection as _, NetIncomingRequest, NetListener};

/// A bound UDP port. Dropping it refuses peers that have not been accepted, and frees the port once
/// all connections over it are dropped as well.
#[derive(Debug)]
pub struct UdpListener {
    endpoint: Arc<Endpoint>,
    identity: Identity,
}

impl UdpListener {
    pub(super) fn new(endpoint: Arc<Endpoint>, identity: Identity) -> Self {
        endpoint.set_listening(true);
        Self { endpoint, identity }
    }
}

impl Drop for UdpListener {
    fn drop(&mut self) {
        self.endpoint.set_listening(false);
    }
}

impl NetListener for UdpListener {
    type IncomingRequest = UdpIncomingRequest;
    type Connection = UdpConnection;

    fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    async fn accept(&self) -> anyhow::Result<UdpIncomingRequest> {
        let flow = self.endpoint.next_pending().await?;
        let endpoint = Arc::clone(&self.endpoint);
        let connection = UdpConnection::new(endpoint, flow, self.identity);
        Ok(UdpIncomingRequest(connection))
    }
}

/// A new address that has sent at least one message. Dropping it drops its messages.
#[derive(Debug)]
pub struct UdpIncomingRequest(UdpConnection);

impl NetIncomingRequest for UdpIncomingRequest {
    type Connection = UdpConnection;

    fn remote_addr(&self) -> SocketAddr {
        self.0.remote_addr()
    }

    /// Returns `false`: nobody proves anything.
    fn needs_handshake(&self) -> bool {
        false
    }

    async fn accept(self) -> anyhow::Result<UdpConnection> {
        Ok(self.0)
    }
}
