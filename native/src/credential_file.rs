//! The files of the node's key and the cluster's secret.
//!
//! Reads and creates the files; the library parses their content. Invariant: a file that is created
//! here can never be read by anyone but its owner, and never replaces another one.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use gossip_transport::credential::{ClusterSecret, NetCredential, Trust};

use crate::args::Args;
use crate::private_file::write_new;

/// Returns the credential that the arguments describe.
///
/// # Errors
///
/// Fails if a file cannot be read, created or parsed.
pub(crate) fn credential(args: &Args) -> anyhow::Result<NetCredential> {
    let trust = trust(args)?;
    match &args.key {
        Some(path) => key(path, trust),
        None => {
            tracing::info!("no --key: using a new identity for this run");
            Ok(NetCredential::generate(trust))
        }
    }
}

fn trust(args: &Args) -> anyhow::Result<Trust> {
    if args.trust_anyone {
        tracing::warn!("--trust-anyone: every peer that can reach this port is accepted");
        return Ok(Trust::dangerously_anyone());
    }
    let keys = args.trusted.iter().copied();
    match &args.secret {
        Some(path) if args.trusted.is_empty() => Ok(Trust::secret(secret(path)?)),
        Some(path) => Ok(Trust::keys_and_secret(keys, secret(path)?)),
        None => Ok(Trust::keys(keys)),
    }
}

fn secret(path: &Path) -> anyhow::Result<ClusterSecret> {
    let text = read(path).map_err(|error| {
        let missing = error.kind() == ErrorKind::NotFound;
        let error = anyhow!(error).context(format!("cannot read the secret {}", path.display()));
        if missing {
            error.context(format!(
                "the file does not exist; make a secret with gossip-node --make-secret {}",
                path.display()
            ))
        } else {
            error
        }
    })?;
    text.trim().parse().with_context(|| {
        format!(
            "{} {} a cluster secret: copy the file from another node, or make a new secret for all \
             nodes with gossip-node --make-secret",
            path.display(),
            lacks(&text)
        )
    })
}

/// Returns what is wrong with a file that does not contain what it should.
fn lacks(text: &str) -> &'static str {
    if text.trim().is_empty() {
        "is empty and does not contain"
    } else {
        "does not contain"
    }
}

/// Reads the key. Creates the file with a new key if it does not exist.
fn key(path: &Path, trust: Trust) -> anyhow::Result<NetCredential> {
    match read(path) {
        Ok(text) => NetCredential::from_secret_text(&text, trust).with_context(|| {
            format!(
                "{} {} a key: restore the file from a backup, or delete it to get a new key, and \
                     with it a new identity, at the next start",
                path.display(),
                lacks(&text)
            )
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
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

fn read(path: &Path) -> std::io::Result<String> {
    let bytes = std::fs::read(path)?;
    if readable_by_others(path) {
        tracing::warn!(
            ?path,
            "other users of this machine can read this file; chmod 600 it"
        );
    }
    // Some editors and shells write UTF-16. That is no key, and no reason to say nothing else about it.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(unix)]
fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(!readable_by_others(path));
        }
    }

    #[test]
    fn a_secret_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        make_secret(&path).unwrap();
        let made = secret(&path).unwrap().to_text();
        let error = format!("{:#}", make_secret(&path).unwrap_err());
        assert!(error.contains("name another file"), "{error}");
        assert_eq!(secret(&path).unwrap().to_text(), made);
    }

    #[test]
    fn a_missing_secret_is_reported_with_the_option_that_makes_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let error = format!("{:#}", secret(&path).unwrap_err());
        assert!(error.contains("--make-secret"), "{error}");
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
            let of_secret = format!("{:#}", secret(&path).unwrap_err());
            assert!(of_secret.contains("is empty"), "{of_secret}");
            assert!(of_secret.contains("from another node"), "{of_secret}");
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
        let of_secret = format!("{:#}", secret(&path).unwrap_err());
        assert!(of_secret.contains("from another node"), "{of_secret}");
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
