//! Messages and records: which arrive, and which end the connection.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use gossip_transport::net::{CloseReason, NetConnection};
use gossip_transport::secure::FrameError;
use proptest::prelude::*;

use super::common::*;
use crate::support::soon;

fn message(len: usize, fill: u8) -> Bytes {
    vec![fill; len].into()
}

/// Sends three messages in one record each, and lets `f` change the records on their way. Returns
/// the number of messages that arrived, and the error after them.
async fn after(f: impl Fn(&mut VecDeque<BytesMut>)) -> (usize, FrameError) {
    let mut result = None;
    for suite in SUITES {
        let mut meeting = Meeting::of_anyone();
        meeting.suite = suite;
        let counts = meeting.accept_config.receive_memory();
        meeting.accept_memory = Some(counts.clone());
        let (dialled, accepted) = meeting.connect().await;
        meeting.to_acceptor.hold();
        for i in 0..3 {
            dialled.send(message(100, i)).await.unwrap();
        }
        meeting.to_acceptor.edit(&f);
        meeting.to_acceptor.cut();
        meeting.to_acceptor.release();

        let mut received = 0;
        let error = loop {
            match soon(accepted.recv()).await {
                Ok(message) => assert_eq!(message.unwrap(), vec![received; 100]),
                Err(error) => break error,
            }
            received += 1;
        };
        let error = frame_error(&error).clone();
        let rejected = u64::from(matches!(error, FrameError::Tampered));
        assert_eq!(counts.stats().rejected_records, rejected);
        // Every later call fails with the same error.
        let again = soon(accepted.recv()).await.unwrap_err();
        assert_eq!(frame_error(&again).to_string(), error.to_string());
        let again = soon(accepted.send(Bytes::new())).await.unwrap_err();
        assert_eq!(frame_error(&again).to_string(), error.to_string());
        let again = soon(accepted.keepalive()).await.unwrap_err();
        assert_eq!(frame_error(&again).to_string(), error.to_string());
        let CloseReason::Lost(reason) = soon(accepted.watch_close()).await else {
            panic!("not lost");
        };
        assert!(reason.downcast_ref::<FrameError>().is_some());
        result = Some((usize::from(received), error));
    }
    result.unwrap()
}

#[track_caller]
fn tampered_after(expected: usize, (received, error): (usize, FrameError)) {
    assert!(matches!(error, FrameError::Tampered), "{error}");
    assert_eq!(received, expected);
}

/// Each record holds a short message, which the receiver keeps, and a long one, which it drops.
#[tokio::test(start_paused = true)]
async fn messages_that_a_receiver_keeps_share_a_bounded_number_of_records() {
    const MAX: usize = 1 << 20;
    let mut meeting = Meeting::of_anyone().configure(|config| {
        config.max_shared_record_bytes = MAX;
    });
    let memory = meeting.accept_config.receive_memory();
    meeting.accept_memory = Some(memory.clone());
    let (dialled, accepted) = meeting.connect().await;
    let mut kept = Vec::new();
    for i in 0..100 {
        let mut batch = VecDeque::from([message(50, i), message(60_000, i)]);
        dialled.send_many(&mut batch).await.unwrap();
        let short = soon(accepted.recv()).await.unwrap().unwrap();
        assert_eq!(short, message(50, i));
        let long = soon(accepted.recv()).await.unwrap().unwrap();
        assert_eq!(long, message(60_000, i));
        kept.push(short);
        let shared = memory.stats().shared_record_bytes;
        assert!(shared <= MAX as u64, "{shared}");
    }
    // All that are allowed, since each takes a little less than 64 KiB.
    let shared = memory.stats().shared_record_bytes;
    assert!(shared > MAX as u64 - (64 << 10), "{shared}");
    for (i, short) in (0..).zip(&kept) {
        assert_eq!(*short, message(50, i));
    }
    drop(kept);
    assert_eq!(memory.stats().shared_record_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_record_with_a_changed_bit_ends_the_connection() {
    for at in [0, 50, 103, 104, 119] {
        tampered_after(1, after(|records| records[1][at] ^= 0x80).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replayed_record_ends_the_connection() {
    let replay = |records: &mut VecDeque<BytesMut>| records.insert(2, records[1].clone());
    tampered_after(2, after(replay).await);
}

#[tokio::test(start_paused = true)]
async fn a_reordered_record_ends_the_connection() {
    tampered_after(1, after(|records| records.swap(1, 2)).await);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_record_ends_the_connection() {
    let drop_one = |records: &mut VecDeque<BytesMut>| drop(records.remove(1));
    tampered_after(1, after(drop_one).await);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_shortened_or_lengthened_ends_the_connection() {
    for len in [0, 1, 15, 16, 119, 121, 65_535, 65_536, 100_000] {
        tampered_after(1, after(|records| records[1].resize(len, 0)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_sent_back_to_its_sender_ends_the_connection() {
    let meeting = Meeting::of_anyone();
    let (dialled, _accepted) = meeting.connect().await;
    dialled.send(message(10, 1)).await.unwrap();
    meeting.to_dialler.inject(&meeting.to_acceptor.log()[3]);
    let error = soon(dialled.recv()).await.unwrap_err();
    assert!(matches!(frame_error(&error), FrameError::Tampered));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_a_goodbye_is_an_error() {
    let (received, error) = after(|_| {}).await;
    assert_eq!(received, 3);
    assert!(matches!(error, FrameError::Truncated), "{error}");
    // If the last record is lost as well, the result is the same as if it had never been sent.
    let (received, error) = after(|records| drop(records.pop_back())).await;
    assert_eq!(received, 2);
    assert!(matches!(error, FrameError::Truncated), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_is_refused_and_the_connection_stays_open() {
    let meeting = Meeting::of_anyone().configure(|config| config.max_message_len = 1000);
    let (dialled, accepted) = meeting.connect().await;
    let mut batch = VecDeque::from([message(1000, 1), message(1001, 2), message(3, 3)]);
    let error = soon(dialled.send_many(&mut batch)).await.unwrap_err();
    assert!(matches!(
        frame_error(&error),
        FrameError::MessageTooLong {
            len: 1001,
            max: 1000
        }
    ));
    assert_eq!(batch, [message(3, 3)]);
    soon(dialled.send_many(&mut batch)).await.unwrap();
    assert_eq!(recv(&accepted).await, message(1000, 1));
    assert_eq!(recv(&accepted).await, message(3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_a_message_over_our_limit_is_disconnected() {
    let mut meeting = Meeting::of_anyone();
    meeting.accept_config.max_message_len = 1000;
    let (dialled, accepted) = meeting.connect().await;
    dialled.send(message(1000, 1)).await.unwrap();
    dialled.send(message(1001, 2)).await.unwrap();
    assert_eq!(recv(&accepted).await, message(1000, 1));
    let error = soon(accepted.recv()).await.unwrap_err();
    assert!(matches!(
        frame_error(&error),
        FrameError::PeerMessageTooLong {
            len: 1001,
            max: 1000
        }
    ));
}

#[tokio::test(start_paused = true)]
async fn messages_before_an_error_in_the_same_record_are_received_first() {
    let mut meeting = Meeting::of_anyone();
    meeting.accept_config.max_message_len = 1000;
    let (dialled, accepted) = meeting.connect().await;
    let valid = [message(1, 1), message(1000, 2)];
    let mut batch: VecDeque<_> = valid.iter().cloned().collect();
    batch.push_back(message(1001, 3));
    dialled.send_many(&mut batch).await.unwrap();
    let mut received = Vec::new();
    assert!(soon(accepted.recv_many(&mut received)).await.unwrap());
    assert_eq!(received, valid);
    let error = soon(accepted.recv_many(&mut received)).await.unwrap_err();
    let error = frame_error(&error);
    assert!(
        matches!(error, FrameError::PeerMessageTooLong { len: 1001, .. }),
        "{error}"
    );
    assert_eq!(received, valid);
}

#[tokio::test(start_paused = true)]
async fn the_longest_and_the_shortest_message_arrive() {
    for suite in SUITES {
        let mut meeting = Meeting::of_anyone();
        meeting.suite = suite;
        let (dialled, accepted) = meeting.connect().await;
        let long: Bytes = (0..16 << 20).map(|i| (i % 251) as u8).collect();
        let mut batch = VecDeque::from([Bytes::new(), long.clone(), Bytes::new()]);
        soon(dialled.send_many(&mut batch)).await.unwrap();
        assert_eq!(recv(&accepted).await, "");
        assert!(recv(&accepted).await == long);
        assert_eq!(recv(&accepted).await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn many_small_messages_take_few_writes_and_few_records() {
    let meeting = Meeting::of_anyone();
    let (dialled, accepted) = meeting.connect().await;
    let (writes, records) = (
        meeting.to_acceptor.writes(),
        meeting.to_acceptor.log().len(),
    );
    let messages: Vec<Bytes> = (0..10_000_u32)
        .map(|i| Bytes::copy_from_slice(&i.to_be_bytes()))
        .collect();
    let mut batch: VecDeque<_> = messages.iter().cloned().collect();
    soon(dialled.send_many(&mut batch)).await.unwrap();
    assert_eq!(meeting.to_acceptor.writes() - writes, 1);
    assert_eq!(meeting.to_acceptor.log().len() - records, 2);
    for message in messages {
        assert_eq!(recv(&accepted).await, message);
    }
}

#[tokio::test(start_paused = true)]
async fn keys_change_after_each_sides_own_number_of_records() {
    for suite in SUITES {
        let mut meeting = Meeting::of_anyone();
        meeting.suite = suite;
        meeting.dial_config.rekey_after_records = 3;
        meeting.accept_config.rekey_after_records = 1;
        let (dialled, accepted) = meeting.connect().await;
        for i in 0..200 {
            dialled.send(message(usize::from(i), i)).await.unwrap();
            accepted.send(message(70_000, i)).await.unwrap();
            assert_eq!(recv(&accepted).await, message(usize::from(i), i));
            assert_eq!(recv(&dialled).await, message(70_000, i));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn equal_messages_differ_on_the_wire() {
    let meeting = Meeting::of_anyone().configure(|config| config.rekey_after_records = 2);
    let (dialled, _accepted) = meeting.connect().await;
    for _ in 0..20 {
        dialled.send(message(32, 0)).await.unwrap();
    }
    let mut log = meeting.to_acceptor.log().split_off(3);
    log.sort_unstable();
    log.dedup();
    assert_eq!(log.len(), 20);
}

/// Lengths of messages: short ones, those that end near the end of a record, and those that span
/// several records.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..300_usize,
        2 => 65_500..65_540_usize,
        1 => 0..200_000_usize,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn all_messages_arrive_in_order(
        batches in prop::collection::vec(prop::collection::vec(lengths(), 0..12), 1..6),
        aes in any::<bool>(),
        lazy in any::<bool>(),
        rekey in 1..9_u64,
    ) {
        let runtime = paused_runtime();
        runtime.block_on(async {
            let mut meeting = Meeting::of_anyone().configure(|c| c.rekey_after_records = rekey);
            meeting.suite = SUITES[usize::from(!aes)];
            if lazy {
                meeting.to_acceptor.make_lazy();
            }
            let (dialled, accepted) = meeting.connect().await;
            let messages: Vec<Vec<Bytes>> = batches
                .iter()
                .enumerate()
                .map(|(i, batch)| batch.iter().map(|len| message(*len, i as u8)).collect())
                .collect();
            let send = async {
                for batch in &messages {
                    let mut batch = batch.iter().cloned().collect();
                    dialled.send_many(&mut batch).await.unwrap();
                    assert!(batch.is_empty());
                }
            };
            let receive = async {
                for message in messages.iter().flatten() {
                    assert!(recv(&accepted).await == *message);
                }
            };
            soon(async { futures::join!(send, receive) }).await;
        });
    }
}
