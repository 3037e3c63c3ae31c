//! What is asked for by name: dialling, resolving, binding.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use anyhow::Context as _;

use super::endpoint::{Counters, Endpoint};
use super::{UdpConnection, UdpCounts, UdpListener};
use crate::credential::NetCredential;
use crate::message::{ChitchatMessage, MAX_DATAGRAM_LEN, Message as _};
use crate::net::{Alpn, ConnectError, NetTransport, is_dialable, unspecified_like};
use crate::rt;
use crate::rt::sync::{Mutex, MutexGuard};

/// Datagrams as upstream chitchat sends them: **not encrypted, and from anyone**.
///
/// The credential is not used: it has nothing to protect. See the module.
///
/// Clones are the same network, and share its counters.
#[derive(Debug, Clone, Default)]
pub struct PlaintextUdpTransport(Arc<Network>);

#[derive(Debug, Default)]
struct Network {
    config: UdpConfig,
    endpoints: Mutex<Vec<Weak<Endpoint>>>,
    counters: Arc<Counters>,
}

/// Limits of [`PlaintextUdpTransport`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UdpConfig {
    /// Strangers that have sent a message and wait to be let in; another one's is dropped. Default
    /// 128.
    pub max_waiting_strangers: usize,
    /// Messages of one peer that wait to be read. Default 256.
    pub max_messages_per_peer: usize,
    /// Bytes of one peer that wait to be read. Default 1 MiB.
    pub max_bytes_per_peer: usize,
}

impl Default for UdpConfig {
    fn default() -> Self {
        Self {
            max_waiting_strangers: 128,
            max_messages_per_peer: 256,
            max_bytes_per_peer: 1 << 20,
        }
    }
}

/// Why a socket cannot be on this network, or a message cannot be sent over it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UdpError {
    /// It carries chitchat's messages and no other protocol's.
    #[error("plaintext UDP carries chitchat's messages only, not those of {alpn:?}")]
    NotChitchat {
        /// What was asked for.
        alpn: Vec<Alpn>,
    },
    /// The system would not send a datagram. A retry may help.
    #[error("cannot send a datagram to {to}: {source}")]
    Send {
        /// To whom.
        to: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The port has failed for good.
    #[error("the port has failed: {0}")]
    Failed(Arc<io::Error>),
}

impl PlaintextUdpTransport {
    /// With `config`.
    pub fn new(config: UdpConfig) -> Self {
        Self(Arc::new(Network {
            config,
            ..Network::default()
        }))
    }

    /// Datagrams that did not become messages, of all sockets.
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
        live.find(|endpoint| endpoint.local_addr() == local_addr)
    }

    async fn bind(&self, addr: SocketAddr) -> anyhow::Result<Arc<Endpoint>> {
        let (config, counters) = (self.0.config.clone(), Arc::clone(&self.0.counters));
        let endpoint = Endpoint::bind(addr, config, counters).await;
        let endpoint = endpoint.with_context(|| format!("cannot bind {addr}/UDP"))?;
        self.endpoints().push(Arc::downgrade(&endpoint));
        Ok(endpoint)
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
        check_protocol(alpn_supported)?;
        let endpoint = self.bind(bind_addr).await?;
        tracing::warn!(
            addr = %endpoint.local_addr(),
            "listening for plaintext UDP: nothing is encrypted and everyone is let in"
        );
        Ok(UdpListener::new(endpoint, credential.identity()))
    }

    /// From a port of its own.
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
        check_protocol(alpn_preferred)?;
        if !is_dialable(addr) {
            return Err(ConnectError::NotDialable { addr }.into());
        }
        let endpoint = match self.bound_at(local_addr) {
            Some(endpoint) => endpoint,
            None => self.bind(local_addr).await?,
        };
        Ok(UdpConnection::dialled(
            endpoint,
            addr,
            credential.identity(),
        )?)
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        rt::resolve(name).await
    }

    fn max_message_len(&self) -> usize {
        MAX_DATAGRAM_LEN
    }
}

fn check_protocol(alpn: &[Alpn]) -> Result<(), UdpError> {
    if alpn.contains(&ChitchatMessage::ALPN) {
        return Ok(());
    }
    let alpn = alpn.to_vec();
    Err(UdpError::NotChitchat { alpn })
}
