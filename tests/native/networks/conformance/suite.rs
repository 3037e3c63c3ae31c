//! The behaviours of listeners, dials and connections, each over any network.
//!
//! A behaviour that needs a capability is never run over a network that lacks it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::net::{
    CloseCode, CloseReason, ConnectError, NetConnection, NetIncomingRequest, NetListener,
    NetTransport,
};
use gossip_transport::secure::FrameError;
use tokio::time::Instant;

use super::fixtures::Fixture;
use super::meeting::{listen, meet, two_members};
use crate::support::soon;

pub(crate) async fn port_zero_is_replaced_by_a_free_port<F: Fixture>() {
    let (host, _) = F::hosts();
    let listener = listen::<F>(&host, F::ours(), &two_members().0).await;
    assert_ne!(listener.local_addr().port(), 0);
    assert_eq!(listener.local_addr().ip(), F::bind_addr().ip());
}

pub(crate) async fn an_address_in_use_cannot_be_bound<F: Fixture>() {
    let (host, _) = F::hosts();
    let credential = two_members().0;
    let listener = listen::<F>(&host, F::ours(), &credential).await;
    let again = host.create_listener(listener.local_addr(), F::ours(), &credential);
    let error = again.await.err().expect("two listeners on one address");
    let kind = error.downcast_ref::<std::io::Error>().map(|e| e.kind());
    assert_eq!(kind, Some(std::io::ErrorKind::AddrInUse), "{error:#}");
}

pub(crate) async fn a_dropped_listener_frees_its_address_at_once<F: Fixture>() {
    let (host, _) = F::hosts();
    let credential = two_members().0;
    let mut listener = listen::<F>(&host, F::ours(), &credential).await;
    let addr = listener.local_addr();
    for _ in 0..1000 {
        drop(listener);
        listener = host
            .create_listener(addr, F::ours(), &credential)
            .await
            .unwrap();
    }
    assert_eq!(listener.local_addr(), addr);
}

pub(crate) async fn messages_arrive_whole_and_in_order_both_ways<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    let messages: Vec<Bytes> = [0, 1, 65_535, 0, 1 << 20, 17]
        .into_iter()
        .enumerate()
        .map(|(i, len)| F::message(i as u8, len))
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

pub(crate) async fn a_batch_of_thousands_arrives_in_order<F: Fixture>() {
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

pub(crate) async fn a_probe_is_answered_once_the_messages_before_it_are_received<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    for (prober, other) in [(&a, &b), (&b, &a)] {
        for _ in 0..2 {
            prober.send(F::message(1, 8)).await.unwrap();
        }
        let asked = Instant::now();
        soon(prober.probe()).await.unwrap();
        let answered = || prober.last_answer().is_some_and(|at| at >= asked);
        // Whatever time passes, there is no answer while a message has not been received.
        for _ in 0..2 {
            let waiting = tokio::time::timeout(Duration::from_millis(50), prober.recv());
            assert!(waiting.await.is_err() && !answered());
            soon(other.recv()).await.unwrap().unwrap();
        }
        let asking = async {
            while !answered() {
                let turn = Duration::from_millis(5);
                let _ = tokio::time::timeout(turn, prober.recv()).await;
            }
        };
        tokio::select! {
            () = soon(asking) => {}
            _ = other.recv() => panic!("there is no other message"),
        }
        assert!(prober.last_heard() >= asked);
        assert_eq!(other.last_answer().is_some(), std::ptr::eq(prober, &b));
    }
}

pub(crate) async fn a_goodbye_arrives_with_its_code<F: Fixture>() {
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

pub(crate) async fn every_waiting_call_ends_when_the_connection_is_closed<F: Fixture>() {
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
    // It returns the end or an error, but not a message.
    assert!(!matches!(soon(reading).await.unwrap(), Ok(Some(_))));
    drop(b);
}

pub(crate) async fn the_peer_sees_the_end_of_a_closed_connection<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    soon(a.close(CloseCode::NORMAL)).await;
    assert!(soon(b.recv()).await.unwrap().is_none());
}

pub(crate) async fn a_peer_that_vanishes_without_a_goodbye_is_an_error<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    drop(a);
    let error = soon(b.recv()).await.expect_err("there was no goodbye");
    assert!(error.downcast_ref::<FrameError>().is_some(), "{error:#}");
    assert!(soon(b.recv()).await.is_err(), "it must stay an error");
    let reason = soon(b.watch_close()).await;
    assert!(matches!(reason, CloseReason::Lost(_)), "{reason}");
}

pub(crate) async fn recv_many_returns_messages_in_order_and_then_the_end<F: Fixture>() {
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
            // Every other call is polled once and dropped.
            let open = tokio::select! {
                biased;
                open = b.recv_many(&mut received) => open.unwrap(),
                () = tokio::task::yield_now() => true,
            };
            // `recv_many` is bounded, as its documentation says.
            assert!(received.len() - before <= 1025);
            if !open {
                // A caller that checks for the end first would lose messages that come with it.
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

pub(crate) async fn a_cancelled_recv_loses_nothing<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    let sending = async {
        for i in 0..200_u32 {
            a.send(F::message(i as u8, 3000)).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let receiving = async {
        for i in 0..200_u32 {
            // Each call is polled once and dropped, until one is ready at its first poll.
            let message = loop {
                tokio::select! {
                    biased;
                    message = b.recv() => break message,
                    () = tokio::task::yield_now() => {}
                }
            };
            assert_eq!(message.unwrap().unwrap(), F::message(i as u8, 3000));
        }
    };
    soon(async { tokio::join!(sending, receiving) }).await;
}

pub(crate) async fn an_unanswered_request_does_not_delay_the_next_one<F: Fixture>() {
    let (a, b) = F::hosts();
    let (acceptor, dialler) = two_members();
    let listener = listen::<F>(&a, F::ours(), &acceptor).await;
    let addr = listener.local_addr();
    let mut first = std::pin::pin!(b.connect(addr, F::ours(), &dialler));
    let unanswered = tokio::select! {
        request = listener.accept() => request.unwrap(),
        _ = &mut first => panic!("nothing has answered yet"),
    };
    let accepting = async { listener.accept().await.unwrap().accept().await };
    let second = b.connect(addr, F::ours(), &dialler);
    let (accepted, connected) = soon(async { tokio::join!(accepting, second) }).await;
    accepted.unwrap();
    connected.unwrap();
    drop(unanswered);
    // A network that dials in more than one way is refused each time.
    let refusing = async {
        loop {
            drop(listener.accept().await.unwrap());
        }
    };
    let dialled = soon(async {
        tokio::select! {
            dialled = first => dialled,
            () = refusing => unreachable!("it refuses until it is dropped"),
        }
    });
    assert!(dialled.await.is_err());
}

pub(crate) async fn dialling_an_address_without_a_listener_fails<F: Fixture>() {
    let (_, host) = F::hosts();
    let credential = two_members().0;
    let dialling = host.connect(F::dead_addr(), F::ours(), &credential);
    let error = soon(dialling).await.err().expect("no listener is there");
    assert!(
        matches!(error.downcast_ref(), Some(ConnectError::Io { .. })),
        "{error:#}"
    );
}

pub(crate) async fn an_address_that_cannot_be_dialled_is_reported_as_such<F: Fixture>() {
    let (_, host) = F::hosts();
    for addr in ["0.0.0.0:7000", "127.0.0.1:0", "[::]:7000"] {
        let credential = two_members().0;
        let dialling = host.connect(addr.parse().unwrap(), F::ours(), &credential);
        let error = soon(dialling).await.err().unwrap();
        assert!(
            matches!(error.downcast_ref(), Some(ConnectError::NotDialable { .. })),
            "{error:#}"
        );
    }
}

pub(crate) async fn accepting_an_abandoned_dial_fails<F: Fixture>() {
    let (a, b) = F::hosts();
    let (acceptor, dialler) = two_members();
    let listener = listen::<F>(&a, F::ours(), &acceptor).await;
    let request = {
        let mut dialling = std::pin::pin!(b.connect(listener.local_addr(), F::ours(), &dialler));
        tokio::select! {
            request = listener.accept() => request.unwrap(),
            _ = &mut dialling => panic!("nothing has answered yet"),
        }
    };
    assert!(soon(request.accept()).await.is_err(), "the dialler is gone");
}

pub(crate) async fn a_keepalive_ends_the_silence_without_a_message<F: Fixture>() {
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
        // The keepalive has arrived once the silence is shorter than the time since it was sent.
        // That stays true however slow the machine is. A network may count in milliseconds.
        while b.silence() > said.elapsed() + Duration::from_millis(1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(!reading.is_finished(), "a keepalive is no message");
    a.send(Bytes::from_static(b"message")).await.unwrap();
    assert_eq!(soon(reading).await.unwrap().unwrap().unwrap(), "message");
}

pub(crate) async fn an_oversized_message_is_refused_and_the_connection_goes_on<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    let mut batch: VecDeque<Bytes> =
        VecDeque::from([vec![0; (16 << 20) + 1].into(), F::message(1, 10)]);
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
        "the message that cannot be sent must be removed from the batch"
    );
    soon(a.send_many(&mut batch)).await.unwrap();
    assert_eq!(soon(b.recv()).await.unwrap().unwrap(), F::message(1, 10));
}

pub(crate) async fn a_peer_that_does_not_read_makes_the_sender_wait<F: Fixture>() {
    let (a, b) = meet::<F>().await;
    let message = Bytes::from(vec![7; 1 << 20]);
    let mut sent = 0;
    // The network and the system may buffer some of them.
    while let Ok(result) =
        tokio::time::timeout(Duration::from_millis(300), a.send(message.clone())).await
    {
        result.unwrap();
        sent += 1;
        assert!(sent < 100, "nothing holds the sender back");
    }
    // The next call sends a cancelled message completely, or not at all.
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
