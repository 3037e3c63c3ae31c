//! Dialling, resolving and binding.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::BytesMut;
use tokio::net::TcpStream;

use super::accepted_streams::AcceptedStreams;
use super::admission::Admission;
use super::carrier::{Reader, Readers, TcpConnection, TcpReader, TcpWriter, Writer, raw};
use super::config::TcpConfig;
use super::listener::{Streams, TcpListener, Terms};
#[cfg(feature = "http")]
use super::plain_requests::PlainRequests;
use super::stream::Stream;
use super::tls::{TlsAcceptor, TlsConnector, TlsDialError, TlsName, TlsNames, TlsPolicy};
use crate::credential::NetCredential;
use crate::net::address::is_discard_only;
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
    config: Arc<TcpConfig>,
    admission: Admission,
    readers: Readers,
    memory: ReceiveMemory,
    connector: Arc<TlsConnector>,
    names: TlsNames,
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
            connector: Arc::new(TlsConnector::new(
                config.tls_roots.clone(),
                config.tls_handshake_timeout,
            )),
            names: TlsNames::default(),
            config: Arc::new(config),
        }
    }

    fn tls_policy(&self) -> anyhow::Result<TlsPolicy> {
        let Some(identity) = &self.config.tls else {
            return Ok(TlsPolicy::Off);
        };
        let acceptor = TlsAcceptor::new(identity, self.config.tls_handshake_timeout)?;
        Ok(if self.config.tls_only {
            TlsPolicy::Required(acceptor)
        } else {
            TlsPolicy::Offered(acceptor)
        })
    }

    /// Dials `addr`, and returns the stream without anything inside, and our own address.
    async fn open(&self, addr: SocketAddr) -> anyhow::Result<(Stream, SocketAddr)> {
        let limit = self.config.secure.handshake_timeout;
        // Also an address that stands for a name which was forgotten is not dialable.
        let name = is_discard_only(addr)
            .then(|| self.names.get(addr))
            .flatten();
        let Some(name) = name else {
            if self.config.tls_only {
                // Its port may require TLS, too.
                return Box::pin(self.open_unverified(addr, limit)).await;
            }
            return open_plain(addr, limit).await;
        };
        // Boxed because it is large: the task of each peer would hold the room for it otherwise.
        Box::pin(self.open_tls(addr, &name, limit)).await
    }

    /// Dials `addr`, of which no name is known, with TLS if the peer speaks it.
    async fn open_unverified(
        &self,
        addr: SocketAddr,
        limit: Duration,
    ) -> anyhow::Result<(Stream, SocketAddr)> {
        let stream = dial(addr, limit).await?;
        let local = stream.local_addr()?;
        match self.connector.connect_unverified(stream, addr).await {
            Ok(stream) => Ok((Stream::Tls(Arc::new(stream)), local)),
            Err(error) if error.says_no_tls() => open_plain(addr, limit).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Dials `name`, for which `addr` stands, and runs the TLS handshake.
    async fn open_tls(
        &self,
        addr: SocketAddr,
        name: &TlsName,
        limit: Duration,
    ) -> anyhow::Result<(Stream, SocketAddr)> {
        let addrs = rt::timeout(limit, rt::resolve(name.host_and_port())).await??;
        self.open_first(addr, addrs, name, limit).await
    }

    /// Dials the addresses of `name`, for which `addr` stands, one after the other, until a TLS handshake succeeds. Each has
    /// its share of `limit` for the stream, and for the handshake.
    ///
    /// # Errors
    ///
    /// Fails with the error that says most: the first that a retry cannot help, or else the first of an address that
    /// answered, or else the first. If a retry cannot help at any address that answered, it is the cause of a
    /// [`ConnectError::NotPermitted`].
    async fn open_first(
        &self,
        addr: SocketAddr,
        addrs: Vec<SocketAddr>,
        name: &TlsName,
        limit: Duration,
    ) -> anyhow::Result<(Stream, SocketAddr)> {
        let share = limit / u32::try_from(addrs.len()).unwrap_or(u32::MAX).max(1);
        let mut worst: Option<(Failed, anyhow::Error)> = None;
        let mut may_help = false;
        for addr in addrs {
            let error = match self.open_at(canonical(addr), name, share).await {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            let failed = Failed::read(&error);
            may_help |= failed == Failed::Temporarily;
            if worst.as_ref().is_none_or(|(worst, _)| failed > *worst) {
                worst = Some((failed, error));
            }
        }
        let Some((failed, error)) = worst else {
            anyhow::bail!("{} has no address", name.host_and_port());
        };
        if may_help || failed != Failed::Permanently {
            return Err(error);
        }
        let help = error.to_string();
        Err(error.context(ConnectError::NotPermitted { addr, help }))
    }

    /// Dials one address of `name`, and runs the TLS handshake.
    async fn open_at(
        &self,
        addr: SocketAddr,
        name: &TlsName,
        limit: Duration,
    ) -> anyhow::Result<(Stream, SocketAddr)> {
        let stream = dial(addr, limit).await?;
        let local = stream.local_addr()?;
        let stream = self.connector.connect(stream, name, limit).await?;
        Ok((Stream::Tls(Arc::new(stream)), local))
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
        #[cfg(feature = "http")]
        let (requests, upgraded) = match self.config.http.clone() {
            Some(service) => {
                let (requests, upgraded) = PlainRequests::new(service, self.config.proxies())?;
                (Some(requests), Some(upgraded))
            }
            None => (None, None),
        };
        let accepted = self.config.accepted_streams.as_ref();
        let streams = Streams {
            accepted: accepted.map(AcceptedStreams::take).transpose()?,
            #[cfg(feature = "http")]
            upgraded,
        };
        let terms = Terms {
            #[cfg(feature = "http")]
            requests,
            alpn_supported: alpn_supported.to_vec(),
            credential: credential.clone(),
            secure: self.config.secure.clone(),
            readers: self.readers.clone(),
            memory: self.memory.clone(),
            proxies: self.config.proxies(),
            tls: self.tls_policy()?,
            max_identifying: self.config.max_unauthenticated,
        };
        TcpListener::bind(bind_addr, terms, self.admission.clone(), streams)
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
        let (stream, local) = self.open(addr).await?;
        let endpoints = Endpoints {
            local,
            remote: addr,
        };
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

    /// Resolves `host:port` by DNS. A name that begins with `tls://` is given an address of the prefix 100::/64 (RFC 6666)
    /// that stands for it: `connect` on this transport and its clones accepts that address, resolves the host by DNS, and
    /// requires TLS with a certificate for the host. The 256 such names that were used last are remembered.
    ///
    /// # Errors
    ///
    /// Fails with [`TlsNameError`](super::TlsNameError) if what follows `tls://` is no `host:port`, and if another name
    /// cannot be resolved.
    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        if let Some(name) = TlsName::read(name) {
            return Ok(vec![self.names.remember(name?)]);
        }
        let addrs = rt::resolve(name).await?;
        Ok(addrs.into_iter().map(canonical).collect())
    }

    fn check_name(&self, name: &str) -> anyhow::Result<()> {
        match TlsName::read(name) {
            Some(read) => Ok(read.map(drop)?),
            None => rt::check_name(name),
        }
    }
}

/// How one address of a name has failed. The greater one tells the operator more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Failed {
    /// Nobody answered, such as at an IPv6 address on a machine without IPv6.
    Unanswered,
    /// Somebody answered, and a retry may help.
    Temporarily,
    /// Somebody answered, and a retry cannot help.
    Permanently,
}

impl Failed {
    fn read(error: &anyhow::Error) -> Self {
        match error.downcast_ref::<TlsDialError>() {
            None => Self::Unanswered,
            Some(error) if error.is_permanent() => Self::Permanently,
            Some(_) => Self::Temporarily,
        }
    }
}

/// Dials `addr` without TLS, and returns the stream and our own address.
async fn open_plain(addr: SocketAddr, limit: Duration) -> anyhow::Result<(Stream, SocketAddr)> {
    let stream = dial(addr, limit).await?;
    let local = stream.local_addr()?;
    Ok((stream.into(), local))
}

/// Opens a TCP stream to `addr`.
async fn dial(addr: SocketAddr, limit: Duration) -> anyhow::Result<TcpStream> {
    if !is_dialable(addr) {
        return Err(ConnectError::NotDialable { addr }.into());
    }
    let stream = rt::timeout(limit, TcpStream::connect(addr))
        .await
        .map_err(|elapsed| ConnectError::Timeout {
            addr,
            after: elapsed.0,
        })?
        .map_err(|source| ConnectError::Io { addr, source })?;
    stream.set_nodelay(true)?;
    check_other_end(&stream, addr)?;
    Ok(stream)
}

/// Checks that a stream that was dialled at `addr` leads to another socket.
///
/// # Errors
///
/// Fails if both ends are the same socket, as if nobody listened there. TCP's simultaneous open allows
/// that: when a dead peer's address is on this machine, the system may pick the port that is being
/// dialled as the local port. Each redial of a node that is down has a chance of it, and the stream
/// would keep that node from binding its port again.
fn check_other_end(stream: &TcpStream, addr: SocketAddr) -> anyhow::Result<()> {
    if stream.local_addr()? == addr {
        let source = io::ErrorKind::ConnectionRefused.into();
        return Err(ConnectError::Io { addr, source }.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;
    use crate::credential::Trust;
    use crate::tcp::tls::{TlsIdentity, TlsRoots};

    #[tokio::test]
    async fn a_dial_that_reaches_its_own_socket_is_refused() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let addr = socket.local_addr().unwrap();
        let stream = socket.connect(addr).await.unwrap();
        let error = check_other_end(&stream, addr).unwrap_err();
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
        check_other_end(&stream, addr).unwrap();
    }

    /// Accepts connections with a certificate for 127.0.0.1. Returns the address, the certificate, and the running listener.
    async fn server() -> (SocketAddr, String, rt::Task) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let identity = TlsIdentity::from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
        let acceptor = TlsAcceptor::new(&identity, Duration::from_secs(20)).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = rt::Task::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = acceptor.accept(stream, BytesMut::new()).await;
            }
        });
        (addr, pem, task)
    }

    #[tokio::test]
    async fn each_address_of_a_name_is_dialled_until_one_has_its_certificate() {
        let (good, pem, _good) = server().await;
        let (bad, _, _bad) = server().await;
        // The queue of the system accepts connections, and nobody answers.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent_addr = silent.local_addr().unwrap();
        let roots = TlsRoots::from_pem(pem.as_bytes()).unwrap();
        let here = TcpTransport::new(TcpConfig::default().with_tls_roots(roots));
        let name = TlsName::read("tls://127.0.0.1:7946").unwrap().unwrap();
        let stands_for_it = here.names.remember(name.clone());
        let open = async |addrs: &[SocketAddr], limit| {
            let opened = here.open_first(stands_for_it, addrs.to_vec(), &name, limit);
            opened
                .await
                .map(|(stream, _)| stream.tcp().unwrap().peer_addr().unwrap())
        };
        let limit = Duration::from_secs(20);
        assert_eq!(open(&[good, bad], limit).await.unwrap(), good);
        assert_eq!(open(&[bad, good], limit).await.unwrap(), good);
        // Its share of the time is a quarter, and that of a handshake no longer.
        let began = tokio::time::Instant::now();
        let addrs = [silent_addr, good, bad, bad];
        assert_eq!(open(&addrs, Duration::from_secs(8)).await.unwrap(), good);
        assert!(began.elapsed() < Duration::from_secs(8));

        let error = open(&[bad, bad], limit).await.unwrap_err();
        let refused = error.downcast_ref();
        let is_permanent = matches!(refused, Some(ConnectError::NotPermitted { addr, .. }) if *addr == stands_for_it);
        assert!(is_permanent, "{error:#}");
        // Nobody answers at the other address, whose port is taken without listening. That does not hide what is wrong here.
        let closed = tokio::net::TcpSocket::new_v4().unwrap();
        closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let closed_addr = closed.local_addr().unwrap();
        for addrs in [[bad, closed_addr], [closed_addr, bad]] {
            let error = open(&addrs, limit).await.unwrap_err();
            let Some(ConnectError::NotPermitted { help, .. }) = error.downcast_ref() else {
                panic!("{error:#}");
            };
            assert!(help.contains("unknown authority"), "{help}");
        }
        // The address that is silent may have its certificate the next time.
        let limit = Duration::from_secs(6);
        let addrs = [silent_addr, bad, silent_addr, closed_addr, silent_addr];
        let (first, second, third, fourth) = tokio::join!(
            open(&addrs[0..2], limit),
            open(&addrs[1..3], limit),
            open(&addrs[2..4], limit),
            open(&addrs[3..5], limit),
        );
        for (opened, is_permanent) in [
            (first, true),
            (second, true),
            (third, false),
            (fourth, false),
        ] {
            let error = opened.unwrap_err();
            assert!(error.downcast_ref::<ConnectError>().is_none(), "{error:#}");
            let shown: &TlsDialError = error.downcast_ref().unwrap();
            assert_eq!(shown.is_permanent(), is_permanent, "{shown}");
        }
        assert!(
            open(&[], limit)
                .await
                .unwrap_err()
                .to_string()
                .contains("no address")
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
