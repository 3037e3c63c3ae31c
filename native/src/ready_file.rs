//! The file that tells a script that the node is ready, and on which ports it listens.
//!
//! Invariant: it replaces and removes nothing but a ready file or an empty file.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use gossip_transport::Identity;
use serde::{Deserialize, Serialize};

/// No ready file is longer, in bytes.
const MAX_LEN: u64 = 4096;

/// The content of the file, written as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    /// The bound address for gossip.
    pub(crate) gossip: SocketAddr,
    /// The bound address for HTTP, if there is one.
    pub(crate) http: Option<SocketAddr>,
    /// The public key.
    #[serde(serialize_with = "display")]
    pub(crate) identity: Identity,
    /// The id of this process.
    pub(crate) pid: u32,
}

impl Ready {
    /// Writes the file under a temporary name and renames it, so that it is never read incomplete.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be written to, or if something else is there.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        check(path)?;
        let mut name = path
            .file_name()
            .context("--ready-file must name a file")?
            .to_owned();
        name.push(format!(".{}.tmp", self.pid));
        let temporary = path.with_file_name(name);
        let json = serde_json::to_vec(self)?;
        create_anew(&temporary)
            .and_then(|mut file| file.write_all(&json))
            .and_then(|()| std::fs::rename(&temporary, path))
            .with_context(|| format!("cannot write the ready file {}", path.display()))
    }

    /// Removes the file, unless another one has taken its place.
    pub(crate) fn remove(&self, path: &Path) {
        if read(path).is_ok_and(|content| content == Content::Ready { pid: self.pid }) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What a file contains that is there already.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Nothing,
    /// It is a ready file, of this process.
    Ready {
        pid: u32,
    },
    Other,
}

/// What tells a ready file from others.
#[derive(Debug, Deserialize)]
struct Written {
    #[serde(rename = "gossip")]
    _gossip: SocketAddr,
    #[serde(rename = "identity")]
    _identity: String,
    pid: u32,
}

/// Checks that a ready file may be written to `path`: nothing is there, an empty file, or the ready file of an
/// earlier run.
///
/// # Errors
///
/// Fails if something else is there, which would be lost.
pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot look at the ready file {shown}"));
        }
    };
    if !kind.is_file() {
        bail!(
            "--ready-file {shown} is no regular file but a device, pipe, socket, directory or link: name a \
             file that the node may create, replace and remove"
        );
    }
    match read(path) {
        Ok(Content::Nothing | Content::Ready { .. }) => Ok(()),
        Ok(Content::Other) => bail!(
            "--ready-file {shown} exists and is no ready file: it would be replaced, and removed at the end; \
             name another file, or delete this one"
        ),
        Err(error) => Err(error).with_context(|| format!("cannot look at the ready file {shown}")),
    }
}

fn read(path: &Path) -> std::io::Result<Content> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_LEN).read_to_end(&mut text)?;
    if text.is_empty() {
        return Ok(Content::Nothing);
    }
    let written = serde_json::from_slice(&text);
    Ok(written.map_or(Content::Other, |Written { pid, .. }| Content::Ready { pid }))
}

/// Creates a file in place of one that a process of the same id has left behind. A link that somebody else
/// has put there, in a directory that others can write to, is not followed.
fn create_anew(path: &Path) -> std::io::Result<File> {
    let _ = std::fs::remove_file(path);
    File::create_new(path)
}

fn display<S: serde::Serializer>(value: &Identity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use gossip_transport::{NetCredential, Trust};

    use super::*;

    fn ready(pid: u32) -> Ready {
        Ready {
            gossip: ([127, 0, 0, 1], 1).into(),
            http: None,
            identity: NetCredential::generate(Trust::dangerously_anyone()).identity(),
            pid,
        }
    }

    #[test]
    fn only_a_ready_file_or_an_empty_one_is_replaced_and_only_the_own_one_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready");
        std::fs::write(&path, "").unwrap();
        ready(7).write(&path).unwrap();
        ready(8).write(&path).unwrap();
        ready(7).remove(&path);
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .contains("\"pid\":8")
        );
        ready(8).remove(&path);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        for other in ["gossip-key-aaaa", "{\"pid\":9}", "[]"] {
            std::fs::write(&path, other).unwrap();
            let error = ready(9).write(&path).unwrap_err().to_string();
            assert!(error.contains("name another file"), "{error}");
            ready(9).remove(&path);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
        }
    }

    #[cfg(unix)]
    #[test]
    fn devices_pipes_directories_and_links_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("missing"), &link).unwrap();
        for path in [Path::new("/dev/null"), dir.path(), &link] {
            let error = check(path).unwrap_err().to_string();
            assert!(error.contains("is no regular file"), "{error}");
        }
        assert!(check(&dir.path().join("ready")).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_at_the_temporary_name_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("ready"), dir.path().join("other"));
        std::fs::write(&other, "of somebody else").unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("ready.7.tmp")).unwrap();
        ready(7).write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "of somebody else");
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.contains("\"pid\":7"), "{written}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
