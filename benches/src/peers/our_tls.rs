//! This crate over TCP with TLS outside of its own encryption, as names that begin with `tls://` are
//! dialled.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use gossip_transport::net::NetTransport as _;

use super::ours::{CONNECT_LIMIT, OurSendHalf, OurSocket, network_over};
use super::tls_settings;
use crate::peer::Node;

/// A socket of this crate over TLS.
#[derive(Debug)]
pub struct OurTls(Arc<OurSocket>);

impl Node for OurTls {
    const NAME: &'static str = "**gossip-transport**, `tls://`";
    type Message = Bytes;
    type SendHalf = OurSendHalf<Bytes>;
    type From = SocketAddr;

    async fn bind() -> anyhow::Result<Self> {
        let network = network_over(tls_settings::listening()?);
        Ok(Self(Arc::new(network.open("127.0.0.1:0".parse()?).await?)))
    }

    async fn bind_dialler() -> anyhow::Result<Self> {
        let network = network_over(tls_settings::dialling()?);
        Ok(Self(Arc::new(network.open("127.0.0.1:0".parse()?).await?)))
    }

    fn addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// Dials the name, and sends to the address that stands for it. The peer is registered there, since
    /// nobody who is dialled by name may state a loopback address.
    async fn connect(&self, to: SocketAddr) -> anyhow::Result<OurSendHalf<Bytes>> {
        let resolved = self.0.transport().resolve(&format!("tls://{to}")).await?;
        let to = *resolved.first().context("a name without an address")?;
        let outgoing = self.0.get_or_create_outgoing_connection(to)?;
        outgoing.connected(CONNECT_LIMIT).await?;
        self.send_half_to(to)
    }

    #[inline]
    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, Bytes)> {
        Ok(self.0.recv().await?)
    }

    fn send_half_to(&self, to: SocketAddr) -> anyhow::Result<OurSendHalf<Bytes>> {
        let socket = Arc::clone(&self.0);
        Ok(OurSendHalf { socket, to })
    }
}
