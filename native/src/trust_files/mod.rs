//! The files of cluster secrets, trusted keys and an invite, which may change while the node runs.
//!
//! They are looked at every second, and the secrets can be changed by commands as well. The library closes what
//! is not trusted any more. All files are read and written by blocking tasks, one at a time, since a file system
//! may never answer. Invariants: a file that is not valid changes nothing, and is warned of once; a command changes
//! the file before the node, so that a restart keeps what was done, and if it fails nothing was changed; no secret
//! is logged, only its id.
//!
//! | file | contents |
//! |---|---|
//! | `lines` | text files with one entry on each line |
//! | `secret_file`, `key_file`, `invite_file` | the content of these files |
//! | `change` | a change of the secrets |
//! | `error` | the reasons for which a change is not possible |

mod change;
mod error;
mod invite_file;
mod key_file;
mod lines;
mod secret_file;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use gossip_transport::credential::{ClusterSecret, Identity, Invite, Keyring, SecretId, Trust};
use gossip_transport::rt::{self, Task};

use crate::args::Args;
use crate::private_file;
use crate::watched_file::{LOOK_EVERY, Look, SETTLE, WatchedFile, watch};
pub(crate) use change::Change;
pub(crate) use error::ChangeError;
pub(crate) use lines::{entries, lacks};
use secret_file::SecretFile;
pub(crate) use secret_file::{first_secret, only_secret};

/// The time that a change waits for another one to end.
const TURN_LIMIT: Duration = Duration::from_secs(3);
/// The time after which the client of a change is told that it does not end. A client waits for 10 s.
const CHANGE_LIMIT: Duration = Duration::from_secs(7);

/// The peers that the node trusts, and the files that list them. Clones share both.
#[derive(Clone)]
pub(crate) struct TrustFiles {
    trust: Trust,
    shared: Arc<Shared>,
}

struct Shared {
    secret_path: Option<PathBuf>,
    /// The files, unless somebody is using them.
    files: Mutex<Option<Files>>,
    returned: Condvar,
}

/// The files that are regular ones: a pipe can be read only once.
#[derive(Default)]
struct Files {
    secret: Option<WatchedFile>,
    keys: Option<WatchedFile>,
    invite: Option<WatchedFile>,
    /// The keys of the command line, which are trusted besides those of the file.
    given_keys: Vec<Identity>,
}

impl TrustFiles {
    /// Reads the files that the arguments name.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read or parsed.
    pub(crate) fn read(args: &Args) -> anyhow::Result<Self> {
        let mut files = Files {
            given_keys: args.trusted.clone(),
            ..Files::default()
        };
        // The file of options may name trusted keys, or anyone. Files with secrets are warned of when they are read.
        for path in [&args.config, &args.trust_file].into_iter().flatten() {
            private_file::warn_if_writable(path);
        }
        let mut keys = args.trusted.clone();
        if let Some(path) = &args.trust_file {
            let text = private_file::read(path);
            let text = text.with_context(|| format!("cannot read the keys {}", path.display()))?;
            keys.extend(in_file(path, key_file::parse(&text, &keys)).map_err(anyhow::Error::msg)?);
            files.keys = watch(path, &text);
        }
        let mut keyring = None;
        if let Some(path) = &args.secret {
            let text = read_secret(path)?;
            let parsed = in_file(path, SecretFile::parse(&text)).map_err(anyhow::Error::msg)?;
            keyring = Some(parsed.keyring().clone());
            files.secret = watch(path, &text);
        }
        let keys = args.has_trusted_keys().then_some(keys);
        let trust = match &args.invite {
            Some(path) => {
                let text = private_file::read_private(path);
                let text =
                    text.with_context(|| format!("cannot read the invite {}", path.display()))?;
                let parsed = in_file(path, invite_file::parse(&text));
                files.invite = watch(path, &text);
                Trust::invite(parsed.map_err(anyhow::Error::msg)?)
            }
            None => trust(args, keyring, keys),
        };
        Ok(Self {
            trust,
            shared: Arc::new(Shared {
                secret_path: args.secret.clone(),
                files: Mutex::new(Some(files)),
                returned: Condvar::new(),
            }),
        })
    }

    /// Returns the policy that the files describe, and that changes with them.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Applies changes of the files until the returned task is dropped. The node has the name `node_id`, which a new
    /// invite must allow.
    pub(crate) fn watch(&self, node_id: &str) -> Task {
        let files = self.clone();
        let node_id: Arc<str> = node_id.into();
        let is_any = |files: &mut Files| {
            let files = [&files.secret, &files.keys, &files.invite];
            files.iter().any(|file| file.is_some())
        };
        let is_any = self.shared.with(Duration::ZERO, is_any);
        Task::spawn(async move {
            if is_any == Some(false) {
                return;
            }
            let mut wait = LOOK_EVERY;
            loop {
                rt::sleep(wait).await;
                let (looking, node_id) = (files.clone(), Arc::clone(&node_id));
                let look = move || looking.look(&node_id);
                let looked = tokio::task::spawn_blocking(look).await;
                wait = match looked {
                    Ok(Settled::No) => SETTLE,
                    Ok(Settled::Yes) | Err(_) => LOOK_EVERY,
                };
            }
        })
    }

    /// Changes the secrets: first in their file, and then those of the node. Returns the secret that the change is
    /// about. If the future is dropped, the change is made nevertheless.
    ///
    /// # Errors
    ///
    /// Fails if the change is not possible. Nothing has changed then, except after [`ChangeError::Unfinished`].
    pub(crate) async fn change(&self, change: Change) -> Result<SecretId, ChangeError> {
        let path = self.shared.secret_path.clone();
        let path = path.ok_or(ChangeError::NoFile)?;
        let (files, file) = (self.clone(), path.clone());
        let work = tokio::task::spawn_blocking(move || {
            let turn = files.shared.with(TURN_LIMIT, |all| {
                files.change_file(all.secret.as_mut(), &file, &change)
            });
            turn.unwrap_or(Err(ChangeError::Busy(file)))
        });
        match rt::timeout(CHANGE_LIMIT, work).await {
            Ok(Ok(changed)) => changed,
            Ok(Err(_)) | Err(_) => Err(ChangeError::Unfinished(path)),
        }
    }

    fn change_file(
        &self,
        watched: Option<&mut WatchedFile>,
        path: &Path,
        change: &Change,
    ) -> Result<SecretId, ChangeError> {
        let Some(watched) = watched else {
            let reason = "it is not a regular file".to_owned();
            return Err(ChangeError::NotWritable(path.to_path_buf(), reason));
        };
        // Not what the node uses, since the file may have been changed just now.
        let text = in_file(path, watched.read()).map_err(ChangeError::InvalidFile)?;
        let parsed = in_file(path, SecretFile::parse(&text));
        let mut file = parsed.map_err(ChangeError::InvalidFile)?;
        let id = file.change(change)?;
        let changed = file.text();
        if changed != text {
            private_file::replace(path, &changed)
                .map_err(|error| ChangeError::NotWritable(path.to_path_buf(), error.to_string()))?;
        }
        watched.wrote(&changed);
        self.trust.set_keyring(file.keyring().clone());
        let secrets = ids(file.keyring());
        tracing::info!(
            id = id.to_string(),
            secrets,
            "a secret was {} by an admin command",
            change.past()
        );
        Ok(id)
    }

    /// Looks at the files, and applies what has changed. Does nothing while a command changes them.
    fn look(&self, node_id: &str) -> Settled {
        let looked = self.shared.with(Duration::ZERO, |files| {
            let mut settled = Settled::Yes;
            if let Some(file) = &mut files.secret {
                match file.look() {
                    Look::Same => {}
                    Look::Unsettled => settled = Settled::No,
                    Look::New(text) => self.apply_secrets(file.path(), text),
                }
            }
            let given = &files.given_keys;
            if let Some(file) = &mut files.keys {
                match file.look() {
                    Look::Same => {}
                    Look::Unsettled => settled = Settled::No,
                    Look::New(text) => self.apply_keys(file.path(), text, given),
                }
            }
            if let Some(file) = &mut files.invite {
                match file.look() {
                    Look::Same => {}
                    Look::Unsettled => settled = Settled::No,
                    Look::New(text) => self.apply_invite(file.path(), text, node_id),
                }
            }
            settled
        });
        looked.unwrap_or(Settled::Yes)
    }

    fn apply_secrets(&self, path: &Path, text: Result<String, String>) {
        let file = text.and_then(|text| SecretFile::parse(&text));
        match in_file(path, file) {
            Ok(file) => {
                let changed = self.trust.set_keyring(file.keyring().clone());
                let secrets = ids(file.keyring());
                tracing::info!(secrets, changed, "read the secrets again");
            }
            Err(reason) => {
                tracing::warn!(reason, "the secrets stay as they are");
            }
        }
    }

    fn apply_invite(&self, path: &Path, text: Result<String, String>, node_id: &str) {
        let invite = text.and_then(|text| {
            let invite = invite_file::parse(&text)?;
            self.check_next(&invite, node_id)?;
            Ok(invite)
        });
        match in_file(path, invite) {
            Ok(invite) => {
                let id = invite.claims().id().to_string();
                // The trust of a node with such a file was made with an invite.
                let changed = self.trust.set_invite(invite).unwrap_or_default();
                tracing::info!(id, changed, "read the invite again");
            }
            Err(reason) => tracing::warn!(reason, "the invite stays as it is"),
        }
    }

    /// Fails if the running node cannot go on with another invite.
    fn check_next(&self, invite: &Invite, node_id: &str) -> Result<(), String> {
        let held = self.trust.held_invite();
        if held.is_some_and(|held| held.cluster_id() != invite.cluster_id()) {
            return Err(" is of another cluster: restart the node to join that".to_owned());
        }
        let prefix = invite.claims().name_prefix();
        if !prefix.allows(node_id) {
            return Err(format!(
                " demands names that begin with {prefix:?}: restart the node with such an --id"
            ));
        }
        Ok(())
    }

    fn apply_keys(&self, path: &Path, text: Result<String, String>, given: &[Identity]) {
        let keys = text.and_then(|text| key_file::parse(&text, given));
        match in_file(path, keys) {
            Ok(mut keys) => {
                keys.extend(given);
                keys.sort_unstable();
                keys.dedup();
                let count = keys.len();
                let changed = self.trust.set_keys(keys);
                tracing::info!(keys = count, changed, "read the trusted keys again");
            }
            Err(reason) => {
                tracing::warn!(reason, "the trusted keys stay as they are");
            }
        }
    }
}

/// Whether all files have stayed the same for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

impl Shared {
    /// Calls `f` with the files, or returns `None` if somebody else uses them for all of `limit`. The lock is not
    /// held meanwhile, so that nobody waits for longer than that.
    fn with<R>(&self, limit: Duration, f: impl FnOnce(&mut Files) -> R) -> Option<R> {
        let is_used = |files: &mut Option<Files>| files.is_none();
        let waited = self
            .returned
            .wait_timeout_while(self.lock(), limit, is_used);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut files = free.take()?;
        drop(free);
        let result = f(&mut files);
        *self.lock() = Some(files);
        self.returned.notify_one();
        Some(result)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Files>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn trust(args: &Args, keyring: Option<Keyring>, keys: Option<Vec<Identity>>) -> Trust {
    let trust = match (keyring, keys) {
        _ if args.trust_anyone => {
            tracing::warn!("--trust-anyone: every peer that can reach this port is accepted");
            Trust::dangerously_anyone()
        }
        (Some(keyring), None) => Trust::secrets(keyring),
        (Some(keyring), Some(keys)) => Trust::keys_and_secret(keys, keyring),
        (None, keys) => Trust::keys(keys.unwrap_or_default()),
    };
    // Without a secret, there is no invite to accept.
    if args.refuse_invites {
        trust
    } else {
        trust.accepting_invites()
    }
}

fn read_secret(path: &Path) -> anyhow::Result<String> {
    private_file::read_private(path).map_err(|error| {
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
    })
}

/// Puts the name of the file before the reason of an error.
fn in_file<T>(path: &Path, result: Result<T, String>) -> Result<T, String> {
    result.map_err(|reason| format!("{}{reason}", path.display()))
}

/// Returns the ids of the secrets for the log, the one for dialling first.
fn ids(keyring: &Keyring) -> String {
    let ids: Vec<_> = keyring.secrets().map(ClusterSecret::id).collect();
    error::list(&ids)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// Returns the error of a node that is started with `option` and a file of this content.
    fn refused(option: &str, content: Option<&[u8]>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let path = path.to_str().unwrap();
        let args = Args::try_parse_from(["gossip-node", option, path]).unwrap();
        let error = TrustFiles::read(&args).err().unwrap();
        let error = format!("{error:#}");
        assert!(error.contains(path), "{error}");
        error
    }

    #[test]
    fn a_missing_secret_is_reported_with_the_option_that_makes_one() {
        let error = refused("--secret", None);
        assert!(error.contains("--make-secret"), "{error}");
    }

    #[test]
    fn an_empty_file_is_reported_with_what_to_do() {
        for text in ["", "\n"] {
            let error = refused("--secret", Some(text.as_bytes()));
            assert!(error.contains("is empty"), "{error}");
            assert!(error.contains("from another node"), "{error}");
            let error = refused("--trust-file", Some(text.as_bytes()));
            assert!(error.contains("is empty"), "{error}");
            assert!(error.contains("nobody would be trusted"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_utf_8_is_reported_with_what_to_do() {
        let text = ClusterSecret::generate().to_text();
        let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let error = refused("--secret", Some(&[&[0xff, 0xfe], &utf_16[..]].concat()));
        assert!(error.contains("from another node"), "{error}");
    }

    #[test]
    fn keys_of_the_file_and_of_the_command_line_are_trusted() {
        let key = |n| Identity::from_bytes([n; 32]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        std::fs::write(&path, format!("# b\n{}\n", key(2))).unwrap();
        let given = key(1).to_string();
        let args = [
            "gossip-node",
            "--trust",
            &given,
            "--trust-file",
            path.to_str().unwrap(),
        ];
        let files = TrustFiles::read(&Args::try_parse_from(args).unwrap()).unwrap();
        let trusted = [1, 2, 3].map(|n| files.trust().allows(&key(n)));
        assert_eq!(trusted, [true, true, false]);
        // A file without keys is valid while the command line has one.
        std::fs::write(&path, "# none\n").unwrap();
        assert_eq!(
            [files.look("a"), files.look("a")],
            [Settled::No, Settled::Yes]
        );
        let trusted = [1, 2].map(|n| files.trust().allows(&key(n)));
        assert_eq!(trusted, [true, false]);
    }

    #[test]
    fn an_invite_of_another_cluster_is_not_taken_from_a_file_that_has_changed() {
        use gossip_transport::credential::{Claims, InviteId};

        let secret = ClusterSecret::generate();
        let invite = |cluster: &str| {
            let id = InviteId::generate(rt::unix_time(), Duration::from_secs(60)).unwrap();
            Invite::issue(&secret, Claims::new(id), cluster.to_owned(), Vec::new()).unwrap()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invite");
        let held = invite("a");
        std::fs::write(&path, held.to_text().as_bytes()).unwrap();
        let args = ["gossip-node", "--invite", path.to_str().unwrap()];
        let files = TrustFiles::read(&Args::try_parse_from(args).unwrap()).unwrap();
        let next = invite("a");
        for (written, expected) in [(&invite("b"), &held), (&next, &next)] {
            std::fs::write(&path, written.to_text().as_bytes()).unwrap();
            assert_eq!(
                [files.look("node"), files.look("node")],
                [Settled::No, Settled::Yes]
            );
            let taken = files.trust().held_invite().unwrap();
            assert_eq!(taken.claims(), expected.claims());
            assert_eq!(taken.cluster_id(), "a");
        }
    }

    #[test]
    fn who_waits_for_the_files_too_long_is_told_and_has_changed_nothing() {
        let args = ["gossip-node", "--trust-anyone"];
        let files = TrustFiles::read(&Args::try_parse_from(args).unwrap()).unwrap();
        let shared = &files.shared;
        let outer = shared.with(Duration::ZERO, |_| shared.with(Duration::ZERO, |_| ()));
        assert_eq!(outer, Some(None));
        assert_eq!(shared.with(Duration::ZERO, |_| ()), Some(()));
    }
}
