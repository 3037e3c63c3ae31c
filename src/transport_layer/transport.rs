//! What opens sockets.

use std::marker::PhantomData;
use std::net::SocketAddr;

use super::{TransportLayerConfig, TransportLayerSocket};
use crate::credential::NetCredential;
use crate::message::{ChitchatMessage, Message};
use crate::net::NetTransport;

/// A network, a credential and a configuration: opens sockets that carry messages of type `M`.
#[derive(Debug, Clone)]
pub struct TransportLayerTransport<T, M = ChitchatMessage> {
    transport: T,
    credential: NetCredential,
    config: TransportLayerConfig,
    message: PhantomData<fn() -> M>,
}

impl<T: NetTransport, M: Message> TransportLayerTransport<T, M> {
    /// With the default configuration.
    pub fn new(transport: T, credential: NetCredential) -> Self {
        Self::with_config(transport, credential, TransportLayerConfig::default())
    }

    /// With `config`; if it names no protocol, the message type's own is used.
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

    /// Binds `listen_addr` and starts accepting. In a browser, which cannot listen, the
    /// unspecified address with port 0 gives a socket that dials only.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
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
