//! A client of TLS 1.2 that asks to renegotiate, which TLS 1.3 has abolished.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certificates::Ca;
use super::hostile::hello;
use crate::support::soon;

/// The type of records with messages of a handshake.
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;

/// One direction of the records of TLS 1.2, with ChaCha20-Poly1305 (RFC 7905).
struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    next: u64,
}

impl Direction {
    fn new((next, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } = secrets else {
            panic!("another cipher");
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).unwrap();
        Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().unwrap(),
            next,
        }
    }

    fn parameters(&mut self, kind: u8, len: usize) -> (Nonce, Aad<[u8; 13]>) {
        let (mut nonce, mut aad) = (self.iv, [0; 13]);
        for (byte, number) in nonce[4..].iter_mut().zip(self.next.to_be_bytes()) {
            *byte ^= number;
        }
        aad[..8].copy_from_slice(&self.next.to_be_bytes());
        aad[8..11].copy_from_slice(&[kind, 3, 3]);
        aad[11..].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        self.next += 1;
        (Nonce::assume_unique_for_key(nonce), Aad::from(aad))
    }

    fn seal(&mut self, kind: u8, contents: &[u8]) -> Vec<u8> {
        let (nonce, aad) = self.parameters(kind, contents.len());
        let mut sealed = contents.to_vec();
        self.key
            .seal_in_place_append_tag(nonce, aad, &mut sealed)
            .unwrap();
        let len = u16::try_from(sealed.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3][..], &len, &sealed].concat()
    }

    fn open(&mut self, kind: u8, sealed: &mut [u8]) -> Vec<u8> {
        let (nonce, aad) = self.parameters(kind, sealed.len() - CHACHA20_POLY1305.tag_len());
        self.key.open_in_place(nonce, aad, sealed).unwrap().to_vec()
    }
}

/// Connects to a member by TLS 1.2, and asks so often to renegotiate. Returns the alerts that are the
/// answers, `None` for the end of the stream.
pub(super) async fn renegotiate(ca: &Ca, addr: SocketAddr, times: usize) -> Vec<Option<[u8; 2]>> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256];
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(ca.store())
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let (mut stream, session) = soon(connecting).await.unwrap().into_inner();
    let secrets = session.dangerous_extract_secrets().unwrap();
    let (mut sending, mut receiving) = (Direction::new(secrets.tx), Direction::new(secrets.rx));
    let hello = hello(ca, &[]).await;
    let mut alerts = Vec::new();
    for _ in 0..times {
        let record = sending.seal(HANDSHAKE, &hello[5..]);
        stream.write_all(&record).await.unwrap();
        let answer = async {
            let mut header = [0; 5];
            stream.read_exact(&mut header).await.ok()?;
            assert_eq!(header[0], ALERT);
            let mut sealed = vec![0; u16::from_be_bytes([header[3], header[4]]).into()];
            stream.read_exact(&mut sealed).await.unwrap();
            Some(receiving.open(ALERT, &mut sealed).try_into().unwrap())
        };
        alerts.push(soon(answer).await);
    }
    alerts
}
