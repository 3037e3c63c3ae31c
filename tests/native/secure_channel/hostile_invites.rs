//! Properties of handshakes with invites that must fail: whatever is wrong with the invite, the side that can know it
//! reports it, the other one learns no more than it may, and neither panics or waits.

use std::time::Duration;

use gossip_transport::credential::{
    Claims, ClaimsError, Holder, Invite, InviteId, Keyring, NamePrefix, Quotas,
};
use gossip_transport::rt::unix_time;
use gossip_transport::secure::{HandshakeError, Refusal};
use gossip_transport::{ClusterSecret, Identity, NetCredential, Trust};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use super::common::*;
use crate::support::soon;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The preface of a dialler that presents an invite.
const PREFACE: [u8; 5] = [0xA7, b'G', b'T', 2, 4];
/// The number of the frame with the claims, of those that a dialler sends.
const CLAIMS_FRAME: usize = 1;

prop_compose! {
    /// Claims without a holder.
    fn any_claims()(
        age in 0..3600_u64,
        prefix in "[^\\p{Cc}]{0,32}",
        keys in option::of(any::<u32>()),
        connections in option::of(any::<u32>()),
    ) -> Claims {
        let prefix: NamePrefix = prefix.parse().unwrap();
        let mut quotas = Quotas::default();
        if let Some(keys) = keys {
            quotas = quotas.with_max_keys(keys);
        }
        if let Some(connections) = connections {
            quotas = quotas.with_max_connections(connections);
        }
        let id = InviteId::generate(unix_time() - Duration::from_secs(age), DAY).unwrap();
        Claims::new(id).with_name_prefix(prefix).with_quotas(quotas)
    }
}

/// A change of the claims on their way, or by a holder that wants others.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Append(Vec<u8>),
    AppendClaim(u8, Vec<u8>),
    Replace(Claims),
    Noise(Vec<u8>),
}

impl Damage {
    fn apply(&self, claims: &[u8]) -> Vec<u8> {
        let mut bytes = claims.to_vec();
        match self {
            Self::Flip(at, bit) => bytes[at.index(claims.len())] ^= 1 << bit,
            Self::Cut(at) => bytes.truncate(at.index(claims.len())),
            Self::Append(more) => bytes.extend(more),
            Self::AppendClaim(tag, value) => {
                bytes.extend([*tag, u8::try_from(value.len()).unwrap()]);
                bytes.extend(value);
            }
            Self::Replace(other) => bytes = other.encode(),
            Self::Noise(noise) => bytes.clone_from(noise),
        }
        bytes
    }
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let bytes = |len| vec(any::<u8>(), len);
    prop_oneof![
        4 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        2 => any::<Index>().prop_map(Damage::Cut),
        1 => bytes(1..40).prop_map(Damage::Append),
        2 => (any::<u8>(), bytes(0..40)).prop_map(|(tag, value)| Damage::AppendClaim(tag, value)),
        2 => any_claims().prop_map(Damage::Replace),
        1 => bytes(0..600).prop_map(Damage::Noise),
    ]
}

/// One to four secrets, and one of them.
fn any_keyring() -> impl Strategy<Value = (Keyring, ClusterSecret)> {
    let secrets = (1..=4_usize).prop_map(|count| vec![(); count]);
    (secrets, any::<Index>()).prop_map(|(secrets, place)| {
        let secrets: Vec<_> = secrets.iter().map(|()| ClusterSecret::generate()).collect();
        let one = place.get(&secrets).clone();
        (Keyring::new(secrets).unwrap(), one)
    })
}

fn accepting(keyring: &Keyring) -> Trust {
    Trust::secrets(keyring.clone()).accepting_invites()
}

/// Returns a meeting of a holder of an invite with a member that trusts `acceptor`.
fn meeting(secret: &ClusterSecret, claims: &Claims, acceptor: Trust, aes: bool) -> Meeting {
    let invite = Invite::issue(secret, claims.clone(), "cluster".to_owned(), Vec::new()).unwrap();
    let mut meeting = Meeting::of_anyone();
    meeting.suite = SUITES[usize::from(!aes)];
    meeting.dialler = NetCredential::generate(Trust::invite(invite));
    meeting.acceptor = NetCredential::generate(acceptor);
    meeting
}

/// Returns the error of an acceptor that receives these frames and then the end of the stream.
async fn answer_to(meeting: &Meeting, frames: &[impl AsRef<[u8]>]) -> HandshakeError {
    for frame in frames {
        meeting.to_acceptor.inject(frame.as_ref());
    }
    meeting.to_acceptor.cut();
    refused(soon(meeting.accept()).await)
}

/// Asserts that an acceptor has refused claims with these bytes as their documentation says, if they are not those
/// of the invite.
#[track_caller]
fn refused_as_claims(bytes: &[u8], error: &HandshakeError) {
    match (Claims::decode(bytes), error) {
        (
            Err(ClaimsError::Oversized { len, .. }),
            HandshakeError::Oversized { len: l, max: 512 },
        ) => {
            assert_eq!(len, *l);
        }
        (Err(expected), HandshakeError::Claims(error)) => assert_eq!(expected, *error),
        // They may be those of another invite, but the key is not.
        (Ok(_), HandshakeError::Decrypt) => {}
        (decoded, error) => panic!("{decoded:?}: {error}"),
    }
}

/// Returns whether frames were refused because of their form.
fn is_malformed(error: &HandshakeError) -> bool {
    matches!(
        error,
        HandshakeError::NotOurProtocol
            | HandshakeError::UnsupportedVersion { .. }
            | HandshakeError::Claims(_)
            | HandshakeError::Oversized { .. }
            | HandshakeError::Malformed { .. }
    )
}

/// Asserts that both sides have refused for `reason`: the dialler believes it, and the acceptor reports it.
#[track_caller]
fn refused_for(reason: Refusal, dialled: Outcome, accepted: Outcome) {
    let told = refused(dialled);
    assert!(
        matches!(told, HandshakeError::Refused { reason: r } if r == reason),
        "{told}"
    );
    let error = refused(accepted);
    match error {
        HandshakeError::UntrustedPeer { .. } => assert_eq!(reason.code(), Refusal::Key.code()),
        HandshakeError::PeerRefused { reason: r, .. } => assert_eq!(r, reason),
        other => panic!("{other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn an_invite_of_a_secret_that_is_not_in_the_keyring_is_refused_without_a_word(
        claims in any_claims(),
        (keyring, _) in any_keyring(),
        aes: bool,
    ) {
        at_once(async {
            let other = ClusterSecret::generate();
            let meeting = meeting(&other, &claims, accepting(&keyring), aes);
            let (dialled, accepted) = meeting.meet().await;
            let error = refused(accepted);
            assert!(matches!(error, HandshakeError::Decrypt), "{error}");
            silently_refused(&meeting, dialled);
        });
    }

    #[test]
    fn an_invite_that_has_expired_or_expires_too_late_is_refused_with_the_reason(
        lifetime in 1..=DAY.as_secs() * 30,
        age in -(DAY.as_secs() as i64) * 60..=DAY.as_secs() as i64 * 60,
        (keyring, secret) in any_keyring(),
        aes: bool,
    ) {
        let now = unix_time().as_secs() as i64;
        let issued = Duration::from_secs((now - age) as u64);
        let claims = Claims::new(InviteId::generate(issued, Duration::from_secs(lifetime)).unwrap());
        let left = claims.expires_at().as_secs() as i64 - now;
        let skew = InviteId::CLOCK_SKEW.as_secs() as i64;
        let longest = InviteId::MAX_LIFETIME.as_secs() as i64 + skew;
        // The clock goes on while this runs.
        prop_assume!((left + skew).abs() > 30 && (left - longest).abs() > 30);
        at_once(async {
            let meeting = meeting(&secret, &claims, accepting(&keyring), aes);
            let (dialled, accepted) = meeting.meet().await;
            if left > -skew && left < longest {
                assert!(dialled.is_ok() && accepted.is_ok(), "{left}");
            } else {
                refused_for(Refusal::Expired, dialled, accepted);
            }
        });
    }

    #[test]
    fn the_invites_that_are_revoked_are_refused_with_the_reason_and_no_others(
        invites in vec((any_claims(), any::<bool>()), 1..4),
        (keyring, secret) in any_keyring(),
        aes: bool,
    ) {
        let trust = accepting(&keyring);
        for (claims, _) in invites.iter().filter(|(_, is_revoked)| *is_revoked) {
            assert_eq!(trust.revoke(claims.id()), Ok(true));
        }
        at_once(async {
            for (claims, is_revoked) in &invites {
                let meeting = meeting(&secret, claims, trust.clone(), aes);
                let (dialled, accepted) = meeting.meet().await;
                if *is_revoked {
                    refused_for(Refusal::Revoked, dialled, accepted);
                } else {
                    assert!(dialled.is_ok() && accepted.is_ok());
                }
            }
        });
    }

    #[test]
    fn an_invite_of_another_holder_is_refused_with_the_reason(
        claims in any_claims(),
        holder: [u8; 32],
        (keyring, secret) in any_keyring(),
        aes: bool,
    ) {
        at_once(async {
            let claims = claims.with_holder(Holder::Only(Identity::from_bytes(holder)));
            let meeting = meeting(&secret, &claims, accepting(&keyring), aes);
            let (dialled, accepted) = meeting.meet().await;
            refused_for(Refusal::Holder, dialled, accepted);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn claims_that_are_not_those_of_the_key_are_refused_without_a_word(
        claims in any_claims(),
        damage in any_damage(),
        (keyring, secret) in any_keyring(),
        aes: bool,
    ) {
        let sent = claims.encode();
        let received = damage.apply(&sent);
        prop_assume!(received != sent);
        at_once(async {
            let meeting = meeting(&secret, &claims, accepting(&keyring), aes);
            let replaced = received.clone();
            meeting.to_acceptor.tamper(move |number, frame| {
                if number == CLAIMS_FRAME {
                    *frame = replaced.as_slice().into();
                }
            });
            let (dialled, accepted) = meeting.meet().await;
            refused_as_claims(&received, &refused(accepted));
            silently_refused(&meeting, dialled);
        });
    }

    #[test]
    fn frames_that_are_sent_again_get_at_most_one_answer_and_are_never_let_in(
        claims in any_claims(),
        repeated in vec(any::<Index>(), 0..6),
        in_order in 0..=4_usize,
        (keyring, secret) in any_keyring(),
        aes: bool,
    ) {
        at_once(async {
            let trust = accepting(&keyring);
            let recorded = meeting(&secret, &claims, trust.clone(), aes);
            recorded.connect().await;
            let sent = recorded.to_acceptor.log();
            assert_eq!(sent.len(), 4);
            let later = repeated.iter().map(|place| place.get(&sent));
            let frames: Vec<_> = sent.iter().take(in_order).chain(later).collect();
            let mut replayed = Meeting::of_anyone();
            replayed.acceptor = recorded.acceptor.clone();
            let error = answer_to(&replayed, &frames).await;
            let is_first_flight = frames.len() >= 3 && frames[..3] == [&sent[0], &sent[1], &sent[2]];
            let answers = replayed.to_dialler.log().len();
            assert_eq!(answers, usize::from(is_first_flight));
            let is_beginning = frames.iter().zip(&sent).all(|(frame, sent)| *frame == sent);
            match error {
                // All that was recorded, or the wrong frame: the keys of this handshake are others.
                HandshakeError::Decrypt => assert!(frames.len() > 2),
                HandshakeError::ClosedByPeer => assert!(is_beginning && frames.len() < 4),
                error => assert!(!is_beginning && is_malformed(&error), "{error}"),
            }
            assert!(replayed.to_dialler.was_shut_down());
        });
    }

    #[test]
    fn whatever_follows_the_preface_of_a_holder_is_refused_without_a_word(
        claims in any_claims(),
        damage in option::of(any_damage()),
        noise in vec(vec(any::<u8>(), 0..1200), 0..4),
        (keyring, secret) in any_keyring(),
    ) {
        at_once(async {
            let claims_frame = claims.encode();
            let claims_frame = damage.map_or(claims_frame.clone(), |damage| damage.apply(&claims_frame));
            let mut frames = vec![PREFACE.to_vec(), claims_frame.clone()];
            frames.extend(noise.iter().cloned());
            let meeting = meeting(&secret, &claims, accepting(&keyring), false);
            let error = answer_to(&meeting, &frames).await;
            match error {
                HandshakeError::ClosedByPeer => assert!(noise.is_empty()),
                HandshakeError::Decrypt => assert!(!noise.is_empty()),
                error if Claims::decode(&claims_frame).is_err() => {
                    refused_as_claims(&claims_frame, &error);
                }
                error => assert!(is_malformed(&error), "{error}"),
            }
            assert!(meeting.to_dialler.log().is_empty());
            assert!(meeting.to_dialler.was_shut_down());
        });
    }

    #[test]
    fn claims_longer_than_their_limit_are_refused_before_they_are_read(
        claims in any_claims(),
        len in 513..60_000_usize,
        fill: u8,
        (keyring, secret) in any_keyring(),
    ) {
        at_once(async {
            let meeting = meeting(&secret, &claims, accepting(&keyring), false);
            let mut oversized = claims.encode();
            oversized.resize(len, fill);
            let error = answer_to(&meeting, &[&PREFACE[..], &oversized]).await;
            assert!(
                matches!(error, HandshakeError::Oversized { len: l, max: 512 } if l == len),
                "{error}"
            );
            assert!(meeting.to_dialler.log().is_empty());
        });
    }
}

/// Runs a test on a clock that never has to move, because nothing is waited for.
#[track_caller]
fn at_once(test: impl Future<Output = ()>) {
    let runtime = paused_runtime();
    runtime.block_on(async {
        let start = tokio::time::Instant::now();
        test.await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    });
}
