//! The floor's framing inside TLS with the settings of this crate.

use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::floor::{SplitReader, VectoredWriter};
use super::stream::{Carrier, StreamNode};
use super::tls_settings;

/// Frames inside TLS.
pub type TlsFrames = StreamNode<TlsFramesCarrier>;

/// Carries the floor's frames over a TLS stream.
#[derive(Debug)]
pub struct TlsFramesCarrier;

type Reading = SplitReader<ReadHalf<TlsStream<TcpStream>>>;
type Writing = VectoredWriter<WriteHalf<TlsStream<TcpStream>>>;

impl Carrier for TlsFramesCarrier {
    const NAME: &'static str = "frames in TLS (tokio-rustls)";
    type Reader = Reading;
    type Writer = Writing;

    async fn dial(stream: TcpStream) -> anyhow::Result<(Reading, Writing)> {
        Ok(halves(tls_settings::dial(stream).await?.into()))
    }

    async fn accept(stream: TcpStream) -> anyhow::Result<(Reading, Writing)> {
        Ok(halves(tls_settings::accept(stream).await?.into()))
    }
}

fn halves(stream: TlsStream<TcpStream>) -> (Reading, Writing) {
    let (reading, writing) = tokio::io::split(stream);
    (SplitReader::new(reading), VectoredWriter::new(writing))
}
