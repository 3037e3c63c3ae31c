//! Dialling, resolving and binding.

use std::io;
use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::BytesMut;
use tokio::net::TcpStream;

use super::admission::Admission;
use super::carrier::{Reader, Writer, raw};
use super::{TcpConfig, TcpConnection, TcpListener, TcpReader, TcpWriter};
use crate::credential::NetCredential;
use crate::net::{Alpn, ConnectError, NetTransport, is_dialable};
use crate::rt;
use crate::secure::{self, Endpoints, Suite};

/// TCP between native nodes, with browsers accepted over WebSocket on the same port.
///
/// Clones share the count of strangers in handshake.
#[derive(Debug, Clone)]
pub struct TcpTransport {
    config: TcpConfig,
    admission: Admission,
}

impl TcpTransport {
    /// With `config`.
    pub fn new(config: TcpConfig) -> Self {
        Self {
            admission: Admission::new(&config),
            config,
        }
    }
}

impl Default for TcpTransport {
    fn default() -> Self {
        Self::new(TcpConfig::default())
    }
}

impl NetTransport for TcpTransport {
    type Listener = TcpListener;
    type Connection = TcpConnection;

    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<TcpListener> {
        TcpListener::bind(
            bind_addr,
            alpn_supported,
            credential,
            &self.config,
            self.admission.clone(),
        )
        .await
        .with_context(|| format!("cannot listen on {bind_addr}"))
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<TcpConnection> {
        if !is_dialable(addr) {
            return Err(ConnectError::NotDialable { addr }.into());
        }
        let limit = self.config.secure.handshake_timeout;
        let stream = rt::timeout(limit, TcpStream::connect(addr))
            .await
            .map_err(|elapsed| ConnectError::Timeout {
                addr,
                after: elapsed.0,
            })?
            .map_err(|source| ConnectError::Io { addr, source })?;
        stream.set_nodelay(true)?;
        let endpoints = Endpoints {
            local: stream.local_addr()?,
            remote: addr,
        };
        if is_own_end(&endpoints) {
            let source = io::ErrorKind::ConnectionRefused.into();
            return Err(ConnectError::Io { addr, source }.into());
        }
        let (reader, writer) = raw::split(stream, BytesMut::new());
        let connection = secure::dial(
            TcpReader(Reader::Raw(reader)),
            TcpWriter(Writer::Raw(writer)),
            endpoints,
            Suite::preferred(),
            alpn_preferred,
            credential,
            &self.config.secure,
        )
        .await?;
        Ok(connection)
    }

    fn max_message_len(&self) -> usize {
        self.config.secure.max_message_len
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        rt::resolve(name).await
    }
}

/// Whether a stream leads from a port to itself. TCP's simultaneous open allows that, and the
/// system may pick a dead peer's port as our own when that lies on this machine: each redial of a
/// node that is down has a chance, and would keep the node from binding its port again.
fn is_own_end(endpoints: &Endpoints) -> bool {
    endpoints.local == endpoints.remote
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_to_itself_is_noticed() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let remote = socket.local_addr().unwrap();
        let stream = socket.connect(remote).await.unwrap();
        let local = stream.local_addr().unwrap();
        assert!(is_own_end(&Endpoints { local, remote }));
    }
}
