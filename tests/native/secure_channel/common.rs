//! The two ends of a secure connection, and helpers that several tests use.

use std::net::SocketAddr;

use bytes::Bytes;
use gossip_transport::net::{Alpn, NetConnection};
use gossip_transport::secure::{
    self, Endpoints, FrameError, HandshakeError, HandshakeParams, ReceiveMemory, SecureConfig,
    SecureConnection, Suite,
};
use gossip_transport::{ClusterSecret, NetCredential, Trust};

use super::carrier::{Pipe, Reader, Writer};
use crate::support::soon;

pub type Connection = SecureConnection<Reader, Writer>;
pub type Outcome = Result<Connection, HandshakeError>;

pub const GOSSIP: Alpn = Alpn::from_static(b"gossip/1");
pub const OTHER: Alpn = Alpn::from_static(b"other/1");
pub const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];

pub fn dialler_addr() -> SocketAddr {
    "203.0.113.7:50123".parse().unwrap()
}
pub fn acceptor_addr() -> SocketAddr {
    "[2001:db8::1]:7000".parse().unwrap()
}

/// Everything that two ends need for a handshake. A test changes the part that it is about.
pub struct Meeting {
    pub dialler: NetCredential,
    pub acceptor: NetCredential,
    pub offered: Vec<Alpn>,
    pub supported: Vec<Alpn>,
    pub suite: Suite,
    pub dial_config: SecureConfig,
    pub accept_config: SecureConfig,
    /// Memory for received records of the acceptor. Default: that of `accept_config`.
    pub accept_memory: Option<ReceiveMemory>,
    pub to_acceptor: Pipe,
    pub to_dialler: Pipe,
}

impl Meeting {
    pub fn of_anyone() -> Self {
        Self::trusting(Trust::dangerously_anyone)
    }

    pub fn trusting(trust: impl Fn() -> Trust) -> Self {
        Self {
            dialler: NetCredential::generate(trust()),
            acceptor: NetCredential::generate(trust()),
            offered: vec![GOSSIP],
            supported: vec![GOSSIP],
            suite: Suite::ChaChaPoly,
            dial_config: SecureConfig::default(),
            accept_config: SecureConfig::default(),
            accept_memory: None,
            to_acceptor: Pipe::default(),
            to_dialler: Pipe::default(),
        }
    }

    pub fn with_secret() -> Self {
        let secret = ClusterSecret::generate();
        Self::trusting(|| Trust::secret(secret.clone()))
    }

    pub fn configure(mut self, f: impl Fn(&mut SecureConfig)) -> Self {
        f(&mut self.dial_config);
        f(&mut self.accept_config);
        self
    }

    pub async fn dial(&self) -> Outcome {
        // The dialler binds no particular address; the acceptor sends the one that it sees.
        let endpoints = Endpoints {
            local: "0.0.0.0:0".parse().unwrap(),
            remote: acceptor_addr(),
        };
        secure::dial(
            self.to_dialler.reader(),
            self.to_acceptor.writer(),
            self.suite,
            &HandshakeParams {
                endpoints,
                alpn: &self.offered,
                credential: &self.dialler,
                config: &self.dial_config,
                memory: &self.dial_config.receive_memory(),
            },
        )
        .await
    }

    pub async fn accept(&self) -> Outcome {
        let memory = self.accept_memory.clone();
        let endpoints = Endpoints {
            local: acceptor_addr(),
            remote: dialler_addr(),
        };
        secure::accept(
            self.to_acceptor.reader(),
            self.to_dialler.writer(),
            &HandshakeParams {
                endpoints,
                alpn: &self.supported,
                credential: &self.acceptor,
                config: &self.accept_config,
                memory: &memory.unwrap_or_else(|| self.accept_config.receive_memory()),
            },
        )
        .await
    }

    pub async fn meet(&self) -> (Outcome, Outcome) {
        soon(async { futures::join!(self.dial(), self.accept()) }).await
    }

    pub async fn connect(&self) -> (Connection, Connection) {
        let (dialled, accepted) = self.meet().await;
        (dialled.unwrap(), accepted.unwrap())
    }
}

/// Returns the error of a handshake that must fail.
#[track_caller]
pub fn refused(outcome: Outcome) -> HandshakeError {
    outcome.map(|_| ()).expect_err("the handshake must fail")
}

/// Asserts that the dialler was refused, received no byte, and was disconnected.
#[track_caller]
pub fn silently_refused(meeting: &Meeting, dialled: Outcome) {
    assert!(matches!(refused(dialled), HandshakeError::ClosedByPeer));
    assert!(meeting.to_dialler.log().is_empty());
    assert!(meeting.to_dialler.was_shut_down());
}

/// Returns the next message, and fails instead of waiting for ever.
pub async fn recv(connection: &Connection) -> Bytes {
    soon(connection.recv()).await.unwrap().expect("a message")
}

pub fn frame_error(error: &anyhow::Error) -> &FrameError {
    error.downcast_ref().expect("a frame error")
}

/// Polls `future` once. Drops it and returns `None` if it is not ready.
pub async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// Returns a runtime whose clock moves only while nothing else is left to do.
pub fn paused_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}
