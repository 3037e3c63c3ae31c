//! The file of the node's key, and making a file of a cluster secret.
//!
//! Reads and creates the files; the library parses their content. What is trusted is read elsewhere. Invariant: a
//! file that is created here can never be read by anyone but its owner, and never replaces another one.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use gossip_transport::credential::{ClusterSecret, NetCredential, Trust};

use crate::args::Args;
use crate::private_file::{read_private, remove_drafts_of, write_new};
use crate::trust_files::lacks;

/// Returns the credential with the key that the arguments name, or with a new one.
///
/// # Errors
///
/// Fails if the file cannot be read, created or parsed.
pub(crate) fn credential(args: &Args, trust: Trust) -> anyhow::Result<NetCredential> {
    match args.key_path() {
        Some(path) => key(&path, trust),
        None => {
            tracing::info!("no --key and no --state-dir: using a new identity for this run");
            Ok(NetCredential::generate(trust))
        }
    }
}

/// Returns the credential with the key that the arguments name, or `None` if [`credential`] would make a new one.
///
/// # Errors
///
/// Fails if the file cannot be read or parsed.
pub(crate) fn existing(args: &Args, trust: Trust) -> anyhow::Result<Option<NetCredential>> {
    let path = args.key_path();
    path.map_or(Ok(None), |path| read_key(&path, trust))
}

/// Reads the key. Creates the file with a new key if it does not exist.
fn key(path: &Path, trust: Trust) -> anyhow::Result<NetCredential> {
    remove_drafts_of(path);
    match read_key(path, trust.clone())? {
        Some(credential) => Ok(credential),
        None => {
            let credential = NetCredential::generate(trust);
            write_new(path, &credential.to_secret_text()).map_err(|error| {
                let exists = error.kind() == ErrorKind::AlreadyExists;
                let error =
                    anyhow!(error).context(format!("cannot create the key {}", path.display()));
                if exists {
                    error.context(
                        "it is a symbolic link to a file that does not exist, or another process has \
                         created it just now",
                    )
                } else {
                    error
                }
            })?;
            tracing::info!(?path, "created a new key");
            Ok(credential)
        }
    }
}

/// Reads the key, if its file exists.
fn read_key(path: &Path, trust: Trust) -> anyhow::Result<Option<NetCredential>> {
    match read_private(path) {
        Ok(text) => {
            let credential = NetCredential::from_secret_text(&text, trust);
            let credential = credential.with_context(|| {
                format!(
                    "{} {} a key: restore the file from a backup, or delete it to get a new key, and \
                     with it a new identity, at the next start",
                    path.display(),
                    lacks(&text)
                )
            });
            credential.map(Some)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(anyhow!(error).context(format!("cannot read the key {}", path.display())))
        }
    }
}

/// Writes a new cluster secret.
///
/// # Errors
///
/// Fails if the file exists or cannot be written.
pub(crate) fn make_secret(path: &Path) -> anyhow::Result<()> {
    remove_drafts_of(path);
    write_new(path, &ClusterSecret::generate().to_text()).map_err(|error| {
        let exists = error.kind() == ErrorKind::AlreadyExists;
        let error = anyhow!(error).context(format!("cannot create the secret {}", path.display()));
        if exists {
            error.context(format!(
                "the file is never overwritten; use it with gossip-node --secret {}, or name another \
                 file",
                path.display()
            ))
        } else {
            error
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_read_in_part_only_and_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::File::create(&path)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let error = key(&path, Trust::dangerously_anyone()).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("longer than 1048576 bytes"), "{error}");
    }

    #[test]
    fn a_key_is_created_once_and_read_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let first = key(&path, Trust::dangerously_anyone()).unwrap();
        let second = key(&path, Trust::dangerously_anyone()).unwrap();
        assert_eq!(first.identity(), second.identity());
    }

    #[cfg(unix)]
    #[test]
    fn created_files_can_be_read_by_their_owner_only() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("node.key"), dir.path().join("secret")];
        key(&paths[0], Trust::dangerously_anyone()).unwrap();
        make_secret(&paths[1]).unwrap();
        for path in &paths {
            assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o600);
            assert!(!crate::private_file::readable_by_others(path));
        }
    }

    #[test]
    fn a_secret_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        make_secret(&path).unwrap();
        let made = std::fs::read_to_string(&path).unwrap();
        let error = format!("{:#}", make_secret(&path).unwrap_err());
        assert!(error.contains("name another file"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), made);
    }

    #[test]
    fn an_empty_file_is_reported_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for text in ["", "\n"] {
            std::fs::write(&path, text).unwrap();
            let of_key = format!("{:#}", key(&path, Trust::dangerously_anyone()).unwrap_err());
            assert!(of_key.contains("is empty"), "{of_key}");
            assert!(of_key.contains("delete it"), "{of_key}");
        }
    }

    #[test]
    fn a_file_that_is_no_utf_8_is_reported_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let text = ClusterSecret::generate().to_text();
        let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        std::fs::write(&path, [&[0xff, 0xfe], &utf_16[..]].concat()).unwrap();
        let of_key = format!("{:#}", key(&path, Trust::dangerously_anyone()).unwrap_err());
        assert!(of_key.contains("delete it"), "{of_key}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_reported_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        let error = format!("{:#}", key(&path, Trust::dangerously_anyone()).unwrap_err());
        assert!(error.contains("symbolic link"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_invalid_key_is_reported_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "no key").unwrap();
        let error = format!("{:#}", key(&path, Trust::dangerously_anyone()).unwrap_err());
        assert!(error.contains("does not contain a key"), "{error}");
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }
}
