//! The behaviours, each over any network.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::net::{
    Alpn, CloseCode, CloseReason, ConnectError, NetConnection, NetIncomingRequest, NetListener,
    NetTransport,
};
use gossip_transport::secure::{FrameError, HandshakeError};
use gossip_transport::{ClusterSecret, NetCredential, Trust};

use super::Fixture;
use crate::support::{anyone, member, soon};

const ALPN: Alpn = Alpn::from_static(b"conformance/1");
static OURS: [Alpn; 1] = [ALPN];
const OTHER: Alpn = Alpn::from_static(b"conformance/2");

type Connection<F> = <<F as Fixture>::Transport as NetTransport>::Connection;

/// What takes longer than this never happens.
fn two_members() -> (NetCredential, NetCredential) {
    let secret = ClusterSecret::generate();
    (member(&secret), member(&secret))
}

async fn listen<F: Fixture>(
    host: &F::Transport,
    alpn: &[Alpn],
    credential: &NetCredential,
) -> <F::Transport as NetTransport>::Listener {
    host.create_listener(F::bind_addr(), alpn, credential)
        .await
        .unwrap()
}

/// Both sides' results of one dial: the acceptor's first.
async fn meet_as<F: Fixture>(
    acceptor: &NetCredential,
    dialler: &NetCredential,
    supported: &[Alpn],
    preferred: &[Alpn],
) -> (anyhow::Result<Connection<F>>, anyhow::Result<Connection<F>>) {
    let (a, b) = F::hosts();
    let listener = listen::<F>(&a, supported, acceptor).await;
    let addr = listener.local_addr();
    let accepting = async { listener.accept().await.unwrap().accept().await };
    let dialling = b.connect(addr, preferred, dialler);
    soon(async { tokio::join!(accepting, dialling) }).await
}

async fn meet<F: Fixture>() -> (Connection<F>, Connection<F>) {
    let (acceptor, dialler) = two_members();
    let (a, b) = meet_as::<F>(&acceptor, &dialler, &OURS, &OURS).await;
    (a.unwrap(), b.unwrap())
}

pub async fn port_zero_gives_a_real_port<F: Fixture>() {
    let (host, _) = F::hosts();
    let listener = listen::<F>(&host, &OURS, &two_members().0).await;
    assert_ne!(listener.local_addr().port(), 0);
    assert_eq!(listener.local_addr().ip(), F::bind_addr().ip());
}

pub async fn a_taken_address_is_an_error<F: Fixture>() {
    let (host, _) = F::hosts();
    let credential = two_members().0;
    let listener = listen::<F>(&host, &OURS, &credential).await;
    let again = host.create_listener(listener.local_addr(), &OURS, &credential);
    let error = again.await.err().expect("two listeners on one address");
    let kind = error.downcast_ref::<std::io::Error>().map(|e| e.kind());
    assert_eq!(kind, Some(std::io::ErrorKind::AddrInUse), "{error:#}");
}

pub async fn a_dropped_listener_frees_its_address_at_once<F: Fixture>() {
    let (host, _) = F::hosts();
    let credential = two_members().0;
    let mut listener = listen::<F>(&host, &OURS, &credential).await;
    let addr = listener.local_addr();
    for _ in 0..1000 {
        drop(listener);
        listener = host
            .create_listener(addr, &OURS, &credential)
            .await
            .unwrap();
    }
    assert_eq!(listener.local_addr(), addr);
}

pub async fn messages_arrive_whole_and_in_order_both_ways<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    let messages: Vec<Bytes> = [0, 1, 65_535, 0, 1 << 20, 17]
        .into_iter()
        .enumerate()
        .map(|(i, len)| vec![i as u8; len].into())
        .collect();
    for (from, to) in [(&a, &b), (&b, &a)] {
        let sending = async {
            for message in &messages {
                from.send(message.clone()).await.unwrap();
            }
        };
        let receiving = async {
            for message in &messages {
                assert_eq!(&to.recv().await.unwrap().unwrap(), message);
            }
        };
        soon(async { tokio::join!(sending, receiving) }).await;
    }
}

pub async fn a_batch_of_thousands_arrives_in_order<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    let message = |i: u32| Bytes::from(i.to_be_bytes().repeat(1 + i as usize % 50));
    let mut batch: VecDeque<Bytes> = (0..5000).map(message).collect();
    let receiving = async {
        for i in 0..5000 {
            assert_eq!(b.recv().await.unwrap().unwrap(), message(i));
        }
    };
    let (sent, ()) = soon(async { tokio::join!(a.send_many(&mut batch), receiving) }).await;
    sent.unwrap();
    assert!(batch.is_empty());
}

pub async fn both_sides_know_who_the_other_is<F: Fixture>() {
    let (acceptor, dialler) = two_members();
    let (a, b) = meet_as::<F>(&acceptor, &dialler, &OURS, &OURS).await;
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.local_identity(), acceptor.identity());
    assert_eq!(a.remote_identity(), dialler.identity());
    assert_eq!(b.local_identity(), dialler.identity());
    assert_eq!(b.remote_identity(), acceptor.identity());
    assert_eq!(a.remote_addr(), b.local_addr(), "as the acceptor sees it");
    assert_eq!(b.remote_addr(), a.local_addr());
}

pub async fn the_first_common_protocol_is_agreed_on<F: Fixture>() {
    let (acceptor, dialler) = two_members();
    let third = Alpn::from_static(b"third");
    let (a, b) = meet_as::<F>(&acceptor, &dialler, &[ALPN, OTHER], &[third, OTHER, ALPN]).await;
    assert_eq!(a.unwrap().alpn_negotiated(), &OTHER);
    assert_eq!(b.unwrap().alpn_negotiated(), &OTHER);
}

/// The acceptor's error, and that the dialler was told nothing.
fn refused_by_acceptor<C>((a, b): (anyhow::Result<C>, anyhow::Result<C>)) -> HandshakeError {
    let theirs = b.err().expect("the dialler should have been refused");
    let theirs = theirs.downcast::<HandshakeError>().unwrap();
    assert!(matches!(theirs, HandshakeError::ClosedByPeer), "{theirs}");
    let ours = a.err().expect("the acceptor should have refused");
    ours.downcast().unwrap()
}

pub async fn no_common_protocol_is_refused<F: Fixture>() {
    let (acceptor, dialler) = two_members();
    let met = meet_as::<F>(&acceptor, &dialler, &OURS, &[OTHER]).await;
    let error = refused_by_acceptor(met);
    assert!(matches!(error, HandshakeError::NoCommonProtocol), "{error}");
}

pub async fn another_secret_is_refused<F: Fixture>() {
    let (acceptor, dialler) = (two_members().0, two_members().0);
    let met = meet_as::<F>(&acceptor, &dialler, &OURS, &OURS).await;
    let error = refused_by_acceptor(met);
    assert!(matches!(error, HandshakeError::Decrypt), "{error}");
}

pub async fn an_untrusted_dialler_is_refused<F: Fixture>() {
    let dialler = anyone();
    let friend = two_members().0.identity();
    let acceptor = NetCredential::generate(Trust::keys([friend]));
    let met = meet_as::<F>(&acceptor, &dialler, &OURS, &OURS).await;
    let error = refused_by_acceptor(met);
    assert!(
        matches!(&error, HandshakeError::UntrustedPeer { identity } if *identity == dialler.identity()),
        "{error}"
    );
}

pub async fn an_untrusted_acceptor_is_refused<F: Fixture>() {
    let acceptor = anyone();
    let friend = two_members().0.identity();
    let dialler = NetCredential::generate(Trust::keys([friend]));
    let (a, b) = meet_as::<F>(&acceptor, &dialler, &OURS, &OURS).await;
    assert!(a.is_err());
    let error = b.err().unwrap().downcast::<HandshakeError>().unwrap();
    assert!(
        matches!(&error, HandshakeError::UntrustedPeer { identity } if *identity == acceptor.identity()),
        "{error}"
    );
}

pub async fn a_goodbye_arrives_with_its_code<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    a.send(Bytes::from_static(b"last words")).await.unwrap();
    soon(a.close(CloseCode(4711))).await;
    assert_eq!(soon(b.recv()).await.unwrap().unwrap(), "last words");
    assert!(soon(b.recv()).await.unwrap().is_none());
    let reason = soon(b.watch_close()).await;
    assert!(
        matches!(reason, CloseReason::Remote(CloseCode(4711))),
        "{reason}"
    );
    assert!(a.send(Bytes::from_static(b"too late")).await.is_err());
}

pub async fn everyone_who_waits_learns_of_the_end<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    let reading = {
        let a = a.clone();
        tokio::spawn(async move { a.recv().await })
    };
    let watching: Vec<_> = (0..3)
        .map(|_| {
            let a = a.clone();
            tokio::spawn(async move { a.watch_close().await })
        })
        .collect();
    tokio::task::yield_now().await;
    a.close(CloseCode::NORMAL).await;
    for watching in watching {
        let reason = soon(watching).await.unwrap();
        assert!(
            matches!(reason, CloseReason::Local(CloseCode::NORMAL)),
            "{reason}"
        );
    }
    // Ended, or an error: but not a message, and not for ever.
    assert!(!matches!(soon(reading).await.unwrap(), Ok(Some(_))));
    assert!(soon(b.recv()).await.unwrap().is_none());
}

pub async fn a_vanished_peer_is_an_error_and_not_an_end<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    drop(a);
    let error = soon(b.recv()).await.expect_err("nobody said goodbye");
    assert!(error.downcast_ref::<FrameError>().is_some(), "{error:#}");
    assert!(soon(b.recv()).await.is_err(), "and it stays one");
    let reason = soon(b.watch_close()).await;
    assert!(matches!(reason, CloseReason::Lost(_)), "{reason}");
}

pub async fn several_at_a_time_arrive_in_order_and_then_the_end<F: Fixture>() {
    const COUNT: usize = 20_000;
    let (a, b) = meet::<F>().await;
    let sending = async {
        let messages = (0..COUNT).map(|i| Bytes::from(vec![i as u8; i % 300]));
        let mut batch: VecDeque<Bytes> = messages.collect();
        a.send_many(&mut batch).await.unwrap();
        a.close(CloseCode::NORMAL).await;
    };
    let receiving = async {
        let mut received = Vec::new();
        loop {
            let before = received.len();
            // Polled once and dropped, now and then.
            let open = tokio::select! {
                biased;
                open = b.recv_many(&mut received) => open.unwrap(),
                () = tokio::task::yield_now() => true,
            };
            // A read, as the seam says: not more than there is memory for.
            assert!(received.len() - before <= 1025);
            if !open {
                // What comes with the end would be lost on whoever looks at the end first.
                assert_eq!(received.len(), before);
                break received;
            }
        }
    };
    let ((), received) = soon(async { tokio::join!(sending, receiving) }).await;
    assert_eq!(received.len(), COUNT);
    for (i, message) in received.iter().enumerate() {
        assert_eq!(message, &vec![i as u8; i % 300]);
    }
}

pub async fn a_cancelled_recv_loses_nothing<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    let sending = async {
        for i in 0..200_u32 {
            a.send(vec![i as u8; 3000].into()).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let receiving = async {
        for i in 0..200_u32 {
            // Polled once and dropped, until it is ready at the first poll.
            let message = loop {
                tokio::select! {
                    biased;
                    message = b.recv() => break message,
                    () = tokio::task::yield_now() => {}
                }
            };
            assert_eq!(message.unwrap().unwrap(), vec![i as u8; 3000]);
        }
    };
    soon(async { tokio::join!(sending, receiving) }).await;
}

pub async fn a_request_that_is_not_answered_does_not_hold_up_the_next<F: Fixture>() {
    let (a, b) = F::hosts();
    let (acceptor, dialler) = two_members();
    let listener = listen::<F>(&a, &OURS, &acceptor).await;
    let addr = listener.local_addr();
    let mut first = std::pin::pin!(b.connect(addr, &OURS, &dialler));
    let unanswered = tokio::select! {
        request = listener.accept() => request.unwrap(),
        _ = &mut first => panic!("nobody has answered"),
    };
    let accepting = async { listener.accept().await.unwrap().accept().await };
    let second = b.connect(addr, &OURS, &dialler);
    let (accepted, connected) = soon(async { tokio::join!(accepting, second) }).await;
    accepted.unwrap();
    connected.unwrap();
    drop(unanswered);
    assert!(soon(first).await.is_err());
}

pub async fn a_dial_where_nobody_listens_fails<F: Fixture>() {
    let (_, host) = F::hosts();
    let credential = two_members().0;
    let dialling = host.connect(F::dead_addr(), &OURS, &credential);
    let error = soon(dialling).await.err().expect("nobody is there");
    assert!(
        matches!(error.downcast_ref(), Some(ConnectError::Io { .. })),
        "{error:#}"
    );
}

pub async fn an_address_that_cannot_be_dialled_is_said_to_be_so<F: Fixture>() {
    let (_, host) = F::hosts();
    for addr in ["0.0.0.0:7000", "127.0.0.1:0", "[::]:7000"] {
        let credential = two_members().0;
        let dialling = host.connect(addr.parse().unwrap(), &OURS, &credential);
        let error = soon(dialling).await.err().unwrap();
        assert!(
            matches!(error.downcast_ref(), Some(ConnectError::NotDialable { .. })),
            "{error:#}"
        );
    }
}

pub async fn an_abandoned_dial_leaves_nothing_behind<F: Fixture>() {
    let (a, b) = F::hosts();
    let (acceptor, dialler) = two_members();
    let listener = listen::<F>(&a, &OURS, &acceptor).await;
    let request = {
        let mut dialling = std::pin::pin!(b.connect(listener.local_addr(), &OURS, &dialler));
        tokio::select! {
            request = listener.accept() => request.unwrap(),
            _ = &mut dialling => panic!("nobody has answered"),
        }
    };
    assert!(
        soon(request.accept()).await.is_err(),
        "the dialler has gone"
    );
}

pub async fn a_keepalive_ends_the_silence_without_a_message<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    let reading = {
        let b = b.clone();
        tokio::spawn(async move { b.recv().await })
    };
    let quiet = Duration::from_millis(50);
    soon(async {
        while b.silence() < quiet {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let said = tokio::time::Instant::now();
    a.keepalive().await.unwrap();
    soon(async {
        // Heard since it was said; true ever after, however slow this machine is. A network may
        // count in milliseconds.
        while b.silence() > said.elapsed() + Duration::from_millis(1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(!reading.is_finished(), "a keepalive is no message");
    a.send(Bytes::from_static(b"message")).await.unwrap();
    assert_eq!(soon(reading).await.unwrap().unwrap().unwrap(), "message");
}

pub async fn an_oversized_message_is_refused_and_the_connection_goes_on<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    let mut batch: VecDeque<Bytes> =
        VecDeque::from([vec![0; (16 << 20) + 1].into(), Bytes::from_static(b"next")]);
    let error = soon(a.send_many(&mut batch)).await.expect_err("too long");
    assert!(
        matches!(
            error.downcast_ref(),
            Some(FrameError::MessageTooLong { .. })
        ),
        "{error:#}"
    );
    assert_eq!(
        batch.len(),
        1,
        "the message that cannot be sent is out of the way"
    );
    soon(a.send_many(&mut batch)).await.unwrap();
    assert_eq!(soon(b.recv()).await.unwrap().unwrap(), "next");
}

pub async fn a_peer_that_does_not_read_makes_the_sender_wait<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    let message = Bytes::from(vec![7; 1 << 20]);
    let mut sent = 0;
    // Whatever the network and the system buffer, it is bounded.
    while let Ok(result) =
        tokio::time::timeout(Duration::from_millis(300), a.send(message.clone())).await
    {
        result.unwrap();
        sent += 1;
        assert!(sent < 100, "nothing holds the sender back");
    }
    // What was cancelled is sent whole by the next call, or not at all.
    let sending = async { a.send(Bytes::from_static(b"end")).await.unwrap() };
    let receiving = async {
        let mut received = 0;
        loop {
            let got = b.recv().await.unwrap().unwrap();
            if got == "end" {
                break received;
            }
            assert_eq!(got, message);
            received += 1;
        }
    };
    let ((), received) = soon(async { tokio::join!(sending, receiving) }).await;
    assert!(
        received == sent || received == sent + 1,
        "{received} of {sent}"
    );
}
