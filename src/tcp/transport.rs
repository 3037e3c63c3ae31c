//! Dialling, resolving and binding.

use std::io;
use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::BytesMut;
use tokio::net::TcpStream;

use super::admission::Admission;
use super::carrier::{Reader, Readers, TcpConnection, TcpReader, TcpWriter, Writer, raw};
use super::config::TcpConfig;
use super::listener::{TcpListener, Terms};
use super::notices::Notices;
use crate::credential::NetCredential;
use crate::net::{
    Alpn, ConnectError, NetTransport, PartialStats, canonical, check_listenable, is_dialable,
};
use crate::rt;
use crate::secure::{self, Endpoints, HandshakeParams, ReceiveMemory, Suite};

/// TCP between native nodes. Its listeners also accept browsers, over WebSocket on the same port.
///
/// Clones share the limits on unauthenticated connections and on messages that have arrived in part.
#[derive(Debug, Clone)]
pub struct TcpTransport {
    config: TcpConfig,
    admission: Admission,
    readers: Readers,
    memory: ReceiveMemory,
}

impl TcpTransport {
    /// Returns a transport with the given limits.
    ///
    /// Invalid limits are reported by
    /// [`create_listener`](NetTransport::create_listener) and [`connect`](NetTransport::connect).
    pub fn new(config: TcpConfig) -> Self {
        let memory = config.secure.receive_memory();
        Self {
            admission: Admission::new(&config),
            readers: Readers::new(memory.stats().max_bytes),
            memory,
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
        self.config.validate()?;
        check_listenable(bind_addr)?;
        let terms = Terms {
            alpn_supported: alpn_supported.to_vec(),
            credential: credential.clone(),
            secure: self.config.secure.clone(),
            readers: self.readers.clone(),
            memory: self.memory.clone(),
            notices: Notices::default(),
            proxies: self.config.proxies(),
            max_identifying: self.config.max_unauthenticated,
        };
        TcpListener::bind(bind_addr, terms, self.admission.clone())
            .await
            .with_context(|| format!("cannot listen on {bind_addr}"))
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<TcpConnection> {
        self.config.validate()?;
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
        let endpoints = ends_of_dial(&stream, addr)?;
        let (reader, writer) = raw::split(stream, BytesMut::new(), &self.readers);
        let reader = TcpReader(Reader::Raw(reader));
        let writer = TcpWriter(Writer::Raw(writer));
        let params = HandshakeParams {
            endpoints,
            alpn: alpn_preferred,
            credential,
            config: &self.config.secure,
            memory: &self.memory,
        };
        Ok(secure::dial(reader, writer, Suite::preferred(), &params).await?)
    }

    fn partial_stats(&self) -> PartialStats {
        PartialStats {
            part_record_bytes: self.readers.held_bytes(),
            ..self.memory.stats()
        }
    }

    fn max_message_len(&self) -> usize {
        self.config.secure.max_message_len
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        let addrs = rt::resolve(name).await?;
        Ok(addrs.into_iter().map(canonical).collect())
    }

    fn check_name(&self, name: &str) -> anyhow::Result<()> {
        rt::check_name(name)
    }
}

/// Returns the ends of a stream that was dialled at `addr`.
///
/// # Errors
///
/// Fails if both ends are the same socket, as if nobody listened there. TCP's simultaneous open allows
/// that: when a dead peer's address is on this machine, the system may pick the port that is being
/// dialled as the local port. Each redial of a node that is down has a chance of it, and the stream
/// would keep that node from binding its port again.
fn ends_of_dial(stream: &TcpStream, addr: SocketAddr) -> anyhow::Result<Endpoints> {
    let local = stream.local_addr()?;
    if local == addr {
        let source = io::ErrorKind::ConnectionRefused.into();
        return Err(ConnectError::Io { addr, source }.into());
    }
    Ok(Endpoints {
        local,
        remote: addr,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;
    use crate::credential::Trust;

    #[tokio::test]
    async fn a_dial_that_reaches_its_own_socket_is_refused() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let addr = socket.local_addr().unwrap();
        let stream = socket.connect(addr).await.unwrap();
        let error = ends_of_dial(&stream, addr).unwrap_err();
        let Some(ConnectError::Io { addr: of, source }) = error.downcast_ref() else {
            panic!("{error}");
        };
        assert_eq!(
            (*of, source.kind()),
            (addr, io::ErrorKind::ConnectionRefused)
        );
        // Another port of the same host is another socket.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stream = TcpStream::connect(addr).await.unwrap();
        let ends = ends_of_dial(&stream, addr).unwrap();
        assert_eq!(
            (ends.local, ends.remote),
            (stream.local_addr().unwrap(), addr)
        );
    }

    #[tokio::test]
    async fn listening_and_dialling_report_an_invalid_configuration() {
        let transport = TcpTransport::new(TcpConfig::default().with_max_unauthenticated(0));
        let credential = NetCredential::generate(Trust::dangerously_anyone());
        let addr = ([127, 0, 0, 1], 0).into();
        let listened = transport.create_listener(addr, &[], &credential).await;
        let dialled = transport.connect(addr, &[], &credential).await;
        for error in [listened.unwrap_err(), dialled.unwrap_err()] {
            let error: ConfigError = error.downcast().unwrap();
            assert_eq!(error.field, "max_unauthenticated");
        }
    }
}
