//! The TLS of all peers that are compared inside TLS: one certificate, and rustls on aws-lc-rs with its
//! default ciphers, as this crate configures it.
//!
//! The server presents an ECDSA P-256 certificate for 127.0.0.1, which the client trusts by itself;
//! clients present none, and resume no session. [`negotiated`] shows that the sides agree on the same
//! cipher whichever of them is this crate's.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use gossip_transport::net::NetTransport as _;
use gossip_transport::tcp::{TcpConfig, TcpTransport, TlsIdentity, TlsRoots};
use gossip_transport::{NetCredential, Trust};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, CommonState, HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::ours::{OurSocket, network_over, secret};

const HOST: &str = "127.0.0.1";
/// What comes inside TLS, as this crate states it.
const ALPN: &[u8] = b"http/1.1";
/// A handshake of [`negotiated`] that takes longer has stalled.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// The settings of both sides, for this crate and for tokio-rustls.
struct Settings {
    identity: TlsIdentity,
    /// Its clones share the authorities once they are loaded, as the dials of one node do.
    dialling: TcpTransport,
    client: TlsConnector,
    server: TlsAcceptor,
    name: ServerName<'static>,
}

fn settings() -> anyhow::Result<&'static Settings> {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    if let Some(settings) = SETTINGS.get() {
        return Ok(settings);
    }
    let settings = create()?;
    Ok(SETTINGS.get_or_init(|| settings))
}

fn create() -> anyhow::Result<Settings> {
    let certified = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
    let (pem, key_pem) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let identity = TlsIdentity::from_pem(pem.as_bytes(), key_pem.as_bytes())?;
    let trusted = TlsRoots::from_pem(pem.as_bytes())?;
    let dialling = TcpTransport::new(TcpConfig::default().with_tls_roots(trusted));

    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    client.alpn_protocols = vec![ALPN.to_vec()];
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Settings {
        identity,
        dialling,
        client: Arc::new(client).into(),
        server: Arc::new(server).into(),
        name: ServerName::try_from(HOST)?,
    })
}

/// Returns this crate's network with the certificate. It accepts nothing but TLS, so that no peer can be
/// measured without it by mistake.
pub(super) fn listening() -> anyhow::Result<TcpTransport> {
    let config = TcpConfig::default().with_tls(Some(settings()?.identity.clone()));
    Ok(TcpTransport::new(config.with_tls_only(true)))
}

/// Returns this crate's network that trusts the certificate.
pub(super) fn dialling() -> anyhow::Result<TcpTransport> {
    Ok(settings()?.dialling.clone())
}

/// Runs the client's side of a handshake by tokio-rustls.
pub(super) async fn dial(stream: TcpStream) -> anyhow::Result<client::TlsStream<TcpStream>> {
    let Settings { client, name, .. } = settings()?;
    Ok(client.connect(name.clone(), stream).await?)
}

/// Runs the server's side of a handshake by tokio-rustls.
pub(super) async fn accept(stream: TcpStream) -> anyhow::Result<server::TlsStream<TcpStream>> {
    Ok(settings()?.server.accept(stream).await?)
}

/// What the two sides of a handshake have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// Version, cipher suite, group of the key exchange, and whether a session was resumed.
    text: String,
}

impl Negotiated {
    /// The only result of a handshake with which peers are compared.
    pub fn expected() -> Self {
        let text = "TLSv1_3, TLS13_AES_256_GCM_SHA384, X25519, Full";
        Self { text: text.into() }
    }

    fn of(state: &CommonState) -> anyhow::Result<Self> {
        let version = state.protocol_version().context("no version")?;
        let suite = state.negotiated_cipher_suite().context("no cipher")?;
        let group = state.negotiated_key_exchange_group().context("no group")?;
        let kind: HandshakeKind = state.handshake_kind().context("no handshake")?;
        Ok(Self {
            text: format!(
                "{version:?}, {:?}, {:?}, {kind:?}",
                suite.suite(),
                group.name()
            ),
        })
    }
}

impl std::fmt::Display for Negotiated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Runs handshakes between all pairs of sides that are measured, two of each pair, and returns what
/// the second ones have agreed on: they would be the ones to resume a session.
pub async fn negotiated() -> anyhow::Result<Vec<(&'static str, Negotiated)>> {
    let probes = async {
        Ok(vec![
            (
                "this crate's listener, tokio-rustls dials",
                ours_accepts().await?,
            ),
            (
                "tokio-rustls accepts, this crate dials",
                ours_dials().await?,
            ),
            ("tokio-rustls on both sides", theirs().await?),
        ])
    };
    tokio::time::timeout(PROBE_LIMIT, probes)
        .await
        .context("a handshake stalls")?
}

async fn ours_accepts() -> anyhow::Result<Negotiated> {
    let network = network_over::<_, Bytes>(listening()?);
    let socket: OurSocket = network.open("127.0.0.1:0".parse()?).await?;
    let mut first = dial(TcpStream::connect(socket.local_addr()).await?).await?;
    // Is answered and closed, since it asks for no upgrade.
    first
        .write_all(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
        .await?;
    read_tickets(first).await;
    let second = dial(TcpStream::connect(socket.local_addr()).await?).await?;
    Negotiated::of(second.get_ref().1)
}

async fn ours_dials() -> anyhow::Result<Negotiated> {
    let (to, accepting) = accept_two().await?;
    let network = dialling()?;
    let to = network.resolve(&format!("tls://{to}")).await?;
    let to = *to.first().context("a name without an address")?;
    let credential = NetCredential::generate(Trust::secret(secret()));
    for _ in 0..2 {
        // Fails once TLS is there, since nobody runs the secure channel inside of it.
        let dialled = network.connect(to, &[], &credential).await;
        anyhow::ensure!(
            dialled.is_err(),
            "a stream without a secure channel is accepted"
        );
    }
    accepting.await?
}

async fn theirs() -> anyhow::Result<Negotiated> {
    let (to, accepting) = accept_two().await?;
    let first = dial(TcpStream::connect(to).await?).await?;
    read_tickets(first).await;
    let _second = dial(TcpStream::connect(to).await?).await?;
    accepting.await?
}

/// Reads until the other side has closed the stream. What it sends first are the tickets with which a
/// session could be resumed.
async fn read_tickets(mut stream: client::TlsStream<TcpStream>) {
    // The other side closes some streams without TLS's own end.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Accepts two streams by tokio-rustls, one after the other, closes each after the handshake, and
/// returns what the second has agreed on.
async fn accept_two() -> anyhow::Result<(SocketAddr, JoinHandle<anyhow::Result<Negotiated>>)> {
    let listener = TcpListener::bind((HOST, 0)).await?;
    let addr = listener.local_addr()?;
    let accepting = tokio::spawn(async move {
        drop(accept(listener.accept().await?.0).await?);
        let second = accept(listener.accept().await?.0).await?;
        Negotiated::of(second.get_ref().1)
    });
    Ok((addr, accepting))
}
