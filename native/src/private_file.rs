//! Files that only their owner can read, such as keys, secrets and tokens.
//!
//! Invariant: a file that is created here can never be read by anyone but its owner, is complete as soon
//! as it exists, and never replaces another one.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use gossip_transport::rt;

/// Creates a file with a line of text.
///
/// # Errors
///
/// Fails if the file exists or cannot be written.
pub(crate) fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    write_new_with(path, |file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")
    })
}

/// Creates a file with what `write` writes. A crash leaves the whole file or none at `path`, since an
/// incomplete key would stop every later start.
fn write_new_with(
    path: &Path,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let draft = draft_of(path);
    let mut file = create_private(&draft)?;
    let written = write(&mut file)
        .and_then(|()| file.sync_all())
        .and_then(|()| publish(&draft, path));
    // After a failure, or because the file has two names now.
    let _ = std::fs::remove_file(&draft);
    written?;
    sync_directory_of(path);
    Ok(())
}

/// Returns a name beside `path` that no other process uses, in this container or another one.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let now = rt::unix_time().as_nanos();
    name.push(format!(".{}-{now}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Moves `draft` to `path`, unless there is a file already.
fn publish(draft: &Path, path: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(draft, path) {
        // The file system has no second names for files.
        Err(error) if error.kind() != ErrorKind::AlreadyExists && !path.try_exists()? => {
            std::fs::rename(draft, path)
        }
        linked => linked,
    }
}

/// Makes the new name last over a crash of the machine, where the system can.
fn sync_directory_of(path: &Path) {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
}

#[cfg(unix)]
fn create_private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_complete_as_soon_as_it_exists_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let failed = write_new_with(&path, |file| {
            file.write_all(b"gossip-key-")?;
            assert!(!path.exists(), "a crash now would leave half a key");
            Err(ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let lost = write_new_with(&path, |_| {
            std::fs::write(&path, "the key of another process")
        });
        assert_eq!(lost.unwrap_err().kind(), ErrorKind::AlreadyExists);
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept, "the key of another process");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
