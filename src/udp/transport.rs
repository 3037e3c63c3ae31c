//! Dialling, resolving and binding.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use anyhow::Context as _;

use super::config::UdpConfig;
use super::connection::UdpConnection;
use super::endpoint::{Counters, Endpoint, UdpCounts};
use super::error::UdpError;
use super::listener::UdpListener;
use crate::credential::NetCredential;
use crate::message::{ChitchatMessage, MAX_DATAGRAM_LEN, Message as _};
use crate::net::{
    Alpn, ConnectError, NetTransport, canonical, check_listenable, is_dialable, unspecified_like,
};
use crate::rt;
use crate::rt::sync::{Mutex, MutexGuard};

/// Datagrams as upstream chitchat sends them: **not encrypted, and accepted from anyone**.
///
/// Of the credential only the identity is used, as the local identity of connections; there is no
/// secret to prove and nothing is encrypted.
///
/// Clones are the same network and share its counters.
#[derive(Debug, Clone, Default)]
pub struct PlaintextUdpTransport(Arc<Network>);

#[derive(Debug, Default)]
struct Network {
    config: UdpConfig,
    endpoints: Mutex<Vec<Weak<Endpoint>>>,
    counters: Arc<Counters>,
}

impl PlaintextUdpTransport {
    /// Returns a transport with the given limits.
    ///
    /// Invalid limits are reported by
    /// [`create_listener`](NetTransport::create_listener) and [`connect`](NetTransport::connect).
    pub fn new(config: UdpConfig) -> Self {
        Self(Arc::new(Network {
            config,
            ..Network::default()
        }))
    }

    /// Returns the number of datagrams that did not become messages, over all sockets.
    pub fn counts(&self) -> UdpCounts {
        self.0.counters.counts()
    }

    fn endpoints(&self) -> MutexGuard<'_, Vec<Weak<Endpoint>>> {
        let mut endpoints = self.0.endpoints.lock();
        endpoints.retain(|endpoint| endpoint.strong_count() > 0);
        endpoints
    }

    fn bound_at(&self, local_addr: SocketAddr) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints();
        let mut live = endpoints.iter().filter_map(Weak::upgrade);
        live.find(|endpoint| endpoint.local_addr() == canonical(local_addr))
    }

    async fn bind(&self, addr: SocketAddr) -> anyhow::Result<Arc<Endpoint>> {
        let (config, counters) = (self.0.config.clone(), Arc::clone(&self.0.counters));
        let endpoint = Endpoint::bind(addr, config, counters).await;
        let endpoint = endpoint.with_context(|| format!("cannot bind {addr}/UDP"))?;
        self.endpoints().push(Arc::downgrade(&endpoint));
        Ok(endpoint)
    }

    /// Fails if the limits are invalid or `alpn` does not contain chitchat's protocol.
    fn check(&self, alpn: &[Alpn]) -> anyhow::Result<()> {
        self.0.config.validate()?;
        if alpn.contains(&ChitchatMessage::ALPN) {
            return Ok(());
        }
        let alpn = alpn.to_vec();
        Err(UdpError::NotChitchat { alpn }.into())
    }
}

impl NetTransport for PlaintextUdpTransport {
    type Listener = UdpListener;
    type Connection = UdpConnection;

    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<UdpListener> {
        self.check(alpn_supported)?;
        check_listenable(bind_addr)?;
        let endpoint = self.bind(bind_addr).await?;
        tracing::warn!(
            addr = %endpoint.local_addr(),
            max_bytes_per_second = self.0.config.max_unechoed_bytes_per_second,
            "listening on plaintext UDP: not encrypted, every peer is accepted, and forged addresses are \
             answered"
        );
        Ok(UdpListener::new(endpoint, credential.identity()))
    }

    /// Dials from a port of its own, which only this connection uses.
    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<UdpConnection> {
        self.connect_from(unspecified_like(addr), addr, alpn_preferred, credential)
            .await
    }

    async fn connect_from(
        &self,
        local_addr: SocketAddr,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<UdpConnection> {
        self.check(alpn_preferred)?;
        if !is_dialable(addr) {
            return Err(ConnectError::NotDialable { addr }.into());
        }
        let endpoint = match self.bound_at(local_addr) {
            Some(endpoint) => endpoint,
            None => self.bind(local_addr).await?,
        };
        let flow = endpoint.flow(canonical(addr))?;
        Ok(UdpConnection::new(endpoint, flow, credential.identity()))
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        let addrs = rt::resolve(name).await?;
        Ok(addrs.into_iter().map(canonical).collect())
    }

    fn check_name(&self, name: &str) -> anyhow::Result<()> {
        rt::check_name(name)
    }

    fn max_message_len(&self) -> usize {
        MAX_DATAGRAM_LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;
    use crate::credential::Trust;

    #[tokio::test]
    async fn listening_and_dialling_report_an_invalid_configuration() {
        let transport = PlaintextUdpTransport::new(UdpConfig::default().with_max_pending_flows(0));
        let credential = NetCredential::generate(Trust::dangerously_anyone());
        let addr = ([127, 0, 0, 1], 0).into();
        let alpn = [ChitchatMessage::ALPN];
        let listened = transport.create_listener(addr, &alpn, &credential).await;
        let dialled = transport.connect(addr, &alpn, &credential).await;
        for error in [listened.unwrap_err(), dialled.unwrap_err()] {
            let error: ConfigError = error.downcast().unwrap();
            assert_eq!(error.field, "max_pending_flows");
        }
    }
}
