//! `--state-dir`: a directory that one node owns, with its key and what it must remember over restarts; and that of
//! `--acme-dir`.
//!
//! What is in the files is not known here. Invariants: one process uses the directory at a time, nobody but its user
//! and root can write to it, and a file has all of its old content or all of the new one, also after a crash of the
//! machine. What a crash leaves of a file that was being written is removed at the next start.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::private_file;

/// The option that names it, in errors.
const OPTION: &str = "--state-dir";
/// The name of the file with the node's key.
const KEY: &str = "key";
/// The name of the file that is locked while a node uses the directory. It holds the number of its process.
const LOCK: &str = "lock";
/// The most names that are looked at for what a crash has left.
const MAX_NAMES: usize = 10_000;

/// A directory that this process has locked. Clones share it, and the last one unlocks it.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(Arc<Locked>);

#[derive(Debug)]
struct Locked {
    path: PathBuf,
    /// Locked until it is closed, also by the end of the process.
    _lock: File,
}

/// The reason for which a directory cannot be used.
#[derive(Debug)]
pub(crate) struct StateDirError {
    path: PathBuf,
    option: &'static str,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    /// It cannot be created or used.
    Io(io::Error),
    NotDirectory,
    /// It belongs to this user.
    OtherOwner(u32),
    /// Its mode lets others write.
    OthersMayWrite(u32),
    /// Another process uses it: that with this number, if it has written that.
    InUse(Option<u32>),
}

impl fmt::Display for StateDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "the directory {path} ({}) ", self.option)?;
        match &self.problem {
            Problem::Io(error) => write!(f, "cannot be used: {error}"),
            Problem::NotDirectory => f.write_str("is no directory"),
            Problem::OtherOwner(uid) => write!(
                f,
                "belongs to another user ({uid}), who could replace the key: chown it, or name another one"
            ),
            Problem::OthersMayWrite(mode) => write!(
                f,
                "can be written to by other users (mode {mode:03o}), who could replace the key: chmod 700 {path}"
            ),
            Problem::InUse(pid) => {
                f.write_str("is used by another node")?;
                if let Some(pid) = pid {
                    write!(f, " (process {pid})")?;
                }
                f.write_str(": end it, or give each node a directory of its own")
            }
        }
    }
}

impl std::error::Error for StateDirError {}

/// Returns the path of the key in the directory `path`.
pub(crate) fn key_in(path: &Path) -> PathBuf {
    path.join(KEY)
}

/// Checks that a directory can be used, or created. Creates nothing, and does not ask whether another node uses it.
///
/// # Errors
///
/// Fails if others can write to it, or if it is no directory.
pub(crate) fn check(path: &Path) -> Result<(), StateDirError> {
    check_for(path, OPTION)
}

/// Does the same for the directory of another option.
///
/// # Errors
///
/// Fails as [`check`] does.
pub(crate) fn check_for(path: &Path, option: &'static str) -> Result<(), StateDirError> {
    let checked = match std::fs::metadata(path) {
        Ok(found) => check_owner(&found),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = std::path::absolute(path).map(|path| path.parent().map(Path::to_path_buf));
            match parent {
                Ok(Some(parent)) if !parent.is_dir() => Err(Problem::Io(error)),
                Ok(_) => Ok(()),
                Err(error) => Err(Problem::Io(error)),
            }
        }
        Err(error) => Err(Problem::Io(error)),
    };
    in_directory(path, option, checked)
}

impl StateDir {
    /// Locks the directory `path`, which is created (mode 0700) if it does not exist, and removes what a crash has
    /// left in it.
    ///
    /// # Errors
    ///
    /// Fails if another process uses it, if others can write to it, or if it cannot be used.
    pub(crate) fn open(path: &Path) -> Result<Self, StateDirError> {
        Self::open_for(path, OPTION)
    }

    /// Does the same for the directory of another option.
    ///
    /// # Errors
    ///
    /// Fails as [`open`](Self::open) does.
    pub(crate) fn open_for(path: &Path, option: &'static str) -> Result<Self, StateDirError> {
        in_directory(path, option, Self::lock(path))
    }

    fn lock(path: &Path) -> Result<Self, Problem> {
        match create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(Problem::Io(error));
            }
            Err(_) => {}
            Ok(()) => tracing::info!(?path, "created the directory"),
        }
        // Absolute, in case this process changes its directory.
        let path = std::path::absolute(path).map_err(Problem::Io)?;
        check_owner(&std::fs::metadata(&path).map_err(Problem::Io)?)?;
        let mut lock = lock_file(&path.join(LOCK)).map_err(Problem::Io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Problem::InUse(pid_in(&mut lock))),
            Err(TryLockError::Error(error)) => return Err(Problem::Io(error)),
        }
        // For the error of another node. Nothing depends on it.
        let pid = std::process::id();
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{pid}"));
        let removed = remove_drafts(&path);
        if removed > 0 {
            tracing::info!(
                ?path,
                removed,
                "removed files that an earlier node has not finished"
            );
        }
        Ok(Self(Arc::new(Locked { path, _lock: lock })))
    }

    /// Returns the path of the file `name`.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }

    /// Reads the file `name`, or returns `None` if there is none. Blocks.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read, or is longer than `max_len` bytes.
    pub(crate) fn read(&self, name: &str, max_len: usize) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path_of(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        let limit = (max_len as u64).saturating_add(1);
        file.take(limit).read_to_end(&mut bytes)?;
        if bytes.len() > max_len {
            let message = format!("{name} is longer than {max_len} bytes");
            return Err(io::Error::new(ErrorKind::FileTooLarge, message));
        }
        Ok(Some(bytes))
    }

    /// Replaces the file `name` (mode 0600), or creates it. Once this returns, it lasts over a crash of the machine.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written. The file has the old content or the new one then, and after a crash either.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path_of(name);
        let draft = private_file::draft_of(&path);
        let mut file = private_file::create_private(&draft)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&draft, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        written?;
        sync(&self.0.path)
    }
}

fn in_directory<T>(
    path: &Path,
    option: &'static str,
    result: Result<T, Problem>,
) -> Result<T, StateDirError> {
    result.map_err(|problem| StateDirError {
        path: path.to_path_buf(),
        option,
        problem,
    })
}

#[cfg(unix)]
fn create(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)
}

/// Checks that only this user and root can write to a directory.
#[cfg(unix)]
fn check_owner(found: &Metadata) -> Result<(), Problem> {
    use std::os::unix::fs::MetadataExt as _;
    /// The user that may do everything.
    const ROOT: u32 = 0;
    if !found.is_dir() {
        return Err(Problem::NotDirectory);
    }
    if ![ROOT, rustix::process::geteuid().as_raw()].contains(&found.uid()) {
        return Err(Problem::OtherOwner(found.uid()));
    }
    let mode = found.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(Problem::OthersMayWrite(mode));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(found: &Metadata) -> Result<(), Problem> {
    found.is_dir().then_some(()).ok_or(Problem::NotDirectory)
}

/// Opens the file to be locked. It is never removed, since two nodes could then lock different ones.
fn lock_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Returns the number of the process that holds the lock, if it has written it.
fn pid_in(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Removes files that were being written when their process ended. Nobody else writes here. Returns their number.
fn remove_drafts(path: &Path) -> usize {
    let Ok(names) = std::fs::read_dir(path) else {
        return 0;
    };
    let drafts = names.take(MAX_NAMES).flatten().filter(|entry| {
        let is_file = entry.file_type().is_ok_and(|found| found.is_file());
        is_file && private_file::is_draft(&entry.file_name())
    });
    drafts
        .filter(|entry| std::fs::remove_file(entry.path()).is_ok())
        .count()
}

#[cfg(unix)]
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Other systems cannot open a directory.
#[cfg(not(unix))]
fn sync(_directory: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_read_within_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let state = StateDir::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(state.read("revocations", 10).unwrap(), None);
        state.write("revocations", b"first").unwrap();
        state.write("revocations", b"second").unwrap();
        let mode = std::fs::metadata(path.join("revocations")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(state.read("revocations", 6).unwrap().unwrap(), b"second");
        let error = state.read("revocations", 5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        // Besides the file there is the lock, and no draft.
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 2);
        let kept = |state: &StateDir| state.read("revocations", 6).unwrap().unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o500)).unwrap();
        if state.write("revocations", b"third").is_err() {
            assert_eq!(kept(&state), b"second");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        // A directory is in the way.
        std::fs::create_dir(path.join("taken")).unwrap();
        assert!(state.write("taken", b"x").is_err());
        assert_eq!(
            std::fs::read_dir(&path).unwrap().count(),
            3,
            "the draft is gone"
        );
    }

    #[test]
    fn it_is_locked_until_the_last_clone_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        let clone = first.clone();
        drop(first);
        let error = StateDir::open(dir.path()).unwrap_err().to_string();
        let pid = format!("is used by another node (process {})", std::process::id());
        assert!(error.contains(&pid), "{error}");
        drop(clone);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn drafts_are_removed_and_everything_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let draft = private_file::draft_of(&path("revocations"));
        for name in ["key", "a.tmp", "notes.tmp.txt"] {
            std::fs::write(path(name), name).unwrap();
        }
        std::fs::write(&draft, "half").unwrap();
        std::fs::create_dir(path("key.1-2.tmp")).unwrap();
        std::os::unix::fs::symlink("key", path("key.3-4.tmp")).unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert!(!draft.exists());
        for name in [
            "key",
            "a.tmp",
            "notes.tmp.txt",
            "key.1-2.tmp",
            "key.3-4.tmp",
        ] {
            assert!(path(name).exists(), "{name}");
        }
        drop(state);
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o770, 0o702] {
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
            for error in [StateDir::open(dir.path()).map(drop), check(dir.path())] {
                let error = error.unwrap_err().to_string();
                assert!(error.contains(&format!("mode {mode:o}")), "{error}");
            }
        }
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(check(dir.path()).is_ok() && StateDir::open(dir.path()).is_ok());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = StateDir::open(&file).unwrap_err().to_string();
        assert!(error.contains("is no directory"), "{error}");
        assert!(check(&dir.path().join("new")).is_ok());
        for open in [
            StateDir::open(&dir.path().join("a/b")).map(drop),
            check(&dir.path().join("a/b")),
        ] {
            assert!(open.unwrap_err().to_string().contains("cannot be used"));
        }
        assert!(!dir.path().join("new").exists());
    }
}
