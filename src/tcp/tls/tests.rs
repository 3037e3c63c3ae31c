//! Both ends of a TLS stream of this module, over a socket.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::BytesMut;
use rcgen::{CertificateParams, KeyPair};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::rt;
use crate::tcp::stream::{Stream, WriteHalf};

const PATIENCE: Duration = Duration::from_secs(20);

/// Returns the server's end and the client's.
async fn pair() -> (Arc<TlsStream>, Arc<TlsStream>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let identity = TlsIdentity::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let acceptor = TlsAcceptor::new(&identity, PATIENCE).unwrap();
    let connector = TlsConnector::new(TlsRoots::from_pem(pem.as_bytes()).unwrap(), PATIENCE);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let name = TlsName::read(&format!("tls://{addr}")).unwrap().unwrap();
    let dialling = async {
        let stream = TcpStream::connect(addr).await.unwrap();
        connector.connect(stream, &name).await.unwrap()
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
