//! TLS on the port of the TCP network, and dialling with TLS. Uses real sockets.

mod bad_input;
mod carriers;
pub(crate) mod certificates;
mod dialling;
mod hostile;
mod identity;
mod reload;
mod renegotiation;
mod resumption;
mod truncated;
mod validation;

use gossip_transport::net::NetTransport as _;
use gossip_transport::tcp::{TcpConfig, TcpConnection, TcpTransport, TlsRoots};

use crate::networks::tcp_listener::client::{ALPN, Server};
use crate::support::{member, soon};

/// Dials `server` as `tls://host:port`, trusting `roots`.
pub(crate) async fn dial(
    server: &Server,
    host: &str,
    roots: TlsRoots,
) -> anyhow::Result<TcpConnection> {
    dial_port(server, host, server.addr.port(), roots).await
}

async fn dial_port(
    server: &Server,
    host: &str,
    port: u16,
    roots: TlsRoots,
) -> anyhow::Result<TcpConnection> {
    let transport = TcpTransport::new(TcpConfig::default().with_tls_roots(roots));
    let credential = member(&server.secret);
    soon(async {
        let addrs = transport.resolve(&format!("tls://{host}:{port}")).await?;
        transport.connect(addrs[0], &[ALPN], &credential).await
    })
    .await
}
