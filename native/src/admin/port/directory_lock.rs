//! A lock on the directory of a file, while the file of a dead node is replaced.
//!
//! Two nodes that start at the same time could otherwise both find the same dead file, and the second
//! would remove the file of the first. Nothing is left of a lock when its holder ends.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use gossip_transport::rt::{self, Instant};

/// The longest time to wait for another node that starts. It holds the lock for at most a second.
const LIMIT: Duration = Duration::from_secs(2);
/// The time between two attempts, since waiting would block the thread.
const PAUSE: Duration = Duration::from_millis(10);

/// Locks the directory of `path` until the returned value is dropped. It is `None` if the directory
/// cannot be opened or its file system has no locks; nothing is locked then.
///
/// # Errors
///
/// Fails if another process holds the lock for too long.
pub(super) async fn lock_directory_of(path: &Path) -> anyhow::Result<Option<File>> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let Ok(file) = File::open(directory) else {
        return Ok(None);
    };
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if start.elapsed() < LIMIT => rt::sleep(PAUSE).await,
            Err(TryLockError::WouldBlock) => bail!(
                "another process has locked the directory {}; choose another one with --admin",
                directory.display()
            ),
        }
    }
}
