use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use futures::FutureExt as _;
use proptest::prelude::*;

use super::IncomingQueue;
use crate::transport_layer::{IncomingConfig, OverflowPolicy, PeerStats};

fn peer(n: u8) -> SocketAddr {
    ([10, 0, 0, n], 7000).into()
}

fn queue(overflow: OverflowPolicy) -> IncomingQueue<usize> {
    IncomingQueue::new(IncomingConfig {
        max_messages_per_peer: 4,
        max_bytes_per_peer: 60,
        max_messages: 9,
        max_bytes: 120,
        overflow,
    })
}

fn try_push<M>(
    queue: &IncomingQueue<M>,
    from: SocketAddr,
    message: M,
    len: usize,
) -> Result<(), M> {
    let mut messages = VecDeque::from([(message, len)]);
    queue.try_push_many(from, &mut messages);
    messages
        .pop_front()
        .map_or(Ok(()), |(message, _)| Err(message))
}

#[test]
fn a_reader_that_gives_up_hands_its_turn_on() {
    let queue = queue(OverflowPolicy::Backpressure);
    for n in 0..4 {
        try_push(&queue, peer(1), n, 1).unwrap();
    }
    let mut first = Box::pin(queue.push(peer(1), 4, 1));
    let mut second = Box::pin(queue.push(peer(1), 5, 1));
    assert!((&mut first).now_or_never().is_none());
    assert!((&mut second).now_or_never().is_none());
    assert_eq!(queue.recv().now_or_never().unwrap(), Ok((peer(1), 0)));
    // Whoever came first goes first.
    assert!((&mut second).now_or_never().is_none());
    assert!(try_push(&queue, peer(1), 6, 1).is_err());
    drop(first);
    assert!((&mut second).now_or_never().is_some());
}

#[test]
fn an_emptied_queue_serves_the_next_peer_and_replaces_nothing() {
    let queue = IncomingQueue::new(IncomingConfig::default());
    (1..=9).for_each(|n| queue.remember(peer(n)));
    let push = |from, range: std::ops::Range<usize>| {
        let mut messages = range.map(|n| (n, 1)).collect();
        queue.try_push_many(from, &mut messages);
        assert!(messages.is_empty());
    };
    let drain = || {
        let received = std::iter::from_fn(|| queue.recv().now_or_never()?.ok());
        received.collect::<Vec<_>>()
    };
    // Grown by a burst, and handed back.
    push(peer(1), 0..500);
    assert_eq!(drain().len(), 500);
    assert_eq!(queue.lock().spare.len(), 1);
    assert_eq!(queue.lock().peers[&peer(1)].messages.capacity(), 0);
    // More than there is room for, behind what waits already.
    push(peer(2), 0..3);
    push(peer(2), 3..400);
    assert_eq!(queue.lock().spare.len(), 1);
    push(peer(3), 0..400);
    assert_eq!(queue.lock().spare.len(), 0);
    let received = drain();
    for from in [peer(2), peer(3)] {
        let own = received.iter().filter(|(addr, _)| *addr == from);
        assert!(own.map(|(_, n)| *n).eq(0..400));
    }
    // No more is kept than a few.
    for n in 1..=9 {
        push(peer(n), 0..100);
    }
    drain();
    assert_eq!(queue.lock().spare.len(), super::state::SPARE_QUEUES);
}

proptest! {
    #[test]
    fn received_is_delivered_and_queued_and_dropped_after_any_operation(
        policy in 0..3,
        operations in proptest::collection::vec((0..8, 0..6_u8, 0..70_usize), 1..300),
    ) {
        let overflow = match policy {
            0 => OverflowPolicy::DropOldest,
            1 => OverflowPolicy::DropNewest,
            _ => OverflowPolicy::Backpressure,
        };
        let queue = queue(overflow);
        let mut received = 0;
        let mut last = BTreeMap::new();
        for (index, (operation, from, len)) in operations.into_iter().enumerate() {
            match operation {
                0..=2 => {
                    let pushed = try_push(&queue, peer(from), index, len);
                    received += u64::from(pushed.is_ok());
                }
                3 => {
                    // Of several at once, some may fit.
                    let mut messages: VecDeque<_> = (0..3).map(|_| (index, len / 3)).collect();
                    queue.try_push_many(peer(from), &mut messages);
                    prop_assert!(messages.is_empty() || overflow == OverflowPolicy::Backpressure);
                    received += 3 - messages.len() as u64;
                }
                4 => {
                    queue.count_undecodable(peer(from), len);
                    received += 1;
                }
                5 => queue.remember(peer(from)),
                6 => queue.forget(peer(from)),
                _ => if let Some(Ok((from, taken))) = queue.recv().now_or_never() {
                    prop_assert!(last.insert(from, taken).is_none_or(|last| last <= taken));
                }
            }
            let (mut total, mut peers) = (PeerStats::default(), BTreeMap::new());
            queue.stats(&mut total, &mut peers);
            for one in peers.values() {
                prop_assert_eq!(
                    one.received,
                    one.delivered + one.incoming_queued + one.incoming_dropped.total()
                );
                prop_assert!(one.incoming_queued <= 4);
                total.merge(one);
            }
            prop_assert_eq!(total.received, received);
            prop_assert!(total.incoming_queued <= 9);
            let state = queue.lock();
            prop_assert_eq!(state.messages as u64, total.incoming_queued);
            prop_assert!(state.bytes <= 120);
            prop_assert!(state.turns.len() <= state.peers.len());
            // Nothing is kept for a peer that is unknown and has nothing here.
            prop_assert!(state.peers.values().all(|one| one.known || !one.messages.is_empty()));
        }
    }
}
