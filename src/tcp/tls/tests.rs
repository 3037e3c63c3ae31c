//! Both ends of a TLS stream of this module, over a socket.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use bytes::BytesMut;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ConnectionTrafficSecrets, ServerConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::rt::{self, Task};
use crate::tcp::stream::{Stream, WriteHalf};

const PATIENCE: Duration = Duration::from_secs(20);

/// Returns a certificate for 127.0.0.1 and its key, as PEM.
fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Returns the server's end and the client's.
pub(in crate::tcp) async fn pair() -> (Arc<TlsStream>, Arc<TlsStream>) {
    let (pem, key) = certificate();
    let identity = TlsIdentity::from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
    let acceptor = TlsAcceptor::new(&identity, PATIENCE).unwrap();
    let connector = TlsConnector::new(TlsRoots::from_pem(pem.as_bytes()).unwrap(), PATIENCE);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let name = TlsName::read(&format!("tls://{addr}")).unwrap().unwrap();
    let dialling = async {
        let stream = TcpStream::connect(addr).await.unwrap();
        // As all streams of this crate.
        stream.set_nodelay(true).unwrap();
        connector.connect(stream, &name, PATIENCE).await.unwrap()
    };
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        let accepted = acceptor.accept(stream, BytesMut::new()).await;
        accepted.map_err(|(_, error)| error).unwrap()
    };
    let (client, server) = tokio::join!(dialling, accepting);
    (Arc::new(server), Arc::new(client))
}

/// Reads once, or fails if nothing arrives.
async fn read(stream: &TlsStream, into: &mut Vec<u8>) -> io::Result<usize> {
    let mut sink = |bytes: &[u8]| into.extend_from_slice(bytes);
    let reading = poll_fn(|cx| stream.poll_read(1, &mut sink, cx));
    rt::timeout(PATIENCE, reading).await.unwrap()
}

async fn read_to_end(stream: &TlsStream) -> (Vec<u8>, io::Result<usize>) {
    let mut received = Vec::new();
    loop {
        match read(stream, &mut received).await {
            Ok(1..) => {}
            end => return (received, end),
        }
    }
}

#[tokio::test]
async fn a_stream_ends_in_order_only_with_a_close_notify() {
    for in_order in [true, false] {
        let (server, client) = pair().await;
        let (_reading, mut writing) = Stream::Tls(client).split();
        let WriteHalf::Tls(half) = &writing else {
            panic!("{writing:?}");
        };
        half.write_all(&mut BytesMut::from(&b"all"[..]))
            .await
            .unwrap();
        if in_order {
            writing.shutdown().await.unwrap();
        }
        drop(writing);
        for _ in 0..2 {
            let (received, end) = read_to_end(&server).await;
            assert!(received == b"all" || received.is_empty());
            match end {
                Ok(read) => assert!(in_order && read == 0),
                Err(error) => {
                    let inner = error.get_ref().and_then(|e| e.downcast_ref());
                    assert_eq!((inner, in_order), (Some(&TlsError::Truncated), false));
                }
            }
            // The end is not waited for again.
            let ready = server.poll_read_ready(&mut Context::from_waker(std::task::Waker::noop()));
            assert!(ready.is_ready());
        }
    }
}

#[tokio::test]
async fn what_the_peer_does_not_read_is_bounded_and_arrives_in_the_end() {
    let (server, client) = pair().await;
    let mut taken = 0;
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as u8;
    loop {
        let piece: Vec<u8> = (taken..taken + 50_000).map(byte).collect();
        match server
            .try_write_vectored(&[io::IoSlice::new(&piece[..9]), io::IoSlice::new(&piece[9..])])
        {
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
        assert!(taken < 64 << 20, "the socket has no end");
    }
    assert!(!server.try_flush().unwrap());
    let ending = async {
        while !server.try_end().unwrap() {
            server.writable().await.unwrap();
        }
    };
    let ended = async { tokio::join!(ending, read_to_end(&client)).1 };
    let (received, end) = rt::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(end.unwrap(), 0);
    assert_eq!(received.len(), taken);
    assert!(received.iter().enumerate().all(|(i, b)| *b == byte(i)));
}

#[tokio::test]
async fn bytes_that_were_changed_on_their_way_break_the_stream() {
    let (server, client) = pair().await;
    assert!(
        client
            .try_write_all(&mut BytesMut::from(&b"good"[..]))
            .unwrap()
    );
    // A record that the client has not sealed.
    let forged = [&[0x17, 3, 3, 0, 40][..], &[7; 40]].concat();
    assert_eq!(client.tcp().try_write(&forged).unwrap(), forged.len());
    let (received, end) = read_to_end(&server).await;
    assert_eq!(received, b"good");
    for error in [
        end.unwrap_err(),
        read(&server, &mut Vec::new()).await.unwrap_err(),
    ] {
        let inner = error.get_ref().and_then(|e| e.downcast_ref());
        assert!(matches!(inner, Some(TlsError::Broken { .. })), "{error}");
    }
    // The other side is told by an alert.
    let (_, end) = read_to_end(&client).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

/// Seals the records of one direction of TLS 1.3, as a peer that is not ours may (RFC 8446, section 5.2).
struct Sealer {
    key: LessSafeKey,
    iv: [u8; 12],
    next: u64,
}

impl Sealer {
    fn new((next, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } = secrets else {
            panic!("another cipher");
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).unwrap();
        let iv = iv.as_ref().try_into().unwrap();
        let key = LessSafeKey::new(key);
        Self { key, iv, next }
    }

    /// Returns a record with `contents`, which are of this type.
    fn seal(&mut self, contents: &[u8], kind: u8) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.next.to_be_bytes()) {
            *byte ^= number;
        }
        self.next += 1;
        let mut sealed = [contents, &[kind]].concat();
        let len = u16::try_from(sealed.len() + CHACHA20_POLY1305.tag_len()).unwrap();
        let header = [&[23, 3, 3][..], &len.to_be_bytes()].concat();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tagged = self
            .key
            .seal_in_place_append_tag(nonce, Aad::from(&header), &mut sealed);
        tagged.unwrap();
        [header, sealed].concat()
    }
}

/// A ticket to resume the session, which a server may send whenever it likes (RFC 8446, section 4.6.1).
fn ticket() -> Vec<u8> {
    const LEN: u16 = 1000;
    let mut body = vec![0; 8];
    body.push(0);
    body.extend_from_slice(&LEN.to_be_bytes());
    body.extend_from_slice(&[7; LEN as usize]);
    body.extend_from_slice(&[0, 0]);
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[4, 0][..], &len, &body].concat()
}

/// Returns the client's end of a stream whose server is not ours: it sends this many KiB of tickets, which contain no data,
/// and some bytes after them. `arrived` bytes of these have arrived. Also returns the server.
async fn flooded_with_tickets(tickets: usize, arrived: usize) -> (Arc<TlsStream>, Task) {
    let (pem, key) = certificate();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![TLS13_CHACHA20_POLY1305_SHA256];
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.enable_secret_extraction = true;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Task::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut stream, session) = acceptor.accept(stream).await.unwrap().into_inner();
        let mut sealer = Sealer::new(session.dangerous_extract_secrets().unwrap().tx);
        for _ in 0..tickets {
            let record = sealer.seal(&ticket(), 22);
            if stream.write_all(&record).await.is_err() {
                return;
            }
        }
        stream.write_all(&sealer.seal(b"data", 23)).await.unwrap();
        // Until the client is gone.
        let _ = stream.readable().await;
    });
    let socket = TcpSocket::new_v4().unwrap();
    // Before it connects, so that the window is as large.
    socket.set_recv_buffer_size(1 << 20).unwrap();
    let stream = socket.connect(addr).await.unwrap();
    let connector = TlsConnector::new(TlsRoots::from_pem(pem.as_bytes()).unwrap(), PATIENCE);
    let name = TlsName::read(&format!("tls://{addr}")).unwrap().unwrap();
    let client = connector.connect(stream, &name, PATIENCE).await.unwrap();
    let mut bytes = vec![0; arrived];
    let arriving = async { while client.tcp().peek(&mut bytes).await.unwrap() < arrived {} };
    rt::timeout(PATIENCE, arriving).await.unwrap();
    (Arc::new(client), server)
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn records_without_data_keep_a_task_busy_for_a_moment_and_end_the_stream() {
    const ARRIVED: usize = 100_000;
    let (client, _server) = flooded_with_tickets(1_000, ARRIVED).await;
    let wakes = Arc::<Wakes>::default();
    let waker = Waker::from(Arc::clone(&wakes));
    let mut sink = |_: &[u8]| panic!("a ticket is no data");
    let mut poll = || client.poll_read(1, &mut sink, &mut Context::from_waker(&waker));
    // Others get their turn before everything that has arrived was read.
    let first = poll();
    assert!(first.is_pending(), "{first:?}");
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    let mut left = vec![0; ARRIVED];
    assert!(client.tcp().peek(&mut left).await.unwrap() >= ARRIVED - (64 << 10));
    let ending = async {
        loop {
            match poll() {
                Poll::Ready(result) => break result.unwrap_err(),
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
    };
    let error = rt::timeout(PATIENCE, ending).await.unwrap();
    let Some(TlsError::Broken { reason }) = error.get_ref().and_then(|e| e.downcast_ref()) else {
        panic!("{error}");
    };
    assert!(reason.contains("records without data"), "{reason}");
}

#[tokio::test]
async fn some_records_without_data_do_no_harm() {
    let (client, _server) = flooded_with_tickets(100, 1).await;
    let mut received = Vec::new();
    assert_eq!(read(&client, &mut received).await.unwrap(), 4);
    assert_eq!(received, b"data");
}
