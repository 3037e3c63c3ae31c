//! Refusals: which reasons reach the peer, and versions and claims that this side does not speak.

use std::time::Duration;

use gossip_transport::secure::{HandshakeError, Refusal};
use gossip_transport::{NetCredential, Trust};
use tokio::time::Instant;

use super::common::*;
use crate::support::soon;

/// The preface of a dialler that speaks `version`, and its first Noise message.
const fn preface(version: u8) -> [u8; 5] {
    [0xA7, b'G', b'T', version, 0]
}
const FIRST_MESSAGE: [u8; 48] = [1; 48];

#[track_caller]
fn unsupported(outcome: Outcome) -> u8 {
    match refused(outcome) {
        HandshakeError::UnsupportedVersion { theirs, ours: 2 } => theirs,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_reason_reaches_a_dialler_that_has_authenticated_itself() {
    for secret in [false, true] {
        for reason in [1, 2, 3, 4, 5, 6, 0, 7, 255].map(Refusal::from_code) {
            let mut meeting = match secret {
                false => Meeting::of_anyone(),
                true => Meeting::with_secret(),
            };
            let trust = meeting.acceptor.trust().clone();
            let refusing = trust.refusing(move |_| Some(reason));
            meeting.acceptor = meeting.acceptor.with_trust(refusing);
            let (dialled, accepted) = meeting.meet().await;

            let dialled = refused(dialled);
            assert!(
                matches!(dialled, HandshakeError::Refused { reason: r } if r == reason),
                "{dialled}"
            );
            assert!(dialled.to_string().contains(&reason.to_string()));
            let dialler = meeting.dialler.identity();
            match refused(accepted) {
                HandshakeError::UntrustedPeer { identity } => {
                    assert_eq!((identity, reason), (dialler, Refusal::Key));
                }
                HandshakeError::PeerRefused {
                    identity,
                    reason: r,
                } => {
                    assert_eq!((identity, r), (dialler, reason));
                    assert_ne!(reason, Refusal::Key);
                }
                other => panic!("{other}"),
            }
            // A record of one byte, with its tag.
            assert_eq!(meeting.to_dialler.log()[1].len(), 17);
            assert!(meeting.to_dialler.was_shut_down() && meeting.to_acceptor.was_shut_down());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_acceptor_that_is_refused_is_told_no_reason() {
    let mut meeting = Meeting::of_anyone();
    let trust = Trust::dangerously_anyone().refusing(|_| Some(Refusal::Revoked));
    meeting.dialler = NetCredential::generate(trust);
    let (dialled, accepted) = meeting.meet().await;
    let identity = meeting.acceptor.identity();
    assert!(matches!(
        refused(dialled),
        HandshakeError::PeerRefused { identity: i, reason: Refusal::Revoked } if i == identity
    ));
    assert!(matches!(refused(accepted), HandshakeError::ClosedByPeer));
    assert_eq!(meeting.to_acceptor.log().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_was_changed_on_its_way_is_not_believed() {
    let mut meeting = Meeting::of_anyone();
    let trust = Trust::dangerously_anyone().refusing(|_| Some(Refusal::Quota));
    meeting.acceptor = NetCredential::generate(trust);
    meeting.to_dialler.tamper(|number, frame| {
        if number == 1 {
            frame[0] ^= 1;
        }
    });
    let (dialled, _) = meeting.meet().await;
    assert!(matches!(refused(dialled), HandshakeError::Decrypt));
}

#[tokio::test(start_paused = true)]
async fn a_dialler_of_another_version_is_told_ours_once() {
    for version in [0, 1, 3, 255] {
        let meeting = Meeting::with_secret();
        meeting.to_acceptor.inject(&preface(version));
        meeting.to_acceptor.inject(&FIRST_MESSAGE);
        meeting.to_acceptor.cut();
        assert_eq!(unsupported(soon(meeting.accept()).await), version);
        assert_eq!(meeting.to_dialler.log(), [b"\xA7GT\x02"]);
        assert!(meeting.to_dialler.was_shut_down());
    }
}

#[tokio::test(start_paused = true)]
async fn a_dialler_reports_the_version_that_the_acceptor_names() {
    for answer in [&b"\xA7GT\x01"[..], b"\xA7GT\x03", b"\xA7GT\x09 and more"] {
        let meeting = Meeting::with_secret();
        meeting.to_dialler.inject(answer);
        meeting.to_dialler.cut();
        assert_eq!(unsupported(soon(meeting.dial()).await), answer[3]);
    }
    // An acceptor that speaks our version never answers so.
    let meeting = Meeting::with_secret();
    meeting.to_dialler.inject(b"\xA7GT\x02");
    let error = refused(soon(meeting.dial()).await);
    assert!(matches!(error, HandshakeError::Malformed { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_acceptor_of_version_1_closes_and_the_error_names_that_cause() {
    let meeting = Meeting::of_anyone();
    meeting.to_dialler.cut();
    let error = refused(soon(meeting.dial()).await);
    assert!(matches!(error, HandshakeError::ClosedByPeer));
    assert!(error.to_string().contains("version 1"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_acceptor_that_refuses_waits_until_the_dialler_has_closed_but_not_for_long() {
    // The limits are a second, and the time that is left for the handshake.
    for (timeout, limit) in [(10_000, 1000), (400, 400)] {
        let meeting = Meeting::of_anyone().configure(|config| {
            config.handshake_timeout = Duration::from_millis(timeout);
        });
        meeting.to_acceptor.inject(&preface(1));
        let start = Instant::now();
        let mut accept = Box::pin(meeting.accept());
        assert!(poll_once(accept.as_mut()).await.is_none());
        assert_eq!(meeting.to_dialler.log(), [b"\xA7GT\x02"]);
        assert!(meeting.to_dialler.was_shut_down());
        // The dialler's end of the stream is what the acceptor waits for, not its frames.
        meeting.to_acceptor.inject(&FIRST_MESSAGE);
        assert!(poll_once(accept.as_mut()).await.is_none());
        assert_eq!(unsupported(soon(accept).await), 1);
        assert_eq!(start.elapsed(), Duration::from_millis(limit));
    }
    let meeting = Meeting::of_anyone();
    meeting.to_acceptor.inject(&preface(1));
    let mut accept = Box::pin(meeting.accept());
    assert!(poll_once(accept.as_mut()).await.is_none());
    meeting.to_acceptor.cut();
    let start = Instant::now();
    assert_eq!(unsupported(soon(accept).await), 1);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_refused_dialler_that_sends_on_and_on_is_cut_off() {
    let meeting = Meeting::of_anyone();
    meeting.to_acceptor.inject(&preface(1));
    for _ in 0..100 {
        meeting.to_acceptor.inject(&FIRST_MESSAGE);
    }
    let start = Instant::now();
    assert_eq!(unsupported(soon(meeting.accept()).await), 1);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_acceptor_reports_why_it_refused_even_if_the_dialler_reads_nothing() {
    let meeting = Meeting::of_anyone();
    meeting.to_acceptor.inject(&preface(1));
    meeting.to_dialler.stall_after(3);
    let start = Instant::now();
    assert_eq!(unsupported(soon(meeting.accept()).await), 1);
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}
