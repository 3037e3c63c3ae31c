//! A connection that one side leaves: nothing is lost that was sent before, in either direction.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::FutureExt as _;
use gossip_transport::net::{CloseCode, CloseReason, NetConnection};

use super::common::{Connection, Meeting, recv};
use crate::support::soon;

/// Receives until the peer has said goodbye. Returns the number of messages.
async fn receive_all(connection: &Connection) -> usize {
    let mut messages = Vec::new();
    while soon(connection.recv_many(&mut messages)).await.unwrap() {}
    messages.len()
}

#[tokio::test]
async fn what_was_sent_on_a_connection_that_is_left_arrives_on_both_sides() {
    for code in [CloseCode::UNTRUSTED, CloseCode::RENEWED] {
        let (a, b) = Meeting::with_secret().connect().await;
        for connection in [&a, &b] {
            let message = Bytes::from(vec![7; 100_000]);
            let mut batch: VecDeque<_> = (0..10).map(|_| message.clone()).collect();
            soon(connection.send_many(&mut batch)).await.unwrap();
        }
        soon(a.leave(code)).await;
        let received = futures::join!(receive_all(&a), receive_all(&b));
        assert_eq!(received, (10, 10));
        for connection in [a, b] {
            let reason = soon(connection.watch_close()).await;
            assert!(
                matches!(reason, CloseReason::Remote(c) if c == code),
                "{reason}"
            );
        }
    }
}

#[tokio::test]
async fn a_message_that_is_being_written_when_the_goodbye_arrives_is_written_to_its_end() {
    let meeting = Meeting::with_secret();
    let (a, b) = meeting.connect().await;
    meeting.to_dialler.stall_after(1000);
    let mut batch: VecDeque<_> = [Bytes::from(vec![7; 1_000_000])].into();
    // The carrier does not take it all at once. The call is dropped, as a task does that has waited for too long.
    assert!(b.send_many(&mut batch).now_or_never().is_none());
    assert!(batch.is_empty(), "the connection owns it");
    meeting.to_dialler.unstall();
    soon(a.leave(CloseCode::RENEWED)).await;
    let received = futures::join!(receive_all(&a), receive_all(&b));
    assert_eq!(received, (1, 0));
}

#[tokio::test]
async fn a_message_that_is_sent_after_the_goodbye_stays_with_its_sender() {
    let (a, b) = Meeting::with_secret().connect().await;
    soon(a.leave(CloseCode::UNTRUSTED)).await;
    let message = || VecDeque::from([Bytes::from_static(b"late")]);
    let mut batch = message();
    assert!(
        a.send_many(&mut batch).now_or_never().is_none(),
        "it waits for the end"
    );
    assert_eq!(batch.len(), 1);
    assert_eq!(receive_all(&b).await, 0);
    let mut batch = message();
    soon(b.send_many(&mut batch)).await.unwrap_err();
    assert_eq!(batch.len(), 1);
    assert_eq!(receive_all(&a).await, 0);
    soon(a.send_many(&mut batch)).await.unwrap_err();
    assert_eq!(batch.len(), 1);
}

#[tokio::test]
async fn both_sides_may_leave_at_once_and_more_than_once() {
    let (a, b) = Meeting::with_secret().connect().await;
    for _ in 0..2 {
        for connection in [&a, &b] {
            soon(connection.leave(CloseCode::RENEWED)).await;
            soon(connection.keepalive()).await.unwrap();
            soon(connection.probe()).await.unwrap();
        }
    }
    assert_eq!(futures::join!(receive_all(&a), receive_all(&b)), (0, 0));
    soon(a.leave(CloseCode::RENEWED)).await;
}

#[tokio::test]
async fn a_peer_that_probes_after_the_goodbye_gets_the_goodbye() {
    let (a, b) = Meeting::with_secret().connect().await;
    soon(a.leave(CloseCode::RENEWED)).await;
    soon(b.probe()).await.unwrap();
    assert_eq!(futures::join!(receive_all(&a), receive_all(&b)), (0, 0));
}

#[tokio::test]
async fn a_side_that_closes_with_these_codes_does_not_wait_for_an_answer() {
    let (a, b) = Meeting::with_secret().connect().await;
    soon(b.send(Bytes::from_static(b"before"))).await.unwrap();
    assert_eq!(recv(&a).await, "before");
    soon(a.close(CloseCode::UNTRUSTED)).await;
    assert_eq!(receive_all(&b).await, 0);
    let reason = soon(b.watch_close()).await;
    assert!(matches!(reason, CloseReason::Remote(CloseCode::UNTRUSTED)));
}
