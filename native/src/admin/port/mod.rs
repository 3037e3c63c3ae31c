//! Listening for the subcommands of this program.
//!
//! The port is a file at the path of `--admin`: a Unix socket, or a file that names a port on the
//! loopback interface and its token. Invariant: a file of another program or of a live node is never
//! replaced, and the port's own file is removed when the port is dropped.

mod directory_lock;
mod loopback;
mod peer;
mod probe;
mod token_file;
#[cfg(unix)]
mod unix;

use std::io;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};

use loopback::LoopbackPort;
pub(super) use peer::Peer;
pub(super) use token_file::{Token, TokenFile};
#[cfg(unix)]
use unix::UnixPort;

/// How clients reach a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortKind {
    /// The kind of this system: a Unix socket where there is one.
    Native,
    /// A port on the loopback interface, and a file with its number and token.
    Loopback,
}

/// A port on which a node listens.
#[derive(Debug)]
pub(crate) enum Port {
    #[cfg(unix)]
    Unix(UnixPort),
    Loopback(LoopbackPort),
}

/// A connection of a client.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// What a connection needs before its requests are carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing: the system lets nobody else connect.
    Open,
    /// The token, which only those know who can read its file.
    Token(Token),
}

impl Port {
    /// Listens at `path`.
    ///
    /// # Errors
    ///
    /// Fails if another node listens there, or if there is a file of something else.
    pub(crate) async fn bind(path: &Path, kind: PortKind) -> anyhow::Result<Self> {
        match kind {
            #[cfg(unix)]
            PortKind::Native => UnixPort::bind(path).await.map(Self::Unix),
            #[cfg(not(unix))]
            PortKind::Native => LoopbackPort::bind(path).await.map(Self::Loopback),
            PortKind::Loopback => LoopbackPort::bind(path).await.map(Self::Loopback),
        }
    }

    /// Checks that there is no file of something else at `path`, and changes nothing.
    ///
    /// # Errors
    ///
    /// Fails as [`Self::bind`] does then.
    pub(crate) fn check(path: &Path, kind: PortKind) -> anyhow::Result<()> {
        match kind {
            #[cfg(unix)]
            PortKind::Native => UnixPort::check(path),
            #[cfg(not(unix))]
            PortKind::Native => LoopbackPort::check(path),
            PortKind::Loopback => LoopbackPort::check(path),
        }
    }

    /// Waits for the next connection that may use the port. Cancel-safe.
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match self {
            #[cfg(unix)]
            Self::Unix(port) => {
                let (stream, peer) = port.accept().await?;
                Ok((Box::new(stream), peer))
            }
            Self::Loopback(port) => Ok((Box::new(port.accept().await?), Peer::TokenHolder)),
        }
    }

    pub(super) fn access(&self) -> Access {
        match self {
            #[cfg(unix)]
            Self::Unix(_) => Access::Open,
            Self::Loopback(port) => Access::Token(port.token()),
        }
    }
}
