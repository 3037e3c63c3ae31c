//! The file that tells a script that the node is ready, and on which ports it listens.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use gossip_transport::Identity;
use serde::Serialize;

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
    /// Fails if the directory cannot be written to.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
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

    #[cfg(unix)]
    #[test]
    fn a_link_at_the_temporary_name_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("ready"), dir.path().join("other"));
        std::fs::write(&other, "of somebody else").unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("ready.7.tmp")).unwrap();
        let ready = Ready {
            gossip: ([127, 0, 0, 1], 1).into(),
            http: None,
            identity: NetCredential::generate(Trust::dangerously_anyone()).identity(),
            pid: 7,
        };
        ready.write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "of somebody else");
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.contains("\"pid\":7"), "{written}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
