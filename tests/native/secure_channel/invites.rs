//! Handshakes of sides that hold invites: who is let in, what each side learns, and who is refused with which words.

use std::sync::Arc;
use std::time::Duration;

use gossip_transport::credential::{
    Claims, ClaimsError, Grounds, Holder, Invite, InviteId, Keyring, Role,
};
use gossip_transport::net::NetConnection;
use gossip_transport::rt::unix_time;
use gossip_transport::secure::{HandshakeError, Refusal};
use gossip_transport::{ClusterSecret, Identity, NetCredential, Trust};

use super::common::{Meeting, Outcome, SUITES, recv, refused, silently_refused};

const HOUR: Duration = Duration::from_secs(3600);

/// Returns claims that were issued so long ago, for an hour.
fn claims(age: Duration) -> Claims {
    Claims::new(InviteId::generate(unix_time() - age, HOUR).unwrap())
}

fn invite(secret: &ClusterSecret, claims: Claims) -> Invite {
    Invite::issue(secret, claims, "cluster".to_owned(), Vec::new()).unwrap()
}

/// Returns a meeting of a holder of `invite` with a member that trusts `acceptor`.
fn meeting(invite: Invite, acceptor: Trust) -> Meeting {
    let mut meeting = Meeting::of_anyone();
    meeting.dialler = NetCredential::generate(Trust::invite(invite));
    meeting.acceptor = NetCredential::generate(acceptor);
    meeting
}

/// Asserts that the dialler was refused for `reason`, which it believes, and the acceptor knows why.
#[track_caller]
fn refused_for(reason: Refusal, dialled: Outcome, accepted: Outcome) {
    let dialled = refused(dialled);
    assert!(
        matches!(dialled, HandshakeError::Refused { reason: r } if r == reason),
        "{dialled}"
    );
    match refused(accepted) {
        HandshakeError::UntrustedPeer { .. } => assert_eq!(reason.code(), Refusal::Key.code()),
        HandshakeError::PeerRefused { reason: r, .. } => assert_eq!(r, reason),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_holder_is_let_in_by_any_secret_of_the_keyring_and_both_sides_know_what_for() {
    let secrets = [(); 4].map(|()| ClusterSecret::generate());
    let keyring = Keyring::new(secrets.clone()).unwrap();
    for suite in SUITES {
        for secret in &secrets {
            let claims = claims(Duration::ZERO);
            let trust = Trust::secrets(keyring.clone()).accepting_invites();
            let mut meeting = meeting(invite(secret, claims.clone()), trust);
            meeting.suite = suite;
            let (dialled, accepted) = meeting.connect().await;
            let (id, secret) = (claims.id(), secret.id());
            assert_eq!(accepted.grounds(), Grounds::Invite { id, secret });
            assert_eq!(accepted.claims(), Some(&Arc::new(claims)));
            assert_eq!(dialled.grounds(), Grounds::Core { invite: id });
            assert_eq!(dialled.claims(), None);
            let role = |of: &dyn Fn() -> (Grounds, Identity)| of().0.role(&of().1);
            let of_dialler = || (accepted.grounds(), accepted.remote_identity());
            let of_acceptor = || (dialled.grounds(), dialled.remote_identity());
            assert_eq!(role(&of_dialler), Role::Leaf);
            assert_eq!(role(&of_acceptor), Role::Core);
            for (from, to) in [(&dialled, &accepted), (&accepted, &dialled)] {
                from.send("hello".into()).await.unwrap();
                assert_eq!(recv(to).await, "hello");
            }
        }
    }
}

#[tokio::test]
async fn a_holder_of_another_clusters_invite_is_refused_without_a_word() {
    let trust = Trust::secret(ClusterSecret::generate()).accepting_invites();
    let meeting = meeting(
        invite(&ClusterSecret::generate(), claims(Duration::ZERO)),
        trust,
    );
    let (dialled, accepted) = meeting.meet().await;
    assert!(matches!(refused(accepted), HandshakeError::Decrypt));
    silently_refused(&meeting, dialled);
}

#[tokio::test]
async fn only_sides_with_a_secret_that_accept_invites_let_a_holder_in() {
    let secret = ClusterSecret::generate();
    let word = invite(&secret, claims(Duration::ZERO));
    let accepting = Trust::secret(secret.clone()).accepting_invites();
    for trust in [
        Trust::secret(secret.clone()),
        accepting.clone().refusing_invites(),
        Trust::dangerously_anyone().accepting_invites(),
        Trust::keys([]).accepting_invites(),
    ] {
        let meeting = meeting(word.clone(), trust);
        let (dialled, accepted) = meeting.meet().await;
        assert!(matches!(
            refused(accepted),
            HandshakeError::ClaimsNotAccepted
        ));
        silently_refused(&meeting, dialled);
    }
    // A side with an invite accepts nobody, whatever the dialler has.
    for dialler in [
        Trust::invite(word.clone()),
        Trust::secret(secret),
        Trust::dangerously_anyone(),
    ] {
        let mut meeting = meeting(word.clone(), Trust::invite(word.clone()));
        meeting.dialler = NetCredential::generate(dialler);
        let (dialled, accepted) = meeting.meet().await;
        assert!(matches!(refused(accepted), HandshakeError::HoldsInvite));
        silently_refused(&meeting, dialled);
    }
}

#[tokio::test]
async fn an_invite_that_has_expired_or_was_revoked_is_refused_with_the_reason() {
    let secret = ClusterSecret::generate();
    let trust = || Trust::secret(secret.clone()).accepting_invites();
    let minute = Duration::from_secs(60);
    for (age, is_valid) in [
        (Duration::ZERO, true),
        // Two minutes are allowed for clocks that differ.
        (HOUR + minute, true),
        (HOUR + 2 * minute, false),
        (24 * HOUR, false),
    ] {
        let meeting = meeting(invite(&secret, claims(age)), trust());
        let (dialled, accepted) = meeting.meet().await;
        if is_valid {
            assert!(dialled.is_ok() && accepted.is_ok(), "{age:?}");
        } else {
            refused_for(Refusal::Expired, dialled, accepted);
        }
    }
    let (revoked, other) = (claims(Duration::ZERO), claims(Duration::ZERO));
    let trust = trust();
    assert_eq!(trust.clone().revoke(revoked.id()), Ok(true));
    let (dialled, accepted) = meeting(invite(&secret, revoked), trust.clone())
        .meet()
        .await;
    refused_for(Refusal::Revoked, dialled, accepted);
    meeting(invite(&secret, other), trust).connect().await;
}

#[tokio::test]
async fn an_invite_of_a_clock_that_is_far_ahead_is_refused() {
    let secret = ClusterSecret::generate();
    let ahead = unix_time() + HOUR;
    let id = InviteId::generate(ahead, InviteId::MAX_LIFETIME).unwrap();
    let trust = Trust::secret(secret.clone()).accepting_invites();
    let meeting = meeting(invite(&secret, Claims::new(id)), trust);
    let (dialled, accepted) = meeting.meet().await;
    refused_for(Refusal::Expired, dialled, accepted);
}

#[tokio::test]
async fn only_the_holder_that_an_invite_names_may_use_it() {
    let secret = ClusterSecret::generate();
    let trust = Trust::secret(secret.clone()).accepting_invites();
    let mut meeting = Meeting::of_anyone();
    meeting.acceptor = NetCredential::generate(trust);
    let claims = claims(Duration::ZERO);
    let owner = NetCredential::generate(Trust::dangerously_anyone());
    let claims = claims.with_holder(Holder::Only(owner.identity()));
    let held = Trust::invite(invite(&secret, claims));
    meeting.dialler = NetCredential::generate(held.clone());
    let (dialled, accepted) = meeting.meet().await;
    refused_for(Refusal::Holder, dialled, accepted);
    let mut again = Meeting::of_anyone();
    again.acceptor = meeting.acceptor.clone();
    again.dialler = owner.with_trust(held);
    again.connect().await;
}

#[tokio::test]
async fn the_checks_of_a_policy_apply_to_holders_as_well() {
    let secret = ClusterSecret::generate();
    let listed = Trust::keys_and_secret([], secret.clone()).accepting_invites();
    let checked = Trust::secret(secret.clone()).accepting_invites();
    let checked = checked.refusing(|_| Some(Refusal::Name));
    for (trust, reason) in [(listed, Refusal::Key), (checked, Refusal::Name)] {
        let meeting = meeting(invite(&secret, claims(Duration::ZERO)), trust);
        let (dialled, accepted) = meeting.meet().await;
        refused_for(reason, dialled, accepted);
    }
}

/// Returns the error of an acceptor that receives these frames after a preface which announces an invite.
async fn answer_to(frames: &[&[u8]]) -> HandshakeError {
    let secret = ClusterSecret::generate();
    let trust = Trust::secret(secret).accepting_invites();
    let meeting = meeting(
        invite(&ClusterSecret::generate(), claims(Duration::ZERO)),
        trust,
    );
    for frame in [&[0xA7, b'G', b'T', 2, 4][..]].iter().chain(frames) {
        meeting.to_acceptor.inject(frame);
    }
    meeting.to_acceptor.cut();
    let accepted = crate::support::soon(meeting.accept()).await;
    assert!(meeting.to_dialler.log().is_empty());
    refused(accepted)
}

#[tokio::test]
async fn malformed_claims_are_refused_before_anything_is_computed() {
    let good = claims(Duration::ZERO).encode();
    let unknown = [&good[..], &[99, 0]].concat();
    assert!(matches!(
        answer_to(&[&unknown]).await,
        HandshakeError::Claims(ClaimsError::UnknownClaim { tag: 99 })
    ));
    for cut in 0..good.len() {
        let error = answer_to(&[&good[..cut]]).await;
        assert!(
            matches!(error, HandshakeError::Claims(ClaimsError::CutShort)),
            "{error}"
        );
    }
    let error = answer_to(&[&[1; 513]]).await;
    assert!(matches!(
        error,
        HandshakeError::Oversized { len: 513, max: 512 }
    ));
    assert!(matches!(answer_to(&[]).await, HandshakeError::ClosedByPeer));
}

#[tokio::test]
async fn claims_that_are_changed_or_replaced_on_their_way_fit_no_key() {
    let secret = ClusterSecret::generate();
    let other = claims(Duration::ZERO).encode();
    let trust = Trust::secret(secret.clone()).accepting_invites();
    let recorded = meeting(invite(&secret, claims(Duration::ZERO)), trust.clone());
    recorded.connect().await;
    let sent = recorded.to_acceptor.log();
    for claims in [&other[..], &with_a_bit_flipped(&sent[1])] {
        let replayed = meeting(invite(&secret, self::claims(Duration::ZERO)), trust.clone());
        replayed.to_acceptor.inject(&sent[0]);
        replayed.to_acceptor.inject(claims);
        replayed.to_acceptor.inject(&sent[2]);
        let accepted = crate::support::soon(replayed.accept()).await;
        assert!(matches!(refused(accepted), HandshakeError::Decrypt));
    }
}

/// Flips a bit of the random part of an id.
fn with_a_bit_flipped(claims: &[u8]) -> Vec<u8> {
    let mut flipped = claims.to_vec();
    flipped[16] ^= 1;
    flipped
}

#[tokio::test]
async fn a_first_flight_that_is_sent_again_gets_an_answer_and_nothing_else() {
    let secret = ClusterSecret::generate();
    let trust = Trust::secret(secret.clone()).accepting_invites();
    let recorded = meeting(invite(&secret, claims(Duration::ZERO)), trust.clone());
    recorded.connect().await;
    let sent = recorded.to_acceptor.log();
    let replayed = meeting(invite(&secret, claims(Duration::ZERO)), trust);
    for frame in &sent {
        replayed.to_acceptor.inject(frame);
    }
    replayed.to_acceptor.cut();
    let accepted = crate::support::soon(replayed.accept()).await;
    assert!(matches!(refused(accepted), HandshakeError::Decrypt));
    assert_eq!(replayed.to_dialler.log().len(), 1);
}

#[tokio::test]
async fn no_key_of_an_invite_is_in_what_is_printed() {
    let secret = ClusterSecret::generate();
    let word = invite(&secret, claims(Duration::ZERO));
    let text = word.to_text();
    let trust = Trust::secret(secret.clone()).accepting_invites();
    let meeting = meeting(word, trust);
    let (dialled, accepted) = meeting.connect().await;
    let (dialler, acceptor) = (&meeting.dialler, &meeting.acceptor);
    let printed = format!("{dialled:?} {accepted:?} {dialler:?} {acceptor:?}");
    let secret = secret.to_text();
    let hidden = &text["gossip-invite-".len()..];
    for part in hidden.as_bytes().windows(24).step_by(8) {
        let part = std::str::from_utf8(part).unwrap();
        assert!(!printed.contains(part), "{printed}");
    }
    assert!(!printed.contains(&secret["gossip-secret-".len()..]));
}
