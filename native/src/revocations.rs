//! The revoked invites, which a node remembers over restarts in the file `revocations` of `--state-dir`.
//!
//! What is revoked takes effect through [`Trust`], also if another member has revoked it; a task writes it down. The
//! file has an id on each line, and those that have expired for a day are left out the next time. Invariants: nothing is accepted
//! before the file has been read; one thread writes at a time, since a file system may never answer; what
//! [`Revocations::revoke`] calls kept is on the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use gossip_transport::credential::{InviteId, RevokeError, Trust};
use gossip_transport::rt::{self, Task};
use tokio::sync::{Notify, watch};

use crate::private_file;
use crate::state_dir::StateDir;
use crate::trust_files::entries;

/// The name of the file.
const FILE: &str = "revocations";
/// The longest file that is read, in bytes: 4,096 ids take 108 KiB, and comments may be added.
const MAX_LEN: usize = 1 << 20;
/// The time after which writing is tried again that has failed.
const RETRY: Duration = Duration::from_secs(5);
/// The time after which a client is told that its revocation is not written. A client waits for 10 s.
const WRITE_LIMIT: Duration = Duration::from_secs(7);

/// The revoked invites of a node, and where they are kept. Clones share both.
#[derive(Clone)]
pub(crate) struct Revocations {
    trust: Trust,
    state_dir: Option<StateDir>,
    /// Wakes the task that writes.
    wanted: Arc<Notify>,
    progress: Arc<watch::Sender<Progress>>,
}

/// How far the task that writes has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// The ids that are in the file, sorted.
    written: Vec<InviteId>,
    failures: u64,
    /// The reason of the last failure, unless it was followed by a success.
    failure: Option<String>,
}

/// What has become of a revocation that has taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is on the disk.
    OnDisk,
    /// The node has no state directory, and forgets it when it ends.
    InMemory,
    /// The invite has expired long ago, or there is no room, so nothing is remembered.
    NotNeeded,
}

/// The reason for which an invite is not revoked, or not for good.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RevokeFailure {
    Refused(RevokeError),
    /// It is revoked until the node ends, and is not written, for this reason.
    NotWritten(String),
}

impl Progress {
    fn has(&self, id: InviteId) -> bool {
        self.written.binary_search(&id).is_ok()
    }
}

impl Revocations {
    /// Reads the file, and revokes what is in it.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read, or if a line is not an id.
    pub(crate) fn read(trust: Trust, state_dir: Option<StateDir>) -> anyhow::Result<Self> {
        let written = match &state_dir {
            Some(dir) => {
                let read = dir.read(FILE, MAX_LEN);
                in_file(&dir.path_of(FILE), &trust, read)?
            }
            None => Vec::new(),
        };
        let progress = Progress {
            written,
            ..Progress::default()
        };
        Ok(Self {
            trust,
            state_dir,
            wanted: Arc::default(),
            progress: Arc::new(watch::Sender::new(progress)),
        })
    }

    /// Returns the ids that are revoked and have not expired, in the order in which they will.
    pub(crate) fn ids(&self) -> Vec<InviteId> {
        self.trust.revoked()
    }

    /// Returns where a revocation is kept that has taken effect.
    pub(crate) fn kept(&self, id: InviteId) -> Kept {
        if self.progress.borrow().has(id) {
            Kept::OnDisk
        } else {
            Kept::InMemory
        }
    }

    /// Revokes an invite and writes that down. If the future is dropped, that is done nevertheless.
    ///
    /// # Errors
    ///
    /// Fails if the id cannot be revoked, or if it cannot be written within seconds.
    pub(crate) async fn revoke(&self, id: InviteId) -> Result<Kept, RevokeFailure> {
        let mut progress = self.progress.subscribe();
        let failures = progress.borrow_and_update().failures;
        self.trust.revoke(id).map_err(RevokeFailure::Refused)?;
        // One that has expired lately is kept, since the clock may be ahead.
        let is_kept = || self.trust.revocations_to_keep().binary_search(&id).is_ok();
        if id.is_expired(rt::unix_time()) && !is_kept() {
            return Ok(Kept::NotNeeded);
        }
        if self.state_dir.is_none() {
            return Ok(Kept::InMemory);
        }
        self.wanted.notify_one();
        let is_decided = |now: &Progress| now.has(id) || now.failures > failures;
        let decided = rt::timeout(WRITE_LIMIT, progress.wait_for(is_decided)).await;
        match decided {
            Ok(Ok(now)) if now.has(id) => Ok(Kept::OnDisk),
            Ok(Ok(now)) => {
                let reason = now.failure.clone().unwrap_or_default();
                Err(RevokeFailure::NotWritten(reason))
            }
            Ok(Err(_)) | Err(_) => Err(RevokeFailure::NotWritten(
                "the file system does not answer".to_owned(),
            )),
        }
    }

    /// Writes down what is revoked, here or by other members, until the returned task is dropped.
    pub(crate) fn keep(&self) -> Option<Task> {
        let dir = self.state_dir.clone()?;
        Some(Task::spawn(self.clone().run(dir)))
    }

    async fn run(self, dir: StateDir) {
        loop {
            // In this order, so that no change is missed.
            let seen = self.trust.changes();
            let ids = self.trust.revocations_to_keep();
            let before = self.progress.borrow().clone();
            let mut has_failed = false;
            if ids != before.written {
                let (dir, text) = (dir.clone(), text(&ids));
                let write = move || dir.write(FILE, text.as_bytes());
                let written = tokio::task::spawn_blocking(write).await;
                let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
                has_failed = written.is_err();
                self.note(ids, written, &before);
            }
            let retry = async {
                if has_failed {
                    rt::sleep(RETRY).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = self.trust.changed_since(seen) => {}
                () = self.wanted.notified() => {}
                () = retry => {}
            }
        }
    }

    fn note(&self, ids: Vec<InviteId>, written: io::Result<()>, before: &Progress) {
        let next = match written {
            Ok(()) => {
                let new: Vec<_> = ids.iter().filter(|id| !before.has(**id)).collect();
                let shown: Vec<_> = new
                    .iter()
                    .take(MAX_LOGGED)
                    .map(ToString::to_string)
                    .collect();
                if !new.is_empty() {
                    let (new, ids) = (new.len(), shown.join(", "));
                    tracing::info!(new, ids, "wrote down revoked invites");
                }
                Progress {
                    written: ids,
                    failures: before.failures,
                    failure: None,
                }
            }
            Err(error) => {
                if before.failure.is_none() {
                    tracing::warn!(
                        %error,
                        "cannot write down revoked invites, which hold until the node ends; will try again"
                    );
                }
                Progress {
                    written: before.written.clone(),
                    failures: before.failures.saturating_add(1),
                    failure: Some(error.to_string()),
                }
            }
        };
        self.progress.send_replace(next);
    }
}

/// The most ids in a line of the log.
const MAX_LOGGED: usize = 10;

/// Checks the file in the state directory `dir`, if it is there, without using the directory.
///
/// # Errors
///
/// Fails as [`Revocations::read`] does.
pub(crate) fn check(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(FILE);
    let read = match private_file::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map(String::into_bytes),
    };
    in_file(&path, &Trust::keys([]), read.map(Some)).map(drop)
}

/// Revokes what was read from the file `path`, and returns the ids that are kept.
fn in_file(
    path: &Path,
    trust: &Trust,
    read: io::Result<Option<Vec<u8>>>,
) -> anyhow::Result<Vec<InviteId>> {
    let path = path.display();
    let bytes = read.with_context(|| format!("cannot read the revoked invites {path}"))?;
    let bytes = bytes.unwrap_or_default();
    let ids = revoke_all(trust, &String::from_utf8_lossy(&bytes));
    ids.map_err(|reason| anyhow!("{path}{reason}"))
}

/// Revokes the ids in the text of a file, and returns those that are kept: not those that have expired long ago.
///
/// # Errors
///
/// Fails with a text that follows the name of the file.
fn revoke_all(trust: &Trust, text: &str) -> Result<Vec<InviteId>, String> {
    for (line, entry) in entries(text) {
        let id: InviteId = entry.parse().map_err(|_| {
            format!(
                ", line {line}: not the id of an invite, which is 26 characters of base32 (a-z, 2-7): the file is \
                 damaged; restore it, or remove the line, with which an invite may become valid again"
            )
        })?;
        trust.revoke(id).map_err(|error| match error {
            RevokeError::TooFarAhead { .. } => format!(
                ", line {line}: {error}: correct the clock, or remove the line, with which an invite may become valid \
                 again"
            ),
            error => format!(", line {line}: {error}"),
        })?;
    }
    Ok(trust.revocations_to_keep())
}

fn text(ids: &[InviteId]) -> String {
    let lines = ids.iter().map(|id| format!("{id}\n"));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust() -> Trust {
        Trust::secret(gossip_transport::ClusterSecret::generate())
    }

    /// Revocations that are kept in a directory of their own, of which the first file is `text`.
    struct Keeping {
        dir: tempfile::TempDir,
        revocations: Revocations,
        _task: Option<Task>,
    }

    impl Keeping {
        fn start(text: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let state = StateDir::open(dir.path()).unwrap();
            if !text.is_empty() {
                state.write(FILE, text.as_bytes()).unwrap();
            }
            let revocations = Revocations::read(trust(), Some(state)).unwrap();
            let _task = revocations.keep();
            Self {
                dir,
                revocations,
                _task,
            }
        }

        fn path(&self) -> std::path::PathBuf {
            self.dir.path().join(FILE)
        }

        fn file(&self) -> String {
            std::fs::read_to_string(self.path()).unwrap()
        }
    }

    fn id(seconds: u64) -> InviteId {
        InviteId::generate(rt::unix_time(), Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_a_damaged_line_is_named() {
        let (a, b) = (id(60), id(3600));
        let read = trust();
        assert_eq!(revoke_all(&read, &text(&[a, b])), Ok(vec![a, b]));
        assert_eq!(read.revoked(), [a, b]);
        assert_eq!(revoke_all(&trust(), "# none\n\n"), Ok(Vec::new()));
        let half = &a.to_string()[..20];
        for damaged in [half, "gossip", "\u{fffd}"] {
            let error = revoke_all(&trust(), &format!("{b}\n{damaged}\n")).unwrap_err();
            assert!(error.starts_with(", line 2: not the id"), "{error}");
        }
        // An id of a time that no invite has by now.
        let later = rt::unix_time() + InviteId::MAX_LIFETIME;
        let far = InviteId::generate(later, Duration::from_secs(3600))
            .unwrap()
            .to_string();
        let error = revoke_all(&trust(), &far).unwrap_err();
        assert!(
            error.contains("line 1") && error.contains("clock"),
            "{error}"
        );
    }

    #[test]
    fn an_id_that_has_expired_long_ago_is_read_and_not_kept() {
        let hour = Duration::from_secs(3600);
        let at = |time| InviteId::generate(time, hour).unwrap();
        let long_ago = at(Duration::from_secs(1_700_000_000));
        // The clock may be ahead, and be set back.
        let lately = at(rt::unix_time() - 3 * hour);
        let text = text(&[long_ago, lately]);
        let trust = trust();
        assert_eq!(revoke_all(&trust, &text), Ok(vec![lately]));
        assert_eq!(trust.revoked(), []);
    }

    #[tokio::test]
    async fn an_invite_that_is_revoked_while_the_clock_is_ahead_stays_revoked_once_it_is_set_back()
    {
        let keeping = Keeping::start("");
        let revocations = &keeping.revocations;
        let hour = Duration::from_secs(3600);
        let lately = InviteId::generate(rt::unix_time() - 3 * hour, hour).unwrap();
        let long_ago = InviteId::generate(rt::unix_time() - 72 * hour, hour).unwrap();
        assert_eq!(revocations.revoke(lately).await, Ok(Kept::OnDisk));
        assert_eq!(revocations.revoke(long_ago).await, Ok(Kept::NotNeeded));
        assert_eq!(keeping.file(), text(&[lately]));
    }

    #[test]
    fn the_largest_file_that_is_written_can_be_read() {
        assert!(text(&[id(60)]).len() * 4096 <= MAX_LEN);
    }

    #[tokio::test]
    async fn a_revocation_that_was_not_written_is_written_at_once_when_it_is_repeated() {
        let keeping = Keeping::start("");
        let revocations = &keeping.revocations;
        let path = keeping.path();
        std::fs::create_dir(&path).unwrap();
        let id = id(60);
        assert!(revocations.revoke(id).await.is_err());
        std::fs::remove_dir(&path).unwrap();
        let start = rt::Instant::now();
        assert_eq!(revocations.revoke(id).await, Ok(Kept::OnDisk));
        assert!(start.elapsed() < RETRY / 2);
    }

    #[tokio::test]
    async fn an_id_that_has_expired_lately_stays_in_the_file() {
        let (hour, now) = (Duration::from_secs(3600), rt::unix_time());
        let lately = InviteId::generate(now - hour * 3, hour).unwrap();
        let keeping = Keeping::start(&text(&[lately]));
        let revocations = &keeping.revocations;
        let id = id(60);
        assert_eq!(revocations.revoke(id).await, Ok(Kept::OnDisk));
        assert_eq!(keeping.file(), text(&[lately, id]));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_tried_again_without_being_asked() {
        let keeping = Keeping::start("");
        let revocations = &keeping.revocations;
        let path = keeping.path();
        std::fs::create_dir(&path).unwrap();
        let id = id(60);
        assert!(revocations.revoke(id).await.is_err());
        // It may have been woken twice.
        rt::sleep(Duration::from_millis(200)).await;
        std::fs::remove_dir(&path).unwrap();
        let mut progress = revocations.progress.subscribe();
        let written = progress.wait_for(|now| now.has(id));
        let written = rt::timeout(RETRY * 4, written).await;
        drop(written.expect("it is tried again").unwrap());
    }

    #[tokio::test]
    async fn a_revocation_that_cannot_be_written_is_reported_and_written_later() {
        let keeping = Keeping::start("");
        let revocations = &keeping.revocations;
        // A directory is in the way.
        let path = keeping.path();
        std::fs::create_dir(&path).unwrap();
        let (a, b) = (id(60), id(60));
        let Err(RevokeFailure::NotWritten(reason)) = revocations.revoke(a).await else {
            panic!("it is not written");
        };
        assert!(!reason.is_empty());
        assert_ne!(reason, "the file system does not answer", "it does");
        assert_eq!(revocations.ids(), [a], "it holds nevertheless");
        std::fs::remove_dir(&path).unwrap();
        assert_eq!(revocations.revoke(b).await, Ok(Kept::OnDisk));
        let read = std::fs::read_to_string(&path).unwrap();
        assert_eq!(read, text(&revocations.ids()));
        assert_eq!(read.lines().count(), 2);
        // Those of other members are written as well.
        let other = id(60);
        revocations.trust.revoke(other).unwrap();
        let mut progress = revocations.progress.subscribe();
        let written = progress.wait_for(|now| now.has(other)).await;
        drop(written.unwrap());
    }
}
