//! The policy that decides which peers may connect, and which of their connections may stay.
//!
//! A policy is shared: clones have the same secrets and keys, and what is changed through one of them holds for all
//! at once. No connection is closed here; whoever holds connections watches for changes and asks
//! [`judge`](Trust::judge). Invariants: a policy that demands a secret demands one for ever, and no lock is held
//! while the check of [`refusing`](Trust::refusing) runs.

mod error;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::grounds::{Grounds, Standing};
use super::identity::Identity;
use super::invite::{Claims, Invite, InviteId};
use super::keyring::Keyring;
use super::refusal::Refusal;
use super::revoked::{RevokeError, Revoked};
use super::secret::ClusterSecret;
use crate::rt::sync::{Epoch, Mutex};
use crate::rt::unix_time;
pub use error::NotALeaf;

/// The policy that decides which peers may connect, in either direction. There is no default, since
/// the decision belongs to the user.
///
/// Both sides of a connection must trust each other. Either both sides use a cluster secret, or neither
/// does; otherwise they do not connect. If they do, the first secret of the dialler must be one of the acceptor's.
/// A side that holds an invite ([`Trust::invite`]) dials, and only sides that know the secret of that invite
/// and accept invites ([`accepting_invites`](Self::accepting_invites)).
///
/// Clones share the policy, and it can change at run time: [`set_keyring`](Self::set_keyring),
/// [`set_invite`](Self::set_invite), [`set_keys`](Self::set_keys), [`revoke`](Self::revoke). A socket closes the
/// connections that are not trusted any more within 2 s.
#[derive(Clone)]
pub struct Trust {
    shared: Arc<Shared>,
    refusing: Option<Arc<Refuse>>,
    accepts_invites: bool,
}

struct Shared {
    policy: Mutex<Policy>,
    changes: Epoch,
    /// The invite of this side that was refused last because it has expired.
    expired: Mutex<Option<InviteId>>,
    expirations: Epoch,
}

#[derive(Clone)]
struct Policy {
    /// The trusted keys, sorted and without duplicates, or `None` to trust every key.
    keys: Option<Arc<[Identity]>>,
    access: Access,
    revoked: Arc<Revoked>,
}

/// What handshakes are made with.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Nothing but keys.
    Open,
    /// A cluster secret: the first one to dial, any of them to accept.
    Secrets(Arc<Keyring>),
    /// An invite, to dial with.
    Invite(Arc<Invite>),
}

/// The check that [`Trust::refusing`] adds.
type Refuse = dyn Fn(&Identity) -> Option<Refusal> + Send + Sync;

impl Trust {
    /// Trusts exactly these identities. An empty list trusts no peer.
    pub fn keys(keys: impl IntoIterator<Item = Identity>) -> Self {
        Self::new(Some(sorted(keys)), Access::Open)
    }
    /// Trusts every peer that knows the cluster secret.
    pub fn secret(secret: ClusterSecret) -> Self {
        Self::secrets(secret.into())
    }
    /// Trusts every peer that knows one of the cluster secrets.
    pub fn secrets(keyring: Keyring) -> Self {
        Self::new(None, Access::Secrets(Arc::new(keyring)))
    }
    /// Trusts these identities, and only if they know a cluster secret as well.
    pub fn keys_and_secret(
        keys: impl IntoIterator<Item = Identity>,
        secrets: impl Into<Keyring>,
    ) -> Self {
        Self::new(
            Some(sorted(keys)),
            Access::Secrets(Arc::new(secrets.into())),
        )
    }
    /// Trusts every peer. Connections are encrypted, but anyone can be at the other end. For tests
    /// and demonstrations.
    pub fn dangerously_anyone() -> Self {
        Self::new(None, Access::Open)
    }

    /// Trusts the core members of the cluster that has issued `invite`: those that prove to know its secret, which other
    /// holders of the invite cannot.
    ///
    /// A side with this trust is a leaf ([`Role::Leaf`](super::Role::Leaf)). It dials, and accepts no connection.
    pub fn invite(invite: Invite) -> Self {
        Self::new(None, Access::Invite(Arc::new(invite)))
    }

    fn new(keys: Option<Arc<[Identity]>>, access: Access) -> Self {
        let policy = Mutex::new(Policy {
            keys,
            access,
            revoked: Arc::default(),
        });
        let shared = Shared {
            policy,
            changes: Epoch::default(),
            expired: Mutex::default(),
            expirations: Epoch::default(),
        };
        Self {
            shared: Arc::new(shared),
            refusing: None,
            accepts_invites: false,
        }
    }

    /// Also accepts peers that hold an invite which was issued with one of the cluster secrets, as
    /// [`Role::Leaf`](super::Role::Leaf). Without cluster secrets, nobody has one.
    ///
    /// Only for sockets whose users look at the role of each sender, as participants of the gossip engine do: a leaf
    /// may be anyone. The secrets and keys are shared with the policy that this was called on, this is not. If there
    /// is a list of keys, leaves must be on it like all others.
    #[must_use]
    pub fn accepting_invites(mut self) -> Self {
        self.accepts_invites = true;
        self
    }

    /// Accepts no invites, whatever an earlier call of [`accepting_invites`](Self::accepting_invites) says.
    #[must_use]
    pub fn refusing_invites(mut self) -> Self {
        self.accepts_invites = false;
        self
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
    /// and none of them can be taken away again; one that had an invite does not use it any more. To replace a secret,
    /// see [`Keyring`].
    pub fn set_keyring(&self, keyring: impl Into<Keyring>) -> bool {
        let keyring = keyring.into();
        self.change(|policy| {
            let is_other = !matches!(&policy.access, Access::Secrets(known) if **known == keyring);
            policy.access = Access::Secrets(Arc::new(keyring));
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

    /// Replaces the invite, for all clones, for example by one that expires later. Returns whether it has changed.
    ///
    /// Open connections that were made with another one are replaced by new ones, without losing a message. Returns
    /// immediately.
    ///
    /// # Errors
    ///
    /// Fails if this policy was not made with an invite. It would give up what it knows of the cluster.
    pub fn set_invite(&self, invite: Invite) -> Result<bool, NotALeaf> {
        let mut is_leaf = true;
        let is_other = self.change(|policy| {
            let Access::Invite(known) = &mut policy.access else {
                is_leaf = false;
                return false;
            };
            let is_other = **known != invite;
            *known = Arc::new(invite);
            is_other
        });
        if is_leaf { Ok(is_other) } else { Err(NotALeaf) }
    }

    /// Refuses an invite from now on, for all clones, and has open connections closed that were made with it. Returns
    /// false if it is revoked already, or has expired.
    ///
    /// Other members do not learn of this from here. The revocation is forgotten a day after the invite has expired.
    ///
    /// # Errors
    ///
    /// Fails if 4,096 invites are revoked that have not expired, or if the id names a time of expiry that no
    /// invite has.
    pub fn revoke(&self, invite: InviteId) -> Result<bool, RevokeError> {
        let now = unix_time();
        let mut revoked = Ok(false);
        self.change(|policy| {
            let before = policy.revoked.contains(invite);
            let known = Arc::make_mut(&mut policy.revoked);
            revoked = known.add(invite, now);
            // One that has expired lately is kept as well, and has to be written down.
            known.contains(invite) != before
        });
        revoked
    }

    /// Returns the invites that are revoked and have not expired, in the order in which they will.
    pub fn revoked(&self) -> Vec<InviteId> {
        self.policy().revoked.ids(unix_time()).collect()
    }

    /// Returns the invites to write down, if revocations have to outlive the program: those of [`revoked`](Self::revoked), and
    /// those that have expired within a day, since the clock of this machine may be ahead. To read them again, pass
    /// each to [`revoke`](Self::revoke).
    pub fn revocations_to_keep(&self) -> Vec<InviteId> {
        self.policy().revoked.kept().to_vec()
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
    /// one. What the claims of an invite say is not checked here, but in the handshake.
    ///
    /// # Errors
    ///
    /// Fails with the reason for which the peer is refused: [`Refusal::Key`] if its key is not on the
    /// list, or what the check of [`refusing`](Self::refusing) returns.
    pub fn check(&self, identity: &Identity) -> Result<(), Refusal> {
        self.check_by(&self.policy(), identity)
    }

    /// Checks whether a peer may connect that has proved `identity` and that it holds an invite with these claims.
    ///
    /// # Errors
    ///
    /// Fails as [`check`](Self::check) does, and if the invite has expired, has been revoked, or has another holder
    /// ([`Refusal::Key`]).
    pub(crate) fn check_claims(&self, identity: &Identity, claims: &Claims) -> Result<(), Refusal> {
        let policy = self.policy();
        self.check_by(&policy, identity)?;
        if !claims.holder().allows(identity) {
            return Err(Refusal::Key);
        }
        policy.check_invite(claims.id(), unix_time())
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
        self.judge_at(identity, grounds, unix_time())
    }

    /// Does the same at a time since 1970-01-01 UTC.
    fn judge_at(&self, identity: &Identity, grounds: Grounds, now: Duration) -> Standing {
        if *identity == Identity::UNPROVED {
            return Standing::Current;
        }
        let policy = self.policy();
        if let Err(reason) = self.check_by(&policy, identity) {
            return Standing::Refused(reason);
        }
        policy.judge(grounds, now)
    }

    /// Returns what handshakes are made with.
    pub(crate) fn access(&self) -> Access {
        self.policy().access
    }

    /// Returns whether peers that hold an invite may connect.
    pub fn accepts_invites(&self) -> bool {
        self.accepts_invites
    }

    /// Returns the cluster secrets, of which one is mixed into every handshake, or `None` if there are none here.
    pub fn keyring(&self) -> Option<Arc<Keyring>> {
        match self.access() {
            Access::Secrets(keyring) => Some(keyring),
            Access::Open | Access::Invite(_) => None,
        }
    }

    /// Returns the invite of this side, if it is a leaf.
    pub fn held_invite(&self) -> Option<Arc<Invite>> {
        match self.access() {
            Access::Invite(invite) => Some(invite),
            Access::Open | Access::Secrets(_) => None,
        }
    }

    /// Notes that a core member has refused this invite of this side because it has expired.
    pub(crate) fn note_expired(&self, invite: InviteId) {
        *self.shared.expired.lock() = Some(invite);
        self.shared.expirations.advance();
    }

    /// Returns whether this invite is the one that was refused last because it has expired.
    pub(super) fn was_expired(&self, invite: InviteId) -> bool {
        *self.shared.expired.lock() == Some(invite)
    }

    /// Returns the number of such refusals so far.
    pub(super) fn expirations(&self) -> u64 {
        self.shared.expirations.current()
    }

    /// Completes once there are more such refusals than `seen`. Cancel-safe.
    pub(super) async fn expired_since(&self, seen: u64) {
        self.shared.expirations.later_than(seen).await;
    }

    /// Returns the number of changes so far, to be passed to [`changed_since`](Self::changed_since).
    pub fn changes(&self) -> u64 {
        self.shared.changes.current()
    }

    /// Completes once there are more changes than `seen`. Cancel-safe.
    pub async fn changed_since(&self, seen: u64) {
        self.shared.changes.later_than(seen).await;
    }
}

impl Policy {
    /// Fails if this invite has expired or was revoked.
    fn check_invite(&self, id: InviteId, now: Duration) -> Result<(), Refusal> {
        // No revocation could be kept for as long as one that is too far ahead would be valid.
        if id.is_expired(now) || id.is_too_far_ahead(now) {
            return Err(Refusal::Expired);
        }
        if self.revoked.contains(id) {
            return Err(Refusal::Revoked);
        }
        Ok(())
    }

    fn judge(&self, grounds: Grounds, now: Duration) -> Standing {
        match (&self.access, grounds) {
            (_, Grounds::Unknown) | (Access::Open, Grounds::Identity) => Standing::Current,
            (Access::Secrets(keyring), Grounds::Secret(id)) if keyring.first().id() == id => {
                Standing::Current
            }
            (Access::Secrets(keyring), Grounds::Secret(id)) if keyring.get(id).is_some() => {
                Standing::Outdated
            }
            (Access::Secrets(keyring), Grounds::Invite { id, secret })
                if keyring.get(secret).is_some() =>
            {
                match self.check_invite(id, now) {
                    Ok(()) => Standing::Current,
                    Err(reason) => Standing::Refused(reason),
                }
            }
            (Access::Invite(held), Grounds::Core { invite }) if held.claims().id() == invite => {
                Standing::Current
            }
            (Access::Invite(_), Grounds::Core { .. }) => Standing::Outdated,
            _ => Standing::SecretRemoved,
        }
    }
}

impl fmt::Debug for Trust {
    /// Prints the number of keys and of revoked invites, and the ids of the secrets or the claims of the invite.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.policy();
        f.debug_struct("Trust")
            .field("keys", &policy.keys.map(|keys| keys.len()))
            .field("access", &policy.access)
            .field("accepts_invites", &self.accepts_invites)
            .field("revoked", &policy.revoked.ids(Duration::ZERO).count())
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
