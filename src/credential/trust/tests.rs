//! The policy: what changes, and how connections are judged.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;

use super::*;
use crate::credential::Holder;

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

const NOW: Duration = Duration::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// Returns claims that expire an hour after [`NOW`].
fn claims() -> Claims {
    Claims::new(InviteId::generate(NOW, HOUR).unwrap())
}

fn invite(claims: &Claims) -> Invite {
    let secret = ClusterSecret::generate();
    Invite::issue(&secret, claims.clone(), "cluster".to_owned(), Vec::new()).unwrap()
}

#[test]
fn a_connection_of_an_invite_is_judged_by_its_time_its_revocation_and_its_secret() {
    use Standing::{Current, Outdated, Refused, SecretRemoved};
    let (one, other) = (claims().id(), claims().id());
    let by = |n| Grounds::Invite {
        id: one,
        secret: secret(n).id(),
    };
    let revoked = |id| {
        let trust = Trust::secret(secret(1));
        let mut revoked = Revoked::default();
        revoked.add(id, NOW).unwrap();
        trust.shared.policy.lock().revoked = Arc::new(revoked);
        trust
    };
    let skew = InviteId::CLOCK_SKEW;
    let second = Duration::from_secs(1);
    let core = |invite| Grounds::Core { invite };
    let held = Claims::new(one);
    for (trust, grounds, now, expected) in [
        (Trust::secret(secret(1)), by(1), NOW, Current),
        // A holder cannot tell which secret is the first one.
        (Trust::secrets(ring(&[2, 1])), by(1), NOW, Current),
        (Trust::secret(secret(2)), by(1), NOW, SecretRemoved),
        (Trust::dangerously_anyone(), by(1), NOW, SecretRemoved),
        (
            Trust::secret(secret(1)),
            by(1),
            NOW + HOUR + skew - second,
            Current,
        ),
        (
            Trust::secret(secret(1)),
            by(1),
            NOW + HOUR + skew,
            Refused(Refusal::Expired),
        ),
        // The clock was set back by more than a month.
        (
            Trust::secret(secret(1)),
            by(1),
            NOW - InviteId::MAX_LIFETIME,
            Refused(Refusal::Expired),
        ),
        (revoked(one), by(1), NOW, Refused(Refusal::Revoked)),
        (revoked(other), by(1), NOW, Current),
        (
            Trust::keys_and_secret([], secret(1)),
            by(1),
            NOW,
            Refused(Refusal::Key),
        ),
        (Trust::invite(invite(&held)), core(one), NOW, Current),
        (Trust::invite(invite(&held)), core(other), NOW, Outdated),
        // The other side says when it has expired.
        (
            Trust::invite(invite(&held)),
            core(one),
            NOW + 2 * HOUR,
            Current,
        ),
        (Trust::invite(invite(&held)), by(1), NOW, SecretRemoved),
        (Trust::secret(secret(1)), core(one), NOW, SecretRemoved),
    ] {
        let standing = trust.judge_at(&peer(1), grounds, now);
        assert_eq!(standing, expected, "{trust:?} {grounds:?} {now:?}");
    }
}

#[test]
fn an_invite_is_replaced_for_all_clones_and_only_where_there_is_one() {
    let (old, new) = (invite(&claims()), invite(&claims()));
    let trust = Trust::invite(old.clone());
    let clone = trust.clone();
    let seen = trust.changes();
    assert_eq!(trust.set_invite(old), Ok(false));
    assert_eq!(trust.changes(), seen);
    assert_eq!(trust.set_invite(new.clone()), Ok(true));
    assert_ne!(clone.changes(), seen);
    assert_eq!(*clone.held_invite().unwrap(), new);
    assert!(clone.keyring().is_none());
    for trust in [
        Trust::dangerously_anyone(),
        Trust::keys([]),
        Trust::secret(secret(1)),
    ] {
        let seen = trust.changes();
        assert_eq!(trust.set_invite(new.clone()), Err(NotALeaf));
        assert_eq!(trust.changes(), seen);
        assert!(trust.held_invite().is_none());
    }
}

#[test]
fn a_revocation_holds_for_all_clones_and_is_a_change_once() {
    let trust = Trust::secret(secret(1));
    let clone = trust.clone().accepting_invites();
    let id = InviteId::generate(unix_time(), HOUR).unwrap();
    let seen = clone.changes();
    assert_eq!(trust.revoke(id), Ok(true));
    assert_ne!(clone.changes(), seen);
    assert_eq!(clone.revoked(), [id]);
    let seen = clone.changes();
    assert_eq!(clone.revoke(id), Ok(false));
    assert_eq!(clone.changes(), seen);
    let claims = Claims::new(id);
    let refused = clone.check_claims(&peer(1), &claims);
    assert_eq!(refused, Err(Refusal::Revoked));
}

#[test]
fn claims_are_checked_with_the_identity() {
    let id = || InviteId::generate(unix_time(), HOUR).unwrap();
    let trust = Trust::secret(secret(1));
    let anyone = Claims::new(id());
    assert_eq!(trust.check_claims(&peer(1), &anyone), Ok(()));
    let unproved = trust.check_claims(&Identity::UNPROVED, &anyone);
    assert_eq!(unproved, Err(Refusal::Key));
    let only = Claims::new(id()).with_holder(Holder::Only(peer(2)));
    assert_eq!(trust.check_claims(&peer(2), &only), Ok(()));
    assert_eq!(trust.check_claims(&peer(1), &only), Err(Refusal::Key));
    let listed = Trust::keys_and_secret([peer(2)], secret(1));
    assert_eq!(listed.check_claims(&peer(2), &anyone), Ok(()));
    assert_eq!(listed.check_claims(&peer(1), &anyone), Err(Refusal::Key));
}

#[test]
fn whether_invites_are_accepted_belongs_to_one_clone() {
    let trust = Trust::secret(secret(1));
    let accepting = trust.clone().accepting_invites();
    assert!(!trust.accepts_invites() && accepting.accepts_invites());
    assert!(!accepting.clone().refusing_invites().accepts_invites());
    assert!(accepting.clone().refusing(|_| None).accepts_invites());
}
