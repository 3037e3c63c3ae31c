//! A port on the loopback interface, for systems without Unix sockets.
//!
//! Every program on the machine can connect, so a client proves with a token that it can read the file
//! of the port.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use gossip_transport::rt;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::directory_lock::lock_directory_of;
use super::probe::PROBE_LIMIT;
use super::token_file::{Token, TokenFile};
use crate::admin::protocol::{Command, Reply};

/// The longest answer to a ping, in bytes.
const MAX_ANSWER_LEN: u64 = 1 << 10;

/// A bound port. Dropping it removes its file.
#[derive(Debug)]
pub(crate) struct LoopbackPort {
    listener: TcpListener,
    file: TokenFile,
    path: PathBuf,
}

impl LoopbackPort {
    pub(super) async fn bind(path: &Path) -> anyhow::Result<Self> {
        let _lock = lock_directory_of(path).await?;
        remove_dead(path).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("cannot listen for admin commands on the loopback interface")?;
        let file = TokenFile {
            addr: listener.local_addr()?,
            token: Token::generate()?,
        };
        file.create(path)?;
        Ok(Self {
            listener,
            file,
            // Absolute, in case this process changes its directory.
            path: std::path::absolute(path)?,
        })
    }

    pub(super) fn check(path: &Path) -> anyhow::Result<()> {
        existing(path).map(drop)
    }

    /// Waits for a connection. Cancel-safe.
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    pub(super) fn token(&self) -> Token {
        self.file.token.clone()
    }
}

impl Drop for LoopbackPort {
    fn drop(&mut self) {
        if TokenFile::read(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Returns the file at `path`, if there is one. Fails if it is that of something else.
fn existing(path: &Path) -> anyhow::Result<Option<TokenFile>> {
    if std::fs::symlink_metadata(path).is_err() {
        return Ok(None);
    }
    let file = TokenFile::read(path).context("choose another path with --admin")?;
    Ok(Some(file))
}

/// Removes the file of a node that has ended without removing it.
async fn remove_dead(path: &Path) -> anyhow::Result<()> {
    let Some(file) = existing(path)? else {
        return Ok(());
    };
    let shown = path.display();
    if rt::timeout(PROBE_LIMIT, answers(&file))
        .await
        .is_ok_and(|answers| answers)
    {
        bail!("another node uses {shown}: end it, or choose another path with --admin");
    }
    std::fs::remove_file(path)
        .with_context(|| format!("cannot remove the file {shown} of a node that has ended"))?;
    tracing::info!(?path, "removed the admin file of a node that has ended");
    Ok(())
}

/// Returns whether a node answers to the token. Another program may have taken the port.
async fn answers(file: &TokenFile) -> bool {
    let exchange = async {
        let line = Command::Ping.to_line(Some(file.token.as_str()))?;
        let mut stream = BufReader::new(TcpStream::connect(file.addr).await?);
        stream.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER_LEN).read_line(&mut answer).await?;
        anyhow::Ok(serde_json::from_str::<Reply>(&answer)?)
    };
    matches!(exchange.await, Ok(Reply::Done {}))
}
