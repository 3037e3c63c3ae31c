//! A network that cannot listen, as that of a browser tab: it dials through another one.

use std::net::SocketAddr;

use bytes::Bytes;
use gossip_transport::NetCredential;
use gossip_transport::net::{Alpn, NetListener, NetTransport};
use gossip_transport::transport_layer::{TransportLayerSocket, TransportLayerTransport};

/// Dials through `T`. Its listener accepts nothing and has no address.
#[derive(Debug, Clone)]
pub(crate) struct Tab<T>(pub(crate) T);

/// The address that a tab binds.
pub(crate) fn nowhere() -> SocketAddr {
    ([0, 0, 0, 0], 0).into()
}

/// Opens the socket of a tab that dials through `network`.
pub(crate) async fn tab_at<T: NetTransport>(
    network: T,
    credential: &NetCredential,
) -> TransportLayerSocket<Tab<T>, Bytes> {
    let network = TransportLayerTransport::new(Tab(network), credential.clone());
    network.open(nowhere()).await.unwrap()
}

#[derive(Debug)]
pub(crate) struct NoListener<L>(std::marker::PhantomData<fn() -> L>);

impl<T: NetTransport> NetTransport for Tab<T> {
    type Listener = NoListener<T::Listener>;
    type Connection = T::Connection;

    async fn create_listener(
        &self,
        _: SocketAddr,
        _: &[Alpn],
        _: &NetCredential,
    ) -> anyhow::Result<Self::Listener> {
        Ok(NoListener(std::marker::PhantomData))
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<T::Connection> {
        self.0.connect(addr, alpn, credential).await
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        self.0.resolve(name).await
    }
}

impl<L: NetListener> NetListener for NoListener<L> {
    type IncomingRequest = L::IncomingRequest;
    type Connection = L::Connection;

    fn local_addr(&self) -> SocketAddr {
        nowhere()
    }

    async fn accept(&self) -> anyhow::Result<L::IncomingRequest> {
        std::future::pending().await
    }
}
