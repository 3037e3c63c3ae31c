//! Streams of TLS that are cut anywhere: in the handshake, in the one inside, and in a message.

use std::net::SocketAddr;

use bytes::Bytes;
use gossip_transport::net::{AcceptFailure, NetConnection as _, NetIncomingRequest as _};
use gossip_transport::rt::Task;
use gossip_transport::secure::{Endpoints, FrameError};
use gossip_transport::tcp::TcpIncomingRequest;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::carriers::{TlsReader, TlsWriter};
use super::certificates::Ca;
use super::dial;
use crate::networks::tcp_listener::client::{ALPN, Server};
use crate::networks::tcp_listener::converse;
use crate::support::layer::dial_over;
use crate::support::{ANY_PORT, soon};

/// Passes the first `len` bytes of a client on to `server`, and all that it answers. Returns the address for the client.
async fn cut_after(len: u64, server: SocketAddr) -> (SocketAddr, Task) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let relaying = Task::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) =
            TcpStream::connect(server).await.unwrap().into_split();
        let there = async {
            let _ = tokio::io::copy(&mut from_client.take(len), &mut to_server).await;
            let _ = to_server.shutdown().await;
        };
        let back = tokio::io::copy(&mut from_server, &mut to_client);
        let _ = tokio::join!(there, back);
    });
    (addr, relaying)
}

#[tokio::test]
async fn a_stream_that_is_cut_after_any_number_of_bytes_is_a_broken_connection() {
    let ca = Ca::new();
    let mut server = Server::start(ca.issue(&["localhost"]).config()).await;
    for version in [&TLS13, &TLS12] {
        let mut accepted = false;
        // From the client's first bytes on, up to a message.
        for len in (2..).step_by(13) {
            let (addr, _relaying) = cut_after(len, server.addr).await;
            let (remote, member) = (server.addr, server.member());
            let client = async {
                let stream = TcpStream::connect(addr).await?;
                let name = ServerName::try_from("localhost").unwrap();
                let connector = ca.connector(version, &[b"http/1.1"]);
                let (reader, writer) = tokio::io::split(connector.connect(name, stream).await?);
                let endpoints = Endpoints {
                    local: ANY_PORT,
                    remote,
                };
                let carrier = (TlsReader(reader), TlsWriter(writer));
                let conn = dial_over(carrier, endpoints, ALPN, &member).await?;
                conn.send(Bytes::from_static(b"one")).await?;
                anyhow::Ok(conn)
            };
            let (_client, outcome) = tokio::join!(client, server.outcome());
            match outcome {
                Err(error) => {
                    assert!(!accepted, "{len}: {error:#}");
                    let failure = TcpIncomingRequest::failure(&error);
                    assert_eq!(failure, Some(AcceptFailure::Broken), "{len}: {error:#}");
                }
                Ok(there) => {
                    accepted = true;
                    let received = soon(there.recv()).await;
                    if let Ok(message) = received {
                        assert_eq!(message.unwrap(), "one");
                        break;
                    }
                    let error = received.unwrap_err().downcast().unwrap();
                    assert!(
                        matches!(error, FrameError::Truncated | FrameError::Carrier(_)),
                        "{len}: {error}"
                    );
                }
            }
        }
        assert!(accepted);
    }
    let here = dial(&server, "localhost", ca.roots()).await.unwrap();
    converse(&here, &server.outcome().await.unwrap()).await;
}
