//! A factory for sockets: a network, a credential and a configuration.

use std::marker::PhantomData;
use std::net::SocketAddr;

use super::{TransportLayerConfig, TransportLayerSocket};
use crate::credential::NetCredential;
use crate::message::{ChitchatMessage, Message};
use crate::net::NetTransport;

/// Opens sockets that carry messages of type `M` on a network, with a credential and a configuration.
#[derive(Debug, Clone)]
pub struct TransportLayerTransport<T, M = ChitchatMessage> {
    transport: T,
    credential: NetCredential,
    config: TransportLayerConfig,
    message: PhantomData<fn() -> M>,
}

impl<T: NetTransport, M: Message> TransportLayerTransport<T, M> {
    /// Creates a transport with the default configuration.
    pub fn new(transport: T, credential: NetCredential) -> Self {
        Self::with_config(transport, credential, TransportLayerConfig::default())
    }

    /// Creates a transport with `config`. If it names no application protocol, that of the message type
    /// is used.
    pub fn with_config(
        transport: T,
        credential: NetCredential,
        config: TransportLayerConfig,
    ) -> Self {
        Self {
            transport,
            credential,
            config,
            message: PhantomData,
        }
    }

    /// Binds `listen_addr` and starts to accept connections. In a browser, which cannot listen, the
    /// unspecified address with port 0 opens a socket that only dials.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be bound, or with a [`ConfigError`](crate::ConfigError) if a value
    /// of the configuration is out of bounds.
    pub async fn open(
        &self,
        listen_addr: SocketAddr,
    ) -> anyhow::Result<TransportLayerSocket<T, M>> {
        TransportLayerSocket::new(
            self.transport.clone(),
            self.credential.clone(),
            listen_addr,
            self.config.clone(),
        )
        .await
    }
}
