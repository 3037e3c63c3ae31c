//! Files that only their owner can read, such as keys, secrets and tokens.
//!
//! Invariants: a file that is created here can never be read by anyone but its owner, is complete as soon
//! as it exists, and never replaces another one. One that is replaced keeps its owner and mode, and is there at
//! any time, with its old content or with the new one.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gossip_transport::rt;

/// The longest file that is read, in bytes: 19,000 keys.
pub(crate) const MAX_LEN: usize = 1 << 20;
/// The time after which a draft is one that a killed process has left.
const DRAFT_TIME: Duration = Duration::from_secs(60);
/// The most names of a directory that are looked at for drafts.
const MAX_NAMES: usize = 10_000;

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

/// Logs a warning if others than its owner can write to a file that says which peers are trusted.
pub(crate) fn warn_if_writable(path: &Path) {
    if writable_by_others(path) {
        tracing::warn!(
            ?path,
            "other users of this machine can write to this file, and so decide which peers are trusted; chmod go-w it"
        );
    }
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

/// Returns whether `path` is a regular file to which others than its owner can write.
#[cfg(unix)]
fn writable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o022 != 0)
}

#[cfg(not(unix))]
fn writable_by_others(_path: &Path) -> bool {
    false
}

/// Returns a name beside `path` that no other process uses, in this container or another one.
pub(crate) fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let now = rt::unix_time().as_nanos();
    name.push(format!(".{}-{now}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Returns whether `name` is one that [`draft_of`] returns.
pub(crate) fn is_draft(name: &OsStr) -> bool {
    begun_at(&name.to_string_lossy()).is_some()
}

/// Returns the time at which the draft `name` was begun, in nanoseconds since 1970.
fn begun_at(name: &str) -> Option<u128> {
    let (_, numbers) = name.strip_suffix(".tmp")?.rsplit_once('.')?;
    let (pid, nanos) = numbers.split_once('-')?;
    pid.parse::<u32>().ok()?;
    nanos.parse().ok()
}

/// Removes drafts of the file `path` that processes have left which were killed. They contain a key or secrets.
pub(crate) fn remove_drafts_of(path: &Path) {
    let (Some(name), Ok(entries)) = (path.file_name(), std::fs::read_dir(directory_of(path)))
    else {
        return;
    };
    let begin = format!("{}.", name.to_string_lossy());
    let now = rt::unix_time().as_nanos();
    for entry in entries.take(MAX_NAMES).flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let rest = name.strip_prefix(&begin).map(|rest| format!(".{rest}"));
        let begun = rest.filter(|rest| rest.matches('.').count() == 2);
        let begun = begun.and_then(|rest| begun_at(&rest));
        let is_old = begun.is_some_and(|begun| now.abs_diff(begun) > DRAFT_TIME.as_nanos());
        let is_file = entry.file_type().is_ok_and(|found| found.is_file());
        if is_old && is_file && std::fs::remove_file(entry.path()).is_ok() {
            tracing::info!(path = ?entry.path(), "removed a file that was not finished");
        }
    }
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
    if let Ok(directory) = File::open(directory_of(path)) {
        let _ = directory.sync_all();
    }
}

/// Returns the directory with the file `path`.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
pub(crate) fn create_private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(not(unix))]
pub(crate) fn create_private(path: &Path) -> std::io::Result<File> {
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

    #[test]
    fn old_drafts_of_a_file_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let now = rt::unix_time().as_nanos();
        let hour = 3_600_000_000_000;
        let old = [
            format!("node.key.7-{}.tmp", now - hour),
            "node.key.7-1.tmp".to_owned(),
        ];
        let others = [
            format!("node.key.7-{now}.tmp"),
            "other.key.7-1.tmp".to_owned(),
            "node.key.old.7-1.tmp".to_owned(),
            "node.key.7.tmp".to_owned(),
            "node.key.tmp".to_owned(),
            "node.key.7-1".to_owned(),
            "node.key".to_owned(),
        ];
        for name in old.iter().chain(&others) {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        remove_drafts_of(&path);
        for name in &old {
            assert!(!dir.path().join(name).exists(), "{name}");
        }
        for name in &others {
            assert!(dir.path().join(name).exists(), "{name}");
        }
        assert!(is_draft(draft_of(&path).file_name().unwrap()));
    }
}
