//! Cancel-safety: a future that is dropped half-way loses no message and repeats none.

use std::collections::VecDeque;

use bytes::Bytes;
use gossip_transport::net::NetConnection;

use super::common::*;
use crate::support::soon;

fn messages() -> Vec<Bytes> {
    let mut random = fastrand::Rng::with_seed(3);
    (0..60_u8)
        .map(|i| {
            let len = match i % 10 {
                9 => random.usize(60_000..400_000),
                _ => random.usize(..2000),
            };
            vec![i; len].into()
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_dropped_send_leaves_each_message_in_the_batch_or_sends_it_whole_later() {
    let meeting = Meeting::of_anyone();
    let (dialled, accepted) = meeting.connect().await;
    let mut random = fastrand::Rng::with_seed(5);
    let messages = messages();
    let mut left: VecDeque<Bytes> = messages.iter().cloned().collect();
    let mut batch = VecDeque::new();
    meeting.to_acceptor.make_lazy();
    let mut drops = 0;
    loop {
        let more = random.usize(1..5).min(left.len());
        batch.extend(left.drain(..more));
        meeting.to_acceptor.stall_after(random.usize(..50_000));
        match poll_once(dialled.send_many(&mut batch)).await {
            Some(sent) => sent.unwrap(),
            None => drops += 1,
        }
        if left.is_empty() && batch.is_empty() {
            break;
        }
    }
    assert!(drops > 20, "{drops}");
    meeting.to_acceptor.unstall();
    // The next call of any kind writes the sealed bytes that the dropped one left.
    soon(dialled.keepalive()).await.unwrap();
    soon(dialled.send_many(&mut batch)).await.unwrap();
    for message in messages {
        assert!(recv(&accepted).await == message);
    }
    assert!(poll_once(accepted.recv()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_recv_loses_no_message() {
    let meeting = Meeting::of_anyone();
    let (dialled, accepted) = meeting.connect().await;
    meeting.to_acceptor.make_lazy();
    let messages = messages();
    let mut batch: VecDeque<Bytes> = messages.iter().cloned().collect();
    let mut received = Vec::new();
    let mut drops = 0;
    let receive = async {
        while received.len() < messages.len() {
            match poll_once(accepted.recv()).await {
                Some(message) => received.push(message.unwrap().unwrap()),
                None => drops += 1,
            }
            tokio::task::yield_now().await;
        }
    };
    let (sent, ()) = soon(async { futures::join!(dialled.send_many(&mut batch), receive) }).await;
    sent.unwrap();
    assert!(received == messages);
    assert!(drops > 20, "{drops}");
}

#[tokio::test(start_paused = true)]
async fn the_next_send_flushes_what_a_dropped_one_has_handed_to_the_carrier() {
    let meeting = Meeting::of_anyone();
    let (dialled, accepted) = meeting.connect().await;
    meeting.to_acceptor.buffer();
    let mut batch = VecDeque::from([Bytes::from_static(b"message")]);
    assert!(poll_once(dialled.send_many(&mut batch)).await.is_none());
    assert!(batch.is_empty());
    meeting.to_acceptor.flush();
    soon(dialled.send_many(&mut batch)).await.unwrap();
    assert_eq!(recv(&accepted).await, "message");
}
