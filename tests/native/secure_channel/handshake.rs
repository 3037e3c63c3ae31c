//! Handshakes: which peers are accepted, which are refused, and what an unauthenticated peer learns.

use bytes::Bytes;
use gossip_transport::net::NetConnection;
use gossip_transport::secure::{HandshakeError, Refusal, Suite};
use gossip_transport::{ClusterSecret, Identity, NetCredential, Trust};

use super::common::*;
use crate::support::soon;

#[tokio::test(start_paused = true)]
async fn two_ends_that_trust_each_other_connect_and_know_each_others_identity() {
    for secret in [false, true] {
        for suite in SUITES {
            let mut meeting = if secret {
                Meeting::with_secret()
            } else {
                Meeting::of_anyone()
            };
            meeting.suite = suite;
            let (dialled, accepted) = meeting.connect().await;

            assert_eq!(dialled.local_identity(), meeting.dialler.identity());
            assert_eq!(dialled.remote_identity(), meeting.acceptor.identity());
            assert_eq!(accepted.local_identity(), meeting.acceptor.identity());
            assert_eq!(accepted.remote_identity(), meeting.dialler.identity());
            assert_eq!(dialled.local_addr(), dialler_addr());
            assert_eq!(dialled.remote_addr(), acceptor_addr());
            assert_eq!(accepted.local_addr(), acceptor_addr());
            assert_eq!(accepted.remote_addr(), dialler_addr());
            assert_eq!(dialled.alpn_negotiated(), &GOSSIP);
            assert_eq!(accepted.alpn_negotiated(), &GOSSIP);

            dialled.send(Bytes::from_static(b"there")).await.unwrap();
            assert_eq!(recv(&accepted).await, "there");
            accepted.send(Bytes::from_static(b"back")).await.unwrap();
            assert_eq!(recv(&dialled).await, "back");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_end_learns_the_address_that_the_other_one_states() {
    let meeting = Meeting::of_anyone();
    let (dialled, accepted) = meeting.connect().await;
    assert_eq!(dialled.stated_addr(), None);
    assert_eq!(accepted.stated_addr(), None);

    let meeting = Meeting::of_anyone();
    let (of_dialler, of_acceptor) = ("192.0.2.1:1", "[2001:db8::2]:2");
    meeting.dialler.state_addr(of_dialler.parse().unwrap());
    meeting.acceptor.state_addr(of_acceptor.parse().unwrap());
    let (dialled, accepted) = meeting.connect().await;
    assert_eq!(dialled.stated_addr(), of_acceptor.parse().ok());
    assert_eq!(accepted.stated_addr(), of_dialler.parse().ok());
}

#[tokio::test(start_paused = true)]
async fn the_dialler_sends_the_preface_and_the_first_message_in_one_write() {
    let meeting = Meeting::of_anyone();
    let mut dial = std::pin::pin!(meeting.dial());
    assert!(poll_once(dial.as_mut()).await.is_none());
    assert_eq!(meeting.to_acceptor.writes(), 1);
    assert_eq!(meeting.to_acceptor.log().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_configuration_fails_before_anything_is_sent_and_closes_the_carrier() {
    let mut meeting = Meeting::of_anyone();
    meeting.dial_config.rekey_after_records = 0;
    meeting.accept_config.handshake_timeout = std::time::Duration::ZERO;
    for (outcome, to_peer, expected) in [
        (
            meeting.dial().await,
            &meeting.to_acceptor,
            "rekey_after_records is 0, but must be at least 1",
        ),
        (
            meeting.accept().await,
            &meeting.to_dialler,
            "handshake_timeout is 0ns, but must be at least 1ms",
        ),
    ] {
        match refused(outcome) {
            HandshakeError::Config(error) => assert_eq!(error.to_string(), expected),
            other => panic!("{other}"),
        }
        assert!(to_peer.log().is_empty(), "{expected}");
        assert!(to_peer.was_shut_down(), "{expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_list_each_other_connect() {
    let [key_a, key_b] = [(); 2].map(|()| NetCredential::generate(Trust::keys([])));
    let mut meeting = Meeting::of_anyone();
    meeting.dialler = key_a.with_trust(Trust::keys([key_b.identity()]));
    meeting.acceptor = key_b.with_trust(Trust::keys([key_a.identity()]));
    meeting.connect().await;

    let secret = ClusterSecret::generate();
    meeting.dialler = key_a.with_trust(Trust::keys_and_secret([key_b.identity()], secret.clone()));
    meeting.acceptor = key_b.with_trust(Trust::secret(secret));
    meeting.to_acceptor = Default::default();
    meeting.to_dialler = Default::default();
    meeting.connect().await;
}

#[tokio::test(start_paused = true)]
async fn a_dialler_that_is_not_listed_is_refused() {
    let mut meeting = Meeting::of_anyone();
    let someone = Identity::from_bytes([1; 32]);
    meeting.acceptor = NetCredential::generate(Trust::keys([someone]));
    let (dialled, accepted) = meeting.meet().await;
    let reason = refused(dialled);
    assert!(
        matches!(
            reason,
            HandshakeError::Refused {
                reason: Refusal::Key
            }
        ),
        "{reason}"
    );
    let identity = meeting.dialler.identity();
    assert!(
        matches!(refused(accepted), HandshakeError::UntrustedPeer { identity: i } if i == identity)
    );
}

#[tokio::test(start_paused = true)]
async fn an_acceptor_that_is_not_listed_does_not_learn_the_identity_of_the_dialler() {
    let mut meeting = Meeting::of_anyone();
    let someone = Identity::from_bytes([1; 32]);
    meeting.dialler = NetCredential::generate(Trust::keys([someone]));
    let (dialled, accepted) = meeting.meet().await;
    let identity = meeting.acceptor.identity();
    assert!(
        matches!(refused(dialled), HandshakeError::UntrustedPeer { identity: i } if i == identity)
    );
    assert!(matches!(refused(accepted), HandshakeError::ClosedByPeer));
    // Only the preface and an ephemeral key, not the message that contains the dialler's identity.
    assert_eq!(meeting.to_acceptor.log().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dialler_with_another_cluster_secret_is_refused_without_an_answer() {
    for suite in SUITES {
        let mut meeting = Meeting::with_secret();
        meeting.suite = suite;
        meeting.dialler = NetCredential::generate(Trust::secret(ClusterSecret::generate()));
        let (dialled, accepted) = meeting.meet().await;
        assert!(matches!(refused(accepted), HandshakeError::Decrypt));
        silently_refused(&meeting, dialled);
    }
}

#[tokio::test(start_paused = true)]
async fn a_listed_key_without_the_secret_is_refused() {
    let mut meeting = Meeting::of_anyone();
    let identity = meeting.dialler.identity();
    let trust = Trust::keys_and_secret([identity], ClusterSecret::generate());
    meeting.acceptor = NetCredential::generate(trust);
    let (dialled, accepted) = meeting.meet().await;
    assert!(matches!(
        refused(accepted),
        HandshakeError::SuiteNotAllowed { .. }
    ));
    silently_refused(&meeting, dialled);
}

#[tokio::test(start_paused = true)]
async fn the_secret_without_a_listed_key_is_refused() {
    let secret = ClusterSecret::generate();
    let mut meeting = Meeting::trusting(|| Trust::secret(secret.clone()));
    let nobody = Trust::keys_and_secret([], secret.clone());
    meeting.acceptor = meeting.acceptor.with_trust(nobody);
    let (dialled, accepted) = meeting.meet().await;
    let reason = refused(dialled);
    assert!(
        matches!(
            reason,
            HandshakeError::Refused {
                reason: Refusal::Key
            }
        ),
        "{reason}"
    );
    assert!(matches!(
        refused(accepted),
        HandshakeError::UntrustedPeer { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn two_ends_of_which_only_one_uses_a_secret_never_connect() {
    let with = || NetCredential::generate(Trust::secret(ClusterSecret::generate()));
    let mut meeting = Meeting::of_anyone();
    meeting.dialler = with();
    let (dialled, accepted) = meeting.meet().await;
    assert!(matches!(
        refused(accepted),
        HandshakeError::SuiteNotAllowed { suite: 2 }
    ));
    silently_refused(&meeting, dialled);

    let mut meeting = Meeting::of_anyone();
    meeting.acceptor = with();
    let (dialled, accepted) = meeting.meet().await;
    assert!(matches!(
        refused(accepted),
        HandshakeError::SuiteNotAllowed { suite: 0 }
    ));
    silently_refused(&meeting, dialled);
}

#[tokio::test(start_paused = true)]
async fn a_dialler_without_a_common_protocol_is_refused_without_an_answer() {
    let mut meeting = Meeting::of_anyone();
    meeting.supported = vec![OTHER];
    let (dialled, accepted) = meeting.meet().await;
    assert!(matches!(
        refused(accepted),
        HandshakeError::NoCommonProtocol
    ));
    silently_refused(&meeting, dialled);
}

#[tokio::test(start_paused = true)]
async fn the_first_protocol_in_the_diallers_order_is_chosen() {
    let mut meeting = Meeting::of_anyone();
    meeting.offered = vec![OTHER, GOSSIP];
    meeting.supported = vec![GOSSIP, OTHER];
    let (dialled, accepted) = meeting.connect().await;
    assert_eq!(dialled.alpn_negotiated(), &OTHER);
    assert_eq!(accepted.alpn_negotiated(), &OTHER);
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_is_empty_or_too_long_fails_before_anything_is_sent() {
    let mut meeting = Meeting::of_anyone();
    meeting.offered = vec![];
    let error = refused(meeting.dial().await);
    assert!(matches!(error, HandshakeError::NoCommonProtocol));

    for count in [100, 300] {
        meeting.offered = vec![gossip_transport::net::Alpn::new(vec![7; 255]).unwrap(); count];
        let error = refused(meeting.dial().await);
        assert!(matches!(error, HandshakeError::Oversized { .. }), "{error}");
    }
    assert!(meeting.to_acceptor.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_is_changed_on_its_way_fails_the_handshake() {
    let mut meeting = Meeting::of_anyone();
    meeting.offered = vec![OTHER, GOSSIP];
    meeting.supported = vec![GOSSIP, OTHER];
    // Without a secret the offer is readable. If an attacker renames the first protocol, the
    // acceptor falls back to the second.
    meeting.to_acceptor.tamper(|number, frame| {
        if number == 1 {
            let at = frame.windows(5).position(|w| w == b"other").unwrap();
            frame[at] = b'O';
        }
    });
    let (dialled, accepted) = meeting.meet().await;
    assert!(matches!(refused(dialled), HandshakeError::Decrypt));
    refused(accepted);
}

#[tokio::test(start_paused = true)]
async fn a_suite_that_is_downgraded_on_its_way_fails_the_handshake() {
    let mut meeting = Meeting::of_anyone();
    meeting.suite = Suite::AesGcm;
    meeting.to_acceptor.tamper(|number, frame| {
        if number == 0 {
            frame[4] = 0;
        }
    });
    let (dialled, accepted) = meeting.meet().await;
    assert!(matches!(refused(dialled), HandshakeError::Decrypt));
    refused(accepted);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_any_byte_fails_the_handshake() {
    for secret in [false, true] {
        let new = || {
            let meeting = match secret {
                false => Meeting::of_anyone(),
                true => Meeting::with_secret(),
            };
            meeting.dialler.state_addr(dialler_addr());
            meeting.acceptor.state_addr(acceptor_addr());
            meeting
        };
        let good = new();
        good.connect().await;
        let to_acceptor = good.to_acceptor.log();
        let to_dialler = good.to_dialler.log();
        assert_eq!((to_acceptor.len(), to_dialler.len()), (3, 2));
        for (towards_acceptor, log) in [(true, to_acceptor), (false, to_dialler)] {
            for (number, frame) in log.iter().enumerate() {
                for at in 0..frame.len() {
                    let meeting = new();
                    let pipe = match towards_acceptor {
                        true => &meeting.to_acceptor,
                        false => &meeting.to_dialler,
                    };
                    pipe.tamper(move |n, frame| {
                        if n == number {
                            frame[at] ^= 1;
                        }
                    });
                    let (dialled, _) = meeting.meet().await;
                    assert!(dialled.is_err(), "{secret} {number} {at}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_of_a_diallers_messages_is_refused() {
    for meeting in [Meeting::of_anyone(), Meeting::with_secret()] {
        meeting.connect().await;
        let recorded = meeting.to_acceptor.log();
        let replay = Meeting {
            to_acceptor: Default::default(),
            to_dialler: Default::default(),
            ..meeting
        };
        for frame in recorded {
            replay.to_acceptor.inject(&frame);
        }
        let error = refused(soon(replay.accept()).await);
        assert!(matches!(error, HandshakeError::Decrypt), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_oversized_handshake_message_is_refused_on_both_sides() {
    let meeting = Meeting::of_anyone();
    meeting.to_acceptor.tamper(|number, frame| {
        if number == 1 {
            frame.resize(4097, 0);
        }
    });
    let (dialled, accepted) = meeting.meet().await;
    assert!(matches!(
        refused(accepted),
        HandshakeError::Oversized {
            len: 4097,
            max: 4096
        }
    ));
    silently_refused(&meeting, dialled);

    let meeting = Meeting::of_anyone();
    let grow = |_, frame: &mut bytes::BytesMut| frame.resize(65_535, 0);
    meeting.to_dialler.tamper(grow);
    let (dialled, _) = meeting.meet().await;
    assert!(matches!(refused(dialled), HandshakeError::Oversized { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_without_an_answer_fails_after_its_time_limit() {
    let meeting = Meeting::of_anyone();
    let start = tokio::time::Instant::now();
    let error = refused(soon(meeting.dial()).await);
    assert!(matches!(error, HandshakeError::Timeout { .. }));
    assert_eq!(start.elapsed().as_secs(), 10);

    // Signs of life do not extend the time limit.
    let meeting = Meeting::of_anyone();
    let pipe = meeting.to_acceptor.clone();
    let drip = async move {
        loop {
            pipe.inject_activity();
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    };
    let start = tokio::time::Instant::now();
    tokio::select! {
        () = drip => unreachable!(),
        accepted = soon(meeting.accept()) => {
            assert!(matches!(refused(accepted), HandshakeError::Timeout { .. }));
        }
    }
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn every_unauthenticated_peer_is_disconnected_at_once_and_without_an_answer() {
    let preface = b"\xA7GT\x02\x00";
    let attempts: [&[&[u8]]; 8] = [
        &[],
        &[b""],
        &[b"GET / HTTP/1.1\r\n\r\n"],
        &[b"\xA7GT\x02\x04", &[1; 48]],
        &[b"\xA7GT\x02\x08", &[1; 48]],
        &[preface, b"short"],
        &[preface, &[1; 200]],
        &[preface, preface],
    ];
    for frames in attempts {
        let meeting = Meeting::of_anyone();
        for frame in frames {
            meeting.to_acceptor.inject(frame);
        }
        if frames.is_empty() {
            meeting.to_acceptor.cut();
        }
        let start = tokio::time::Instant::now();
        refused(soon(meeting.accept()).await);
        assert_eq!(start.elapsed(), std::time::Duration::ZERO, "{frames:?}");
        assert!(meeting.to_dialler.log().is_empty(), "{frames:?}");
        assert!(meeting.to_dialler.was_shut_down(), "{frames:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn random_bytes_never_connect_and_never_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    let credentials = [Meeting::of_anyone(), Meeting::with_secret()];
    for i in 0..2000 {
        let from = &credentials[i % 2];
        let meeting = Meeting {
            dialler: from.dialler.clone(),
            acceptor: from.acceptor.clone(),
            ..Meeting::of_anyone()
        };
        let (pipe, as_dialler) = match i % 3 {
            0 => (&meeting.to_dialler, true),
            _ => (&meeting.to_acceptor, false),
        };
        if !as_dialler && random.u8(..) < 200 {
            pipe.inject(&[0xA7, b'G', b'T', 2, random.u8(..8)]);
        }
        for _ in 0..random.usize(..4) {
            let len = random.usize(..300);
            let frame: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            pipe.inject(&frame);
        }
        pipe.cut();
        refused(match as_dialler {
            true => soon(meeting.dial()).await,
            false => soon(meeting.accept()).await,
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_succeeds_over_a_carrier_that_moves_few_bytes_at_a_time() {
    let meeting = Meeting::with_secret();
    meeting.to_acceptor.make_lazy();
    meeting.to_dialler.make_lazy();
    meeting.to_dialler.inject_activity();
    meeting.connect().await;
}
