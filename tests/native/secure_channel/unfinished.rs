//! Messages that arrive in part: how long they may take, and what they cost together.

use std::time::Duration;

use bytes::Bytes;
use gossip_transport::net::NetConnection;
use gossip_transport::secure::{FrameError, ReceiveMemory};

use super::common::*;
use crate::support::soon;

const LEN: usize = 200_000;
/// Bytes of a message in its first record, and in each further one that is full.
const FIRST: usize = 65_519 - 4;
const FURTHER: usize = 65_519;
const TIME: Duration = Duration::from_secs(2);

/// Sends a message of [`LEN`] bytes, of which only the first `records` arrive.
async fn send_in_part(meeting: &Meeting, dialled: &Connection, records: usize) {
    meeting.to_acceptor.hold();
    dialled.send(Bytes::from(vec![7; LEN])).await.unwrap();
    meeting.to_acceptor.edit(|frames| frames.truncate(records));
    meeting.to_acceptor.release();
}

#[tokio::test(start_paused = true)]
async fn a_message_of_which_no_more_arrives_ends_its_connection() {
    let meeting = Meeting::of_anyone().configure(|config| config.partial_timeout = TIME);
    let (dialled, accepted) = meeting.connect().await;
    send_in_part(&meeting, &dialled, 2).await;
    let began = tokio::time::Instant::now();
    let error = soon(accepted.recv()).await.unwrap_err();
    let FrameError::PartialTimeout {
        received,
        len,
        after,
    } = frame_error(&error)
    else {
        panic!("{error}");
    };
    assert_eq!((*received, *len, *after), (FIRST + FURTHER, LEN, TIME));
    assert!(began.elapsed() >= TIME && began.elapsed() < 2 * TIME);
}

#[tokio::test(start_paused = true)]
async fn the_identity_with_the_most_of_unfinished_messages_is_woken_and_disconnected() {
    let memory = ReceiveMemory::new(300_000, TIME, 0);
    let mut meetings = [Meeting::of_anyone(), Meeting::of_anyone()];
    for meeting in &mut meetings {
        meeting.accept_memory = Some(memory.clone());
    }
    let [first, second] = &meetings;
    let (of_first, victim) = first.connect().await;
    let (of_second, other) = second.connect().await;
    send_in_part(first, &of_first, 2).await;
    let waiting = tokio::spawn(async move { victim.recv().await });
    tokio::time::sleep(TIME / 10).await;

    send_in_part(second, &of_second, 1).await;
    let mut receiving = std::pin::pin!(other.recv());
    assert!(poll_once(receiving.as_mut()).await.is_none());
    let began = tokio::time::Instant::now();
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert!(began.elapsed() < TIME / 2, "it was not woken");
    assert!(
        matches!(
            frame_error(&error),
            FrameError::PartialEvicted { max: 300_000 }
        ),
        "{error}"
    );
    assert_eq!(memory.stats().evicted, 1);
    assert_eq!(memory.stats().bytes, 2 * FIRST as u64);
}
