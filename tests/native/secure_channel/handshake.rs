//! Who gets in, who does not, and what a stranger learns.

use bytes::Bytes;
use gossip_transport::net::NetConnection;
use gossip_transport::secure::{HandshakeError, Suite};
use gossip_transport::{ClusterSecret, Identity, NetCredential, Trust};

use super::common::*;
use crate::support::soon;

#[tokio::test(start_paused = true)]
async fn two_ends_meet_and_know_each_other() {
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

#[track_caller]
fn refused(outcome: Outcome) -> HandshakeError {
    outcome.map(|_| ()).expect_err("they connected")
}

/// The dialler learns no reason, and not a byte was sent to it.
#[track_caller]
fn silently_refused(meeting: &Meeting, dialled: Outcome) {
    assert!(matches!(refused(dialled), HandshakeError::ClosedByPeer));
    assert!(meeting.to_dialler.log().is_empty());
    assert!(meeting.to_dialler.was_shut_down());
}

#[tokio::test(start_paused = true)]
async fn the_dialler_speaks_first_and_in_one_write() {
    let meeting = Meeting::of_anyone();
    let mut dial = std::pin::pin!(meeting.dial());
    assert!(poll_once(dial.as_mut()).await.is_none());
    assert_eq!(meeting.to_acceptor.writes(), 1);
    assert_eq!(meeting.to_acceptor.log().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn listed_keys_connect() {
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
    assert!(matches!(refused(dialled), HandshakeError::ClosedByPeer));
    let identity = meeting.dialler.identity();
    assert!(
        matches!(refused(accepted), HandshakeError::UntrustedPeer { identity: i } if i == identity)
    );
}

#[tokio::test(start_paused = true)]
async fn an_acceptor_that_is_not_listed_learns_nothing_of_the_dialler() {
    let mut meeting = Meeting::of_anyone();
    let someone = Identity::from_bytes([1; 32]);
    meeting.dialler = NetCredential::generate(Trust::keys([someone]));
    let (dialled, accepted) = meeting.meet().await;
    let identity = meeting.acceptor.identity();
    assert!(
        matches!(refused(dialled), HandshakeError::UntrustedPeer { identity: i } if i == identity)
    );
    assert!(matches!(refused(accepted), HandshakeError::ClosedByPeer));
    // The preface and an ephemeral key, but not the message that holds the dialler's identity.
    assert_eq!(meeting.to_acceptor.log().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_cluster_secret_is_refused_without_a_byte() {
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
    assert!(matches!(refused(dialled), HandshakeError::ClosedByPeer));
    assert!(matches!(
        refused(accepted),
        HandshakeError::UntrustedPeer { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_secret_on_one_side_only_never_connects() {
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
async fn no_protocol_in_common_is_refused_without_a_byte() {
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
async fn the_diallers_order_of_protocols_decides() {
    let mut meeting = Meeting::of_anyone();
    meeting.offered = vec![OTHER, GOSSIP];
    meeting.supported = vec![GOSSIP, OTHER];
    let (dialled, accepted) = meeting.connect().await;
    assert_eq!(dialled.alpn_negotiated(), &OTHER);
    assert_eq!(accepted.alpn_negotiated(), &OTHER);
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_cannot_be_sent_fails_at_the_dialler() {
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
async fn a_changed_offer_is_noticed() {
    let mut meeting = Meeting::of_anyone();
    meeting.offered = vec![OTHER, GOSSIP];
    meeting.supported = vec![GOSSIP, OTHER];
    // Without a secret the offer is readable. Rename the first protocol, and the acceptor falls
    // back to the second.
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
async fn a_downgraded_suite_is_noticed() {
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
async fn no_byte_of_the_handshake_can_be_changed() {
    for secret in [false, true] {
        let new = || match secret {
            false => Meeting::of_anyone(),
            true => Meeting::with_secret(),
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
async fn a_replayed_dialler_does_not_get_in() {
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
async fn a_peer_that_never_answers_is_given_up_in_time() {
    let meeting = Meeting::of_anyone();
    let start = tokio::time::Instant::now();
    let error = refused(soon(meeting.dial()).await);
    assert!(matches!(error, HandshakeError::Timeout { .. }));
    assert_eq!(start.elapsed().as_secs(), 10);

    // A sign of life now and then does not extend the time.
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
async fn every_stranger_sees_the_same_silence() {
    let preface = b"\xA7GT\x01\x00";
    let strangers: [&[&[u8]]; 8] = [
        &[],
        &[b""],
        &[b"GET / HTTP/1.1\r\n\r\n"],
        &[b"\xA7GT\x02\x00", &[1; 48]],
        &[b"\xA7GT\x01\x07", &[1; 48]],
        &[preface, b"short"],
        &[preface, &[1; 200]],
        &[preface, preface],
    ];
    for frames in strangers {
        let meeting = Meeting::of_anyone();
        for frame in frames {
            meeting.to_acceptor.inject(frame);
        }
        meeting.to_acceptor.cut();
        refused(soon(meeting.accept()).await);
        assert!(meeting.to_dialler.log().is_empty(), "{frames:?}");
        assert!(meeting.to_dialler.was_shut_down(), "{frames:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn random_bytes_never_get_in_and_never_panic() {
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
            pipe.inject(&[0xA7, b'G', b'T', 1, random.u8(..4)]);
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
async fn a_handshake_survives_a_carrier_that_dawdles() {
    let meeting = Meeting::with_secret();
    meeting.to_acceptor.make_lazy();
    meeting.to_dialler.make_lazy();
    meeting.to_dialler.inject_activity();
    meeting.connect().await;
}
