//! Files that only their owner can read, such as keys, secrets and tokens.
//!
//! Invariants: a file that is created here can never be read by anyone but its owner, is complete as soon
//! as it exists, and never replaces another one. One that is replaced keeps its owner and mode, and is there at
//! any time, with its old content or with the new one.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use gossip_transport::rt;

/// The longest file that is read, in bytes: 19,000 keys.
pub(crate) const MAX_LEN: usize = 1 << 20;

/// Reads a file of text.
///
/// # Errors
///
/// Fails if it cannot be read, or is longer than any list of keys.
pub(crate) fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let limit = MAX_LEN + 1;
    File::open(path)?
        .take(limit as u64)
        .read_to_end(&mut bytes)?;
    if bytes.len() >= limit {
        let message = format!("it is longer than {MAX_LEN} bytes");
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, message));
    }
    // Some editors and shells write UTF-16. That is no key, and no reason to say nothing else about it.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Does the same for a file that only its owner should read. Logs a warning if others can.
///
/// # Errors
///
/// Fails as [`read`] does.
pub(crate) fn read_private(path: &Path) -> std::io::Result<String> {
    let text = read(path)?;
    if readable_by_others(path) {
        tracing::warn!(
            ?path,
            "other users of this machine can read this file; chmod 600 it"
        );
    }
    Ok(text)
}

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

/// Replaces the content of a file. A link to it stays a link.
///
/// # Errors
///
/// Fails if the file does not exist, if its directory cannot be written to, or if its owner or mode cannot be kept.
/// Nothing has changed then.
pub(crate) fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    // A file that may not be written to is not meant to be changed.
    let old = OpenOptions::new().write(true).open(&path)?.metadata()?;
    let draft = draft_of(&path);
    let mut file = create_private(&draft)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| keep_owner_and_mode(&file, &old))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&draft, &path));
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written?;
    sync_directory_of(&path);
    Ok(())
}

#[cfg(unix)]
fn keep_owner_and_mode(file: &File, old: &Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(old.permissions())
}

#[cfg(not(unix))]
fn keep_owner_and_mode(file: &File, old: &Metadata) -> std::io::Result<()> {
    file.set_permissions(old.permissions())
}

#[cfg(unix)]
pub(crate) fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o077 != 0)
}

#[cfg(not(unix))]
pub(crate) fn readable_by_others(_path: &Path) -> bool {
    false
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

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_replaced_keeps_its_mode_and_the_link_to_it() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let missing = replace(&dir.path().join("none"), "new").unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
