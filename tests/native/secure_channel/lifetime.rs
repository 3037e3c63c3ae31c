//! The end of a connection: how it is caused, and which calls notice it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use gossip_transport::net::{CloseCode, CloseReason, NetConnection};
use gossip_transport::secure::FrameError;
use tokio::time::Instant;

use super::common::*;
use crate::support::soon;

#[track_caller]
fn closed(error: anyhow::Error) -> CloseReason {
    match frame_error(&error) {
        FrameError::Closed { reason } => reason.clone(),
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_and_its_code_arrive_after_the_last_message() {
    for code in [CloseCode::NORMAL, CloseCode::EVICTED, CloseCode(65_535)] {
        let meeting = Meeting::of_anyone();
        let (a, b) = meeting.connect().await;
        // Test both directions.
        let (from, to) = if code.0 == 3 { (b, a) } else { (a, b) };
        from.send(Bytes::from_static(b"last")).await.unwrap();
        soon(from.close(code)).await;
        assert!(matches!(from.watch_close().await, CloseReason::Local(c) if c == code));
        let late = from.send(Bytes::new()).await.unwrap_err();
        assert!(matches!(closed(late), CloseReason::Local(c) if c == code));

        assert_eq!(recv(&to).await, "last");
        for _ in 0..2 {
            assert!(soon(to.recv()).await.unwrap().is_none());
        }
        assert!(matches!(soon(to.watch_close()).await, CloseReason::Remote(c) if c == code));
        let late = to.send(Bytes::new()).await.unwrap_err();
        assert!(matches!(closed(late), CloseReason::Remote(c) if c == code));
    }
}

#[tokio::test(start_paused = true)]
async fn both_sides_may_close_at_once_and_more_than_once() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    soon(async { futures::join!(a.close(CloseCode(300)), b.close(CloseCode(400))) }).await;
    let records = meeting.to_acceptor.log().len();
    soon(a.close(CloseCode(500))).await;
    assert_eq!(meeting.to_acceptor.log().len(), records);
    assert!(matches!(
        a.watch_close().await,
        CloseReason::Local(CloseCode(300))
    ));
    assert!(matches!(
        b.watch_close().await,
        CloseReason::Local(CloseCode(400))
    ));
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_every_call_that_waits() {
    let meeting = Meeting::of_anyone();
    let (a, _b) = meeting.connect().await;
    meeting.to_acceptor.stall_after(0);
    let mut batch = VecDeque::from([Bytes::from_static(b"stuck")]);
    let start = Instant::now();
    // This set polls only the futures that have been woken.
    let mut waiting = FuturesUnordered::<LocalBoxFuture<'_, CloseReason>>::new();
    for _ in 0..2 {
        waiting.push(Box::pin(async { closed(a.recv().await.unwrap_err()) }));
        waiting.push(Box::pin(a.watch_close()));
    }
    waiting.push(Box::pin(async {
        closed(a.send_many(&mut batch).await.unwrap_err())
    }));
    assert!(poll_once(waiting.next()).await.is_none());
    let close = a.close(CloseCode::GOING_AWAY);
    let (reasons, ()) = soon(async { futures::join!(waiting.collect::<Vec<_>>(), close) }).await;
    assert_eq!(reasons.len(), 5);
    for reason in reasons {
        assert!(matches!(reason, CloseReason::Local(CloseCode::GOING_AWAY)));
    }
    // A goodbye to a peer that does not read is abandoned after a second.
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_waits_until_a_stalled_carrier_moves_again() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let long = Bytes::from(vec![1; 500_000]);
    meeting.to_acceptor.stall_after(100_000);
    // The send is dropped after a part of the message is sealed, so the rest must still be sent.
    let mut batch = VecDeque::from([long.clone()]);
    assert!(poll_once(a.send_many(&mut batch)).await.is_none());
    assert!(batch.is_empty());
    let mut close = std::pin::pin!(a.close(CloseCode(7)));
    assert!(poll_once(close.as_mut()).await.is_none());
    meeting.to_acceptor.unstall();
    soon(close).await;
    assert!(recv(&b).await == long);
    assert!(soon(b.recv()).await.unwrap().is_none());
    assert!(matches!(
        b.watch_close().await,
        CloseReason::Remote(CloseCode(7))
    ));
}

#[tokio::test(start_paused = true)]
async fn closing_ends_the_carrier_even_if_clones_remain() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let _clone = a.clone();
    soon(a.close(CloseCode::NORMAL)).await;
    assert!(meeting.to_acceptor.was_shut_down());
    assert!(soon(b.recv()).await.unwrap().is_none());
    soon(b.close(CloseCode::NORMAL)).await;
    assert!(meeting.to_dialler.was_shut_down());
}

#[tokio::test(start_paused = true)]
async fn an_end_that_recv_notices_releases_the_reading_half_even_if_clones_remain() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let _clone = a.clone();
    meeting.to_dialler.inject(&[0; 40]);
    soon(a.recv()).await.expect_err("the record is forged");
    assert!(meeting.to_dialler.is_closed());
    let _others = b;

    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let mut waiting = std::pin::pin!(a.recv());
    assert!(poll_once(waiting.as_mut()).await.is_none());
    soon(a.close(CloseCode::NORMAL)).await;
    soon(waiting).await.expect_err("it is closed");
    assert!(meeting.to_dialler.is_closed());
    let _others = b;
}

#[tokio::test(start_paused = true)]
async fn closing_releases_the_reading_half_even_if_nobody_receives_and_clones_remain() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let _clone = a.clone();
    soon(a.close(CloseCode::NORMAL)).await;
    assert!(meeting.to_dialler.is_closed());
    let _others = b;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_clone_drops_the_carrier() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let clone = a.clone();
    drop(a);
    assert!(poll_once(b.recv()).await.is_none());
    drop(clone);
    let error = soon(b.recv()).await.unwrap_err();
    assert!(matches!(frame_error(&error), FrameError::Truncated));
}

#[tokio::test(start_paused = true)]
async fn a_broken_carrier_wakes_every_call_that_waits_for_the_end() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let (received, reasons, ()) = soon(async {
        futures::join!(
            a.recv(),
            futures::future::join_all((0..50).map(|_| a.watch_close())),
            // Polled last, when the others already wait.
            async move { drop(b) },
        )
    })
    .await;
    assert!(matches!(
        frame_error(&received.unwrap_err()),
        FrameError::Truncated
    ));
    assert_eq!(reasons.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_fails_with_the_error_of_the_carrier() {
    let meeting = Meeting::of_anyone();
    let (a, _b) = meeting.connect().await;
    meeting.to_acceptor.cut();
    let error = a.send(Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(frame_error(&error), FrameError::Carrier(_)));
    let error = a.recv().await.unwrap_err();
    assert!(matches!(frame_error(&error), FrameError::Carrier(_)));
}

#[tokio::test(start_paused = true)]
async fn reading_and_writing_do_not_wait_for_each_other() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    meeting.to_acceptor.stall_after(0);
    let mut batch = VecDeque::from([Bytes::from_static(b"stuck")]);
    let mut stuck = std::pin::pin!(a.send_many(&mut batch));
    assert!(poll_once(stuck.as_mut()).await.is_none());

    b.send(Bytes::from_static(b"through")).await.unwrap();
    assert_eq!(recv(&a).await, "through");
    let mut waiting = std::pin::pin!(a.recv());
    assert!(poll_once(waiting.as_mut()).await.is_none());

    meeting.to_acceptor.unstall();
    soon(stuck).await.unwrap();
    assert_eq!(recv(&b).await, "stuck");
}

#[tokio::test(start_paused = true)]
async fn two_receivers_get_one_message_each() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let (one, two, ()) = soon(async {
        futures::join!(recv(&b), recv(&b), async {
            a.send(Bytes::from_static(b"1")).await.unwrap();
            a.send(Bytes::from_static(b"2")).await.unwrap();
        })
    })
    .await;
    assert_eq!((&one[..], &two[..]), (&b"1"[..], &b"2"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_keepalive_sends_a_ping_and_never_waits_for_a_stalled_sender() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let pings = meeting.to_acceptor.pings();
    a.keepalive().await.unwrap();
    assert_eq!(meeting.to_acceptor.pings(), pings + 1);
    assert!(
        poll_once(b.recv()).await.is_none(),
        "a keepalive is not a message"
    );

    meeting.to_acceptor.stall_after(0);
    let mut batch = VecDeque::from([Bytes::from_static(b"stuck")]);
    let mut stuck = std::pin::pin!(a.send_many(&mut batch));
    assert!(poll_once(stuck.as_mut()).await.is_none());
    poll_once(a.keepalive()).await.expect("no wait").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_reports_its_silence_and_stays_open() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let mut waiting = std::pin::pin!(a.recv());
    for seconds in [90, 3600] {
        assert!(poll_once(waiting.as_mut()).await.is_none());
        tokio::time::advance(Duration::from_secs(seconds) - a.silence()).await;
        assert_eq!(a.silence().as_secs(), seconds);
    }
    b.send(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().unwrap(), "hello");
}

#[tokio::test(start_paused = true)]
async fn messages_keepalives_and_pongs_are_signs_of_life() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let speak = async {
        for i in 0..12 {
            tokio::time::sleep(Duration::from_secs(80)).await;
            assert_eq!(a.silence().as_secs(), 80);
            match i % 3 {
                0 => b.keepalive().await.unwrap(),
                1 => meeting.to_dialler.inject_activity(),
                _ => b.send(Bytes::from_static(b"hello")).await.unwrap(),
            }
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(a.silence().as_secs(), 10);
        b.close(CloseCode::NORMAL).await;
    };
    let listen = async {
        for _ in 0..4 {
            assert_eq!(a.recv().await.unwrap().unwrap(), "hello");
        }
        assert!(a.recv().await.unwrap().is_none());
    };
    tokio::time::timeout(Duration::from_secs(3600), async {
        futures::join!(speak, listen)
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn forged_frames_are_not_a_sign_of_life() {
    let meeting = Meeting::of_anyone();
    let (a, _b) = meeting.connect().await;
    tokio::time::advance(Duration::from_secs(5)).await;
    meeting.to_dialler.inject(&[0; 40]);
    a.recv().await.unwrap_err();
    assert_eq!(a.silence().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn messages_that_arrived_during_a_freeze_are_received_after_it() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let mut waiting = std::pin::pin!(a.recv());
    assert!(poll_once(waiting.as_mut()).await.is_none());
    // A tab is frozen for an hour. When it wakes, its timers run before its socket's events.
    meeting.to_dialler.hold();
    b.send(Bytes::from_static(b"in time")).await.unwrap();
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(poll_once(waiting.as_mut()).await.is_none());
    meeting.to_dialler.release();
    assert_eq!(soon(waiting).await.unwrap().unwrap(), "in time");
}

#[tokio::test(start_paused = true)]
async fn messages_are_received_however_late_the_receiver_asks_for_them() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    b.send(Bytes::from_static(b"old")).await.unwrap();
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(recv(&a).await, "old");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_signs_of_life_does_not_keep_a_receiver_from_yielding() {
    const FLOOD: usize = 1000;
    for records in [true, false] {
        let meeting = Meeting::of_anyone();
        let (a, b) = meeting.connect().await;
        for _ in 0..FLOOD {
            if records {
                a.keepalive().await.unwrap();
            } else {
                meeting.to_acceptor.inject_activity();
            }
        }
        a.send(Bytes::from_static(b"message")).await.unwrap();
        let mut polls = 0;
        let mut receiving = std::pin::pin!(b.recv());
        let received = loop {
            polls += 1;
            match futures::poll!(&mut receiving) {
                std::task::Poll::Ready(received) => break received,
                std::task::Poll::Pending => assert!(polls <= FLOOD),
            }
        };
        assert_eq!(received.unwrap().unwrap(), "message");
        assert!(polls >= 4, "{FLOOD} signs of life in {polls} polls");
    }
}
