//! TLS 1.3 by rustls on ring, with the floor's framing inside.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::floor::{SplitReader, VectoredWriter};
use super::stream::{Carrier, StreamNode};

/// TLS 1.3 over TCP.
pub type Tls = StreamNode<TlsCarrier>;

/// Carries the floor's frames over a TLS stream.
#[derive(Debug)]
pub struct TlsCarrier;

impl Carrier for TlsCarrier {
    const NAME: &'static str = "TLS 1.3 (rustls)";
    type Reader = Reading;
    type Writer = Writing;

    async fn dial(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        let connector = TlsConnector::from(Arc::clone(&configs()?.0));
        let name = ServerName::try_from("localhost")?;
        Ok(halves(connector.connect(name, stream).await?.into()))
    }

    async fn accept(stream: TcpStream) -> anyhow::Result<(Self::Reader, Self::Writer)> {
        let acceptor = TlsAcceptor::from(Arc::clone(&configs()?.1));
        Ok(halves(acceptor.accept(stream).await?.into()))
    }
}

type Reading = SplitReader<ReadHalf<TlsStream<TcpStream>>>;
type Writing = VectoredWriter<WriteHalf<TlsStream<TcpStream>>>;

fn halves(stream: TlsStream<TcpStream>) -> (Reading, Writing) {
    let (reading, writing) = tokio::io::split(stream);
    (SplitReader::new(reading), VectoredWriter::new(writing))
}

type Configs = (Arc<ClientConfig>, Arc<ServerConfig>);

/// Returns the configuration of the dialling and of the accepting side. Both authenticate with a
/// certificate, as both sides of this crate's connections do.
pub(super) fn configs() -> anyhow::Result<&'static Configs> {
    static CONFIGS: OnceLock<Configs> = OnceLock::new();
    if let Some(configs) = CONFIGS.get() {
        return Ok(configs);
    }
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let private = || PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let certificate = key.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(vec![certificate.clone()], private())?;
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    )
    .build()?;
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], private())?;
    Ok(CONFIGS.get_or_init(|| (Arc::new(client), Arc::new(server))))
}
