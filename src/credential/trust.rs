//! The policy that decides which peers may connect, and which of their connections may stay.
//!
//! A policy is shared: clones have the same secrets and keys, and what is changed through one of them holds for all
//! at once. No connection is closed here; whoever holds connections watches for changes and asks
//! [`judge`](Trust::judge). Invariants: a policy that demands a secret demands one for ever, and no lock is held
//! while the check of [`refusing`](Trust::refusing) runs.

use std::fmt;
use std::sync::Arc;

use super::identity::Identity;
use super::keyring::Keyring;
use super::refusal::Refusal;
use super::secret::{ClusterSecret, SecretId};
use crate::rt::sync::{Epoch, Mutex};

/// The policy that decides which peers may connect, in either direction. There is no default, since
/// the decision belongs to the user.
///
/// Both sides of a connection must trust each other. Either both sides use a cluster secret, or neither
/// does; otherwise they do not connect. If they do, the first secret of the dialler must be one of the acceptor's.
///
/// Clones share the policy, and it can change at run time: [`set_keyring`](Self::set_keyring),
/// [`set_keys`](Self::set_keys). A socket closes the connections that are not trusted any more within 2 s.
#[derive(Clone)]
pub struct Trust {
    shared: Arc<Shared>,
    refusing: Option<Arc<Refuse>>,
}

struct Shared {
    policy: Mutex<Policy>,
    changes: Epoch,
}

#[derive(Clone, Default)]
struct Policy {
    /// The trusted keys, sorted and without duplicates, or `None` to trust every key.
    keys: Option<Arc<[Identity]>>,
    keyring: Option<Arc<Keyring>>,
}

/// The check that [`Trust::refusing`] adds.
type Refuse = dyn Fn(&Identity) -> Option<Refusal> + Send + Sync;

/// What a handshake has proved of a peer besides its identity, on which the trust in a connection rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Grounds {
    /// The network does not say. Only the identity is judged, if the peer has proved one.
    #[default]
    Unknown,
    /// The peer has proved its identity, and no secret was used.
    Identity,
    /// The peer has proved that it knows this secret.
    Secret(SecretId),
}

/// Whether a connection is trusted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// It is trusted, and a new one would have the same grounds.
    Current,
    /// It is trusted, but a new one would use another secret.
    Outdated,
    /// It is not trusted any more, but the identity is: a new connection may be.
    SecretRemoved,
    /// The identity is refused for this reason.
    Refused(Refusal),
}

impl Trust {
    /// Trusts exactly these identities. An empty list trusts no peer.
    pub fn keys(keys: impl IntoIterator<Item = Identity>) -> Self {
        Self::new(Some(sorted(keys)), None)
    }
    /// Trusts every peer that knows the cluster secret.
    pub fn secret(secret: ClusterSecret) -> Self {
        Self::secrets(secret.into())
    }
    /// Trusts every peer that knows one of the cluster secrets.
    pub fn secrets(keyring: Keyring) -> Self {
        Self::new(None, Some(keyring))
    }
    /// Trusts these identities, and only if they know a cluster secret as well.
    pub fn keys_and_secret(
        keys: impl IntoIterator<Item = Identity>,
        secrets: impl Into<Keyring>,
    ) -> Self {
        Self::new(Some(sorted(keys)), Some(secrets.into()))
    }
    /// Trusts every peer. Connections are encrypted, but anyone can be at the other end. For tests
    /// and demonstrations.
    pub fn dangerously_anyone() -> Self {
        Self::new(None, None)
    }

    fn new(keys: Option<Arc<[Identity]>>, keyring: Option<Keyring>) -> Self {
        let keyring = keyring.map(Arc::new);
        let policy = Mutex::new(Policy { keys, keyring });
        let changes = Epoch::default();
        Self {
            shared: Arc::new(Shared { policy, changes }),
            refusing: None,
        }
    }

    /// Adds a check: a peer is also refused if `refuse` returns a reason. It is called in each
    /// handshake, after the peer has proved its identity, and for each connection when this policy changes, so it
    /// must not block. An acceptor sends the reason to the dialler.
    ///
    /// This allows decisions that change at run time, such as a list of revoked keys: call
    /// [`check_again`](Self::check_again) after a change. The secrets and keys are shared with the policy that this
    /// was called on, the check is not. It replaces the check of an earlier call.
    #[must_use]
    pub fn refusing(
        mut self,
        refuse: impl Fn(&Identity) -> Option<Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.refusing = Some(Arc::new(refuse));
        self
    }

    /// Replaces the cluster secrets, for all clones. Returns whether they have changed.
    ///
    /// New connections use the new secrets at once; a handshake that has begun ends with those that it began with, and
    /// its connection is checked afterwards. Open ones that were made with another secret than the first are
    /// replaced by the side that has dialled them, without losing a message, and those that were made with a
    /// secret that is not there any more, or without one, are closed within 2 s. What is on its way there is
    /// received before, unless one of the two sides is too busy for that.
    ///
    /// Returns immediately, and does not wait for connections. A policy that had no secrets demands one from then on,
    /// and none of them can be taken away again. To replace a secret, see [`Keyring`].
    pub fn set_keyring(&self, keyring: impl Into<Keyring>) -> bool {
        let keyring = keyring.into();
        self.change(|policy| {
            let is_other = policy.keyring.as_deref() != Some(&keyring);
            policy.keyring = Some(Arc::new(keyring));
            is_other
        })
    }

    /// Replaces the list of trusted identities, for all clones. Returns whether it has changed. Open connections of
    /// others are closed at once (within 50 ms after an earlier change), and what is on its way there is lost.
    /// An empty list trusts no peer. Returns immediately. A policy that had no list has one from then on.
    pub fn set_keys(&self, keys: impl IntoIterator<Item = Identity>) -> bool {
        let keys = sorted(keys);
        self.change(|policy| {
            let is_other = policy.keys.as_ref() != Some(&keys);
            policy.keys = Some(keys);
            is_other
        })
    }

    /// Has every open connection checked again, because what the check of [`refusing`](Self::refusing) returns has
    /// changed. Those that are refused are closed at once, as by [`set_keys`](Self::set_keys).
    pub fn check_again(&self) {
        self.shared.changes.advance();
    }

    fn change(&self, change: impl FnOnce(&mut Policy) -> bool) -> bool {
        let is_other = change(&mut self.shared.policy.lock());
        if is_other {
            self.shared.changes.advance();
        }
        is_other
    }

    fn policy(&self) -> Policy {
        self.shared.policy.lock().clone()
    }

    /// Checks whether a peer may connect that has proved `identity` and, if there are secrets, knowledge of
    /// one.
    ///
    /// # Errors
    ///
    /// Fails with the reason for which the peer is refused: [`Refusal::Key`] if its key is not on the
    /// list, or what the check of [`refusing`](Self::refusing) returns.
    pub fn check(&self, identity: &Identity) -> Result<(), Refusal> {
        self.check_by(&self.policy(), identity)
    }

    fn check_by(&self, policy: &Policy, identity: &Identity) -> Result<(), Refusal> {
        let keys = policy.keys.as_ref();
        if keys.is_some_and(|keys| keys.binary_search(identity).is_err()) {
            return Err(Refusal::Key);
        }
        let refuse = self.refusing.as_ref();
        match refuse.and_then(|refuse| refuse(identity)) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    /// Returns whether [`check`](Self::check) succeeds.
    pub fn allows(&self, identity: &Identity) -> bool {
        self.check(identity).is_ok()
    }

    /// Returns whether an open connection with the peer `identity`, which was made on these grounds, is trusted
    /// now. One whose peer has proved no identity always is.
    pub fn judge(&self, identity: &Identity, grounds: Grounds) -> Standing {
        if *identity == Identity::UNPROVED {
            return Standing::Current;
        }
        let policy = self.policy();
        if let Err(reason) = self.check_by(&policy, identity) {
            return Standing::Refused(reason);
        }
        match (policy.keyring, grounds) {
            (_, Grounds::Unknown) | (None, Grounds::Identity) => Standing::Current,
            (Some(keyring), Grounds::Secret(id)) if keyring.first().id() == id => Standing::Current,
            (Some(keyring), Grounds::Secret(id)) if keyring.get(id).is_some() => Standing::Outdated,
            _ => Standing::SecretRemoved,
        }
    }

    /// Returns the cluster secrets, of which one is mixed into every handshake, or `None` if the cluster has
    /// none.
    pub fn keyring(&self) -> Option<Arc<Keyring>> {
        self.policy().keyring
    }

    /// Returns the number of changes so far, to be passed to [`changed_since`](Self::changed_since).
    pub(crate) fn changes(&self) -> u64 {
        self.shared.changes.current()
    }

    /// Completes once there are more changes than `seen`. Cancel-safe.
    pub(crate) async fn changed_since(&self, seen: u64) {
        self.shared.changes.later_than(seen).await;
    }
}

impl fmt::Debug for Trust {
    /// Prints the number of keys and the ids of the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.policy();
        f.debug_struct("Trust")
            .field("keys", &policy.keys.map(|keys| keys.len()))
            .field("keyring", &policy.keyring)
            .field("has_check", &self.refusing.is_some())
            .finish_non_exhaustive()
    }
}

fn sorted(keys: impl IntoIterator<Item = Identity>) -> Arc<[Identity]> {
    let mut sorted: Vec<Identity> = Vec::new();
    for key in keys {
        if let Err(place) = sorted.binary_search(&key) {
            sorted.insert(place, key);
        }
    }
    sorted.into()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::FutureExt as _;

    use super::*;

    fn secret(n: u8) -> ClusterSecret {
        ClusterSecret::from_bytes(&[n; 16]).unwrap()
    }

    fn ring(secrets: &[u8]) -> Keyring {
        Keyring::new(secrets.iter().map(|n| secret(*n))).unwrap()
    }

    fn peer(n: u8) -> Identity {
        Identity::from_bytes([n; 32])
    }

    #[test]
    fn a_change_holds_for_all_clones_and_wakes_those_that_watch() {
        let trust = Trust::secret(secret(1));
        let clone = trust.clone().refusing(|_| None);
        let mut watch = pin!(clone.changed_since(clone.changes()));
        assert!(watch.as_mut().now_or_never().is_none());
        assert!(trust.set_keyring(ring(&[2, 1])));
        assert!(watch.now_or_never().is_some());
        assert_eq!(*clone.keyring().unwrap(), ring(&[2, 1]));
        assert!(clone.set_keys([peer(1)]));
        assert!(trust.allows(&peer(1)) && !trust.allows(&peer(2)));
        let seen = trust.changes();
        trust.check_again();
        assert_ne!(trust.changes(), seen);
    }

    #[test]
    fn what_is_equal_is_no_change() {
        let trust = Trust::keys_and_secret([peer(1), peer(2)], ring(&[1, 2]));
        let seen = trust.changes();
        assert!(!trust.set_keyring(ring(&[1, 2])));
        assert!(!trust.set_keys([peer(2), peer(1), peer(2)]));
        assert_eq!(trust.changes(), seen);
        assert!(trust.set_keyring(ring(&[2, 1])));
    }

    #[test]
    fn a_connection_is_judged_by_its_grounds_and_its_identity() {
        use Standing::{Current, Outdated, Refused, SecretRemoved};
        let by = |n| Grounds::Secret(secret(n).id());
        for (trust, grounds, expected) in [
            (Trust::secret(secret(1)), by(1), Current),
            (Trust::secrets(ring(&[2, 1])), by(1), Outdated),
            (Trust::secrets(ring(&[2, 3, 4, 1])), by(1), Outdated),
            (Trust::secret(secret(2)), by(1), SecretRemoved),
            (Trust::secret(secret(1)), Grounds::Identity, SecretRemoved),
            (Trust::dangerously_anyone(), by(1), SecretRemoved),
            (Trust::dangerously_anyone(), Grounds::Identity, Current),
            (Trust::keys([peer(1)]), Grounds::Identity, Current),
            (Trust::keys([]), Grounds::Identity, Refused(Refusal::Key)),
            (
                Trust::keys_and_secret([], secret(1)),
                by(1),
                Refused(Refusal::Key),
            ),
            (Trust::keys([]), Grounds::Unknown, Refused(Refusal::Key)),
            (Trust::secret(secret(1)), Grounds::Unknown, Current),
        ] {
            let standing = trust.judge(&peer(1), grounds);
            assert_eq!(standing, expected, "{trust:?} {grounds:?}");
        }
    }

    #[test]
    fn an_open_connection_is_judged_by_the_check_as_well() {
        let is_revoked = Arc::new(AtomicBool::new(false));
        let check = Arc::clone(&is_revoked);
        let trust = Trust::secret(secret(1))
            .refusing(move |_| check.load(Ordering::Relaxed).then_some(Refusal::Revoked));
        let grounds = Grounds::Secret(secret(1).id());
        assert_eq!(trust.judge(&peer(1), grounds), Standing::Current);
        is_revoked.store(true, Ordering::Relaxed);
        let refused = Standing::Refused(Refusal::Revoked);
        assert_eq!(trust.judge(&peer(1), grounds), refused);
        // Nothing is known of the peer, so there is nothing to check.
        let unproved = trust.judge(&Identity::UNPROVED, Grounds::Unknown);
        assert_eq!(unproved, Standing::Current);
    }

    #[test]
    fn the_check_may_change_the_policy_itself() {
        let trust = Trust::secret(secret(1));
        let shared = trust.clone();
        let trust = trust.refusing(move |identity| {
            shared.set_keys([*identity]);
            None
        });
        assert!(trust.allows(&peer(1)) && !trust.allows(&peer(2)));
    }
}
