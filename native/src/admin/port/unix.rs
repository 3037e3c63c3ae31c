//! A Unix socket that only the node's user and root may use.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use gossip_transport::rt;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::directory_lock::lock_directory_of;
use super::peer::Peer;
use super::probe::PROBE_LIMIT;

/// Connections that wait until they are accepted.
const BACKLOG: u32 = 16;
/// The user that may do everything.
const ROOT: u32 = 0;

/// A bound socket. Dropping it removes its file.
#[derive(Debug)]
pub(crate) struct UnixPort {
    listener: UnixListener,
    _file: SocketFile,
}

impl UnixPort {
    pub(super) async fn bind(path: &Path) -> anyhow::Result<Self> {
        let _lock = lock_directory_of(path).await?;
        remove_dead(path).await?;
        let bound = || {
            let socket = UnixSocket::new_stream()?;
            socket.bind(path)?;
            let file = SocketFile::of(path)?;
            // Nobody can connect to a socket that does not listen yet, whatever its mode is.
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            let listener = socket.listen(BACKLOG)?;
            io::Result::Ok(Self {
                listener,
                _file: file,
            })
        };
        bound().with_context(|| {
            format!(
                "cannot create the admin socket {} (choose another path with --admin)",
                path.display()
            )
        })
    }

    pub(super) fn check(path: &Path) -> anyhow::Result<()> {
        has_socket(path).map(drop)
    }

    /// Waits for a connection of this user or root. Cancel-safe.
    pub(super) async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?;
            let (uid, pid) = (peer.uid(), peer.pid());
            if may_connect(uid, rustix::process::geteuid().as_raw()) {
                return Ok((stream, Peer::Process { uid, pid }));
            }
            tracing::warn!(uid, "refused an admin connection of another user");
        }
    }
}

/// Returns whether processes of the user `peer` may use the port of `own`. Not every system checks the
/// mode of a socket, and the mode can be changed.
fn may_connect(peer: u32, own: u32) -> bool {
    peer == own || peer == ROOT
}

/// Returns whether there is a socket. Fails if there is something else.
fn has_socket(path: &Path) -> anyhow::Result<bool> {
    let shown = path.display();
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        found => found.with_context(|| format!("cannot use the admin socket {shown}"))?,
    };
    ensure!(
        file.file_type().is_socket(),
        "{shown} exists and is not a socket: choose another path with --admin"
    );
    Ok(true)
}

/// Removes the socket of a node that has ended without removing it.
async fn remove_dead(path: &Path) -> anyhow::Result<()> {
    if !has_socket(path)? {
        return Ok(());
    }
    let shown = path.display();
    match rt::timeout(PROBE_LIMIT, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| {
                format!("cannot remove the socket {shown} of a node that has ended")
            })?;
            tracing::info!(?path, "removed the admin socket of a node that has ended");
            Ok(())
        }
        // It was removed in the meantime.
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => {
            bail!("{shown} is a socket of another user: choose another path with --admin")
        }
        // It answers, or it is too busy to answer.
        Ok(_) | Err(_) => {
            bail!("another node listens on {shown}: end it, or choose another path with --admin")
        }
    }
}

/// The file of a socket, which is removed when this is dropped, unless there is another one by then.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            inode: inode(path)?,
            // Absolute, in case this process changes its directory.
            path: std::path::absolute(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_user_and_root_may_connect() {
        assert!(may_connect(1000, 1000) && may_connect(0, 1000) && may_connect(0, 0));
        assert!(!may_connect(1001, 1000) && !may_connect(1000, 0));
    }

    #[test]
    fn a_file_that_has_replaced_the_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let _bound = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let file = SocketFile::of(&path).unwrap();
        fs::rename(&path, dir.path().join("b")).unwrap();
        fs::write(&path, "another").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another");
    }

    #[tokio::test]
    async fn while_another_node_looks_at_a_dead_socket_it_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let dead = inode(&path).unwrap();
        let other = lock_directory_of(&path).await.unwrap();
        assert!(other.is_some());
        let error = UnixPort::bind(&path).await.unwrap_err().to_string();
        assert!(error.contains("has locked the directory"), "{error}");
        assert_eq!(inode(&path).unwrap(), dead);
        drop(other);
        let port = UnixPort::bind(&path).await.unwrap();
        assert!(UnixPort::bind(&path).await.is_err(), "it is live");
        drop(port);
        assert!(!path.exists());
    }
}
