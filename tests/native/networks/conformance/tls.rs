//! The TCP network with TLS around every connection.

use std::net::SocketAddr;
use std::sync::LazyLock;

use gossip_transport::NetCredential;
use gossip_transport::net::{Alpn, NetTransport, is_dialable};
use gossip_transport::tcp::{TcpConfig, TcpConnection, TcpListener, TcpTransport};

use super::fixtures::{Fixture, Tcp};
use crate::tls::certificates::Ca;

/// The configuration of both hosts: a certificate for loopback, and the authority that has issued it.
static CONFIG: LazyLock<TcpConfig> = LazyLock::new(|| {
    let ca = Ca::new();
    let config = ca.issue(&["127.0.0.1"]).config();
    config.with_tls_only(true).with_tls_roots(ca.roots())
});

pub(crate) struct Tls;

/// Dials every address with TLS.
#[derive(Clone)]
pub(crate) struct TlsTransport(TcpTransport);

impl Fixture for Tls {
    type Transport = TlsTransport;

    fn hosts() -> (TlsTransport, TlsTransport) {
        let host = || TlsTransport(TcpTransport::new(CONFIG.clone()));
        (host(), host())
    }

    fn bind_addr() -> SocketAddr {
        Tcp::bind_addr()
    }

    fn dead_addr() -> SocketAddr {
        Tcp::dead_addr()
    }

    async fn dialled(addr: SocketAddr) -> SocketAddr {
        stand_in(&TcpTransport::default(), addr).await
    }
}

/// Returns the address that stands for `addr` dialled with TLS.
async fn stand_in(transport: &TcpTransport, addr: SocketAddr) -> SocketAddr {
    transport.resolve(&format!("tls://{addr}")).await.unwrap()[0]
}

impl NetTransport for TlsTransport {
    type Listener = TcpListener;
    type Connection = TcpConnection;

    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<TcpListener> {
        let listening = self
            .0
            .create_listener(bind_addr, alpn_supported, credential);
        listening.await
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<TcpConnection> {
        let to = if is_dialable(addr) {
            stand_in(&self.0, addr).await
        } else {
            addr
        };
        self.0.connect(to, alpn_preferred, credential).await
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        self.0.resolve(name).await
    }

    fn max_message_len(&self) -> usize {
        self.0.max_message_len()
    }
}
