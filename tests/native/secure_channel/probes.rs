//! Probes: when they are sent and answered, whatever the writers and the readers are doing.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::net::{CloseCode, CloseReason, NetConnection};
use gossip_transport::secure::FrameError;
use tokio::time::{Instant, advance};

use super::common::*;
use crate::support::soon;

/// Length of a record with one control word, in bytes.
const CONTROL_LEN: usize = 4 + 16;

/// Receives in a task of its own, which is polled only when it is woken, and reports each message.
fn receive(connection: &Connection) -> tokio::sync::mpsc::Receiver<Bytes> {
    let (report, received) = tokio::sync::mpsc::channel(1000);
    let connection = connection.clone();
    tokio::spawn(async move {
        while let Ok(Some(message)) = connection.recv().await {
            report.send(message).await.unwrap();
        }
    });
    received
}

/// Waits until `connection` has had an answer since `since`.
#[track_caller]
fn answered(connection: &Connection, since: Instant) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let mut turns = 0;
        while connection.last_answer().is_none_or(|at| at < since) {
            turns += 1;
            assert!(turns < 10_000, "no answer at {caller}");
            tokio::task::yield_now().await;
        }
    }
}

/// Lets every other task run until none has anything to do.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_answered_by_a_peer_that_only_receives() {
    for suite in SUITES {
        let mut meeting = Meeting::of_anyone();
        meeting.suite = suite;
        let (a, b) = meeting.connect().await;
        let (_a, _b) = (receive(&a), receive(&b));
        assert_eq!((a.last_answer(), b.last_answer()), (None, None));
        for round in 0..5 {
            advance(Duration::from_secs(7)).await;
            let asked = Instant::now();
            a.probe().await.unwrap();
            answered(&a, asked).await;
            assert_eq!(a.last_answer(), Some(asked));
            assert_eq!((a.last_heard(), b.last_heard()), (asked, asked));
            assert_eq!(b.last_answer(), None);
            assert_eq!(meeting.to_acceptor.log().len(), 3 + round + 1);
            assert_eq!(meeting.to_dialler.log().len(), 2 + round + 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_answered_only_by_a_call_after_the_one_that_returned_the_last_message() {
    for many in [false, true] {
        let meeting = Meeting::of_anyone();
        let (a, b) = meeting.connect().await;
        let answers = || meeting.to_dialler.log().len() - 2;
        meeting.to_acceptor.hold();
        for _ in 0..2 {
            a.send(Bytes::from_static(b"message")).await.unwrap();
        }
        a.probe().await.unwrap();
        meeting.to_acceptor.release();
        let mut received = Vec::new();
        while received.len() < 2 {
            match many {
                true => assert!(soon(b.recv_many(&mut received)).await.unwrap()),
                false => received.push(recv(&b).await),
            }
            assert_eq!(answers(), 0);
        }
        // The next call is what says that the caller has the messages.
        assert!(poll_once(b.recv()).await.is_none());
        assert_eq!(answers(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_reads_a_probe_and_then_a_message_answers_before_it_returns() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    // The probe waits until the long message has been sealed, and stands between the two.
    meeting.to_acceptor.stall_after(50);
    let long = Bytes::from(vec![1; 500_000]);
    let mut batch = VecDeque::from([long.clone(), Bytes::from_static(b"next")]);
    let mut sending = Box::pin(a.send_many(&mut batch));
    assert!(poll_once(sending.as_mut()).await.is_none());
    a.probe().await.unwrap();
    meeting.to_acceptor.unstall();
    soon(sending).await.unwrap();
    assert!(recv(&b).await == long);
    assert_eq!(meeting.to_dialler.log().len(), 2);
    assert_eq!(recv(&b).await, "next");
    assert_eq!(meeting.to_dialler.log().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_probe_behind_a_message_in_one_record_is_answered_by_the_next_call() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    // The probe waits until the message has been sealed, and shares its last record.
    meeting.to_acceptor.stall_after(50);
    let mut batch = VecDeque::from([Bytes::from(vec![1; 500_000])]);
    let mut sending = Box::pin(a.send_many(&mut batch));
    assert!(poll_once(sending.as_mut()).await.is_none());
    a.probe().await.unwrap();
    meeting.to_acceptor.unstall();
    soon(sending).await.unwrap();
    let mut received = Vec::new();
    assert!(soon(b.recv_many(&mut received)).await.unwrap());
    assert_eq!(received[0].len(), 500_000);
    assert_eq!(meeting.to_dialler.log().len(), 2);
    assert!(poll_once(b.recv_many(&mut received)).await.is_none());
    assert_eq!(meeting.to_dialler.log().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_probe_never_waits_and_goes_out_when_a_blocked_writer_goes_on() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    meeting.to_acceptor.stall_after(50);
    let long = Bytes::from(vec![1; 500_000]);
    let mut batch = VecDeque::from([long.clone()]);
    let mut sending = Box::pin(a.send_many(&mut batch));
    assert!(poll_once(sending.as_mut()).await.is_none());
    for _ in 0..1000 {
        poll_once(a.probe()).await.expect("at once").unwrap();
    }
    let asked = Instant::now();
    let (_a, mut b) = (receive(&a), receive(&b));
    meeting.to_acceptor.unstall();
    soon(sending).await.unwrap();
    assert!(soon(b.recv()).await.unwrap() == long);
    answered(&a, asked).await;
    // All probes that waited count as one.
    settle().await;
    assert_eq!(meeting.to_dialler.log().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_finds_the_carrier_full_goes_out_without_another_write() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let (_a, _b) = (receive(&a), receive(&b));
    settle().await;
    for taken in [0, 1, CONTROL_LEN] {
        let asked = Instant::now();
        meeting.to_acceptor.stall_after(taken);
        poll_once(a.probe()).await.expect("at once").unwrap();
        settle().await;
        meeting.to_acceptor.unstall();
        answered(&a, asked).await;
        advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_finds_the_carrier_full_delays_no_message_and_goes_out_later() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let (_a, mut b) = (receive(&a), receive(&b));
    meeting.to_dialler.stall_after(1);
    let asked = Instant::now();
    for i in 0..100_u8 {
        a.probe().await.unwrap();
        a.send(Bytes::from(vec![i])).await.unwrap();
        assert_eq!(soon(b.recv()).await.unwrap(), vec![i]);
    }
    assert_eq!(meeting.to_dialler.log().len(), 2);
    meeting.to_dialler.unstall();
    answered(&a, asked).await;
    settle().await;
    // One was sealed before the carrier was full, and all others count as one.
    assert_eq!(meeting.to_dialler.log().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_probe_or_an_answer_survives_a_sender_that_is_dropped_with_the_writing_lock() {
    for stall in [0, 10, 100_000] {
        let meeting = Meeting::of_anyone();
        let (a, b) = meeting.connect().await;
        let (_b, mut from_a) = (receive(&a), receive(&b));
        let long = Bytes::from(vec![1; 300_000]);
        // Both ends have a sender that holds the lock, a probe that waits behind it, and an answer.
        let asked = Instant::now();
        for (end, pipe) in [(&a, &meeting.to_acceptor), (&b, &meeting.to_dialler)] {
            pipe.stall_after(stall);
            let mut batch = VecDeque::from([long.clone()]);
            let mut sending = Box::pin(end.send_many(&mut batch));
            assert!(poll_once(sending.as_mut()).await.is_none());
            end.probe().await.unwrap();
            settle().await;
            drop(sending);
        }
        settle().await;
        for pipe in [&meeting.to_acceptor, &meeting.to_dialler] {
            pipe.unstall();
        }
        answered(&a, asked).await;
        answered(&b, asked).await;
        assert!(soon(from_a.recv()).await.unwrap() == long);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_survives_a_sender_that_is_dropped_while_it_writes_the_probe() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let (_a, _b) = (receive(&a), receive(&b));
    meeting.to_acceptor.stall_after(0);
    let mut batch = VecDeque::from([Bytes::from_static(b"message")]);
    let mut sending = Box::pin(a.send_many(&mut batch));
    assert!(poll_once(sending.as_mut()).await.is_none());
    a.probe().await.unwrap();
    settle().await;
    // Room for the message: the sender goes on to the probe, which does not fit.
    meeting.to_acceptor.stall_after(2 + 4 + 7 + 16);
    assert!(poll_once(sending.as_mut()).await.is_none());
    assert_eq!(meeting.to_acceptor.log().len(), 4);
    settle().await;
    drop(sending);
    settle().await;
    let asked = Instant::now();
    meeting.to_acceptor.unstall();
    answered(&a, asked).await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_waits_is_completed_by_the_task_that_receives() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let (_a, _b) = (receive(&a), receive(&b));
    for pipe in [&meeting.to_acceptor, &meeting.to_dialler] {
        pipe.buffer();
    }
    let asked = Instant::now();
    a.probe().await.unwrap();
    settle().await;
    assert_eq!(meeting.to_acceptor.log().len(), 4);
    assert_eq!(meeting.to_dialler.log().len(), 2);
    meeting.to_acceptor.flush();
    settle().await;
    assert_eq!(meeting.to_dialler.log().len(), 3);
    meeting.to_dialler.flush();
    answered(&a, asked).await;
}

#[tokio::test(start_paused = true)]
async fn probes_are_answered_however_often_a_receiver_is_dropped() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    for pipe in [&meeting.to_acceptor, &meeting.to_dialler] {
        pipe.make_lazy();
    }
    let mut random = fastrand::Rng::with_seed(11);
    let mut sent = 0_u32;
    let mut received = 0;
    for _ in 0..300 {
        advance(Duration::from_millis(1)).await;
        let asked = Instant::now();
        poll_once(a.probe()).await.expect("at once").unwrap();
        if random.bool() {
            let mut batch = VecDeque::from([Bytes::copy_from_slice(&sent.to_be_bytes())]);
            sent += 1;
            // What a dropped send leaves is sent by the next one.
            let _ = poll_once(a.send_many(&mut batch)).await;
            soon(a.send_many(&mut batch)).await.unwrap();
        }
        let mut polls = 0;
        while a.last_answer().is_none_or(|at| at < asked) {
            polls += 1;
            assert!(polls < 1000, "no answer");
            if let Some(message) = poll_once(b.recv()).await {
                assert_eq!(message.unwrap().unwrap()[..], u32::to_be_bytes(received));
                received += 1;
            }
            assert!(poll_once(a.recv()).await.is_none());
        }
    }
    while received < sent {
        assert_eq!(recv(&b).await[..], received.to_be_bytes());
        received += 1;
    }
    assert!(sent > 100, "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_probes_costs_one_answer_and_lets_other_tasks_run() {
    const FLOOD: usize = 10_000;
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    meeting.to_dialler.stall_after(0);
    for _ in 0..FLOOD {
        a.probe().await.unwrap();
    }
    a.send(Bytes::from_static(b"message")).await.unwrap();
    let mut polls = 0;
    let mut receiving = Box::pin(b.recv());
    let received = poll_fn(|cx| {
        polls += 1;
        receiving.as_mut().poll(cx)
    });
    assert_eq!(soon(received).await.unwrap().unwrap(), "message");
    assert!(polls > FLOOD / 100, "{FLOOD} probes in {polls} polls");
    meeting.to_dialler.unstall();
    soon(b.keepalive()).await.unwrap();
    assert!(meeting.to_dialler.log().len() <= 4);
    let asked = Instant::now();
    assert!(poll_once(a.recv()).await.is_none());
    assert_eq!(a.last_answer(), Some(asked));
}

#[tokio::test(start_paused = true)]
async fn the_next_write_of_any_kind_sends_what_is_owed() {
    type Write = fn(Connection) -> futures::future::BoxFuture<'static, ()>;
    let writes: [Write; 3] = [
        |b| Box::pin(async move { b.keepalive().await.unwrap() }),
        |b| Box::pin(async move { b.send_many(&mut VecDeque::new()).await.unwrap() }),
        |b| Box::pin(async move { b.close(CloseCode::NORMAL).await }),
    ];
    for write in writes {
        for dropped in [0, 300_000] {
            let meeting = Meeting::of_anyone();
            let (a, b) = meeting.connect().await;
            meeting.to_dialler.stall_after(0);
            let mut batch = VecDeque::from([Bytes::from(vec![0; dropped])]);
            let mut sending = Box::pin(b.send_many(&mut batch));
            assert!(poll_once(sending.as_mut()).await.is_none());
            a.probe().await.unwrap();
            assert!(poll_once(b.recv()).await.is_none());
            drop(sending);
            meeting.to_dialler.unstall();
            soon(write(b)).await;
            assert_eq!(recv(&a).await.len(), dropped);
            let _ = poll_once(a.recv()).await;
            assert!(a.last_answer().is_some());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_written_does_not_hide_the_goodbye() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    meeting.to_acceptor.hold();
    a.probe().await.unwrap();
    a.send(Bytes::from_static(b"last")).await.unwrap();
    soon(a.close(CloseCode(7))).await;
    drop(a);
    assert!(meeting.to_dialler.is_closed());
    meeting.to_acceptor.release();
    assert_eq!(recv(&b).await, "last");
    assert!(soon(b.recv()).await.unwrap().is_none());
    let reason = soon(b.watch_close()).await;
    assert!(matches!(reason, CloseReason::Remote(CloseCode(7))));
}

#[tokio::test(start_paused = true)]
async fn a_probe_on_a_connection_that_has_ended_fails() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    soon(a.close(CloseCode::NORMAL)).await;
    let error = a.probe().await.unwrap_err();
    assert!(matches!(
        frame_error(&error),
        FrameError::Closed {
            reason: CloseReason::Local(_)
        }
    ));
    drop(a);
    let error = b.probe().await.unwrap_err();
    assert!(matches!(frame_error(&error), FrameError::Carrier(_)));
    assert!(matches!(soon(b.watch_close()).await, CloseReason::Lost(_)));
}

/// Two threads of probes and messages in each direction, with receivers that are polled only when
/// they are woken.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_probe_is_lost_between_threads() {
    let meeting = Meeting::of_anyone();
    let (a, b) = meeting.connect().await;
    let (_a, mut received) = (receive(&a), receive(&b));
    let counting = tokio::spawn(async move {
        let mut count = 0;
        while received.recv().await.is_some() {
            count += 1;
        }
        count
    });
    let a = Arc::new(a);
    let sender = Arc::clone(&a);
    let sending = tokio::spawn(async move {
        for _ in 0..20_000 {
            sender.send(Bytes::from_static(b"message")).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..5000 {
        let asked = Instant::now();
        a.probe().await.unwrap();
        let answer = poll_fn(|cx| match a.last_answer() {
            Some(at) if at >= asked => Poll::Ready(()),
            _ => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        });
        soon(answer).await;
    }
    sending.await.unwrap();
    a.close(CloseCode::NORMAL).await;
    assert_eq!(counting.await.unwrap(), 20_000);
}
