use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{OfferOutcome, OutgoingQueue};
use crate::rt::Instant;
use crate::transport_layer::{DropReason, OverflowPolicy, QueueConfig};

fn config(max_messages: usize, max_bytes: usize, overflow: OverflowPolicy) -> QueueConfig {
    QueueConfig {
        max_messages,
        max_bytes,
        ttl: Duration::from_secs(30),
        overflow,
    }
}

fn begin(queue: &mut OutgoingQueue, now: Instant) -> VecDeque<Bytes> {
    let mut batch = VecDeque::new();
    queue.begin_batch(&mut batch, now);
    batch
}

/// Ends a batch of which the network has taken all but the last `left` messages.
fn finish(queue: &mut OutgoingQueue, batch: &mut VecDeque<Bytes>, left: usize, now: Instant) {
    batch.drain(..batch.len().saturating_sub(left));
    queue.finish_batch(batch, now);
    assert!(batch.is_empty());
}

fn message(n: u8) -> Bytes {
    Bytes::copy_from_slice(&[n])
}

#[test]
fn messages_that_a_broken_connection_did_not_take_are_sent_first_and_keep_their_expiry() {
    let start = Instant::now();
    let mut queue = OutgoingQueue::new(config(10, 1000, OverflowPolicy::DropOldest), 1000);
    for n in 0..4 {
        queue.offer(message(n), start, None);
    }
    let mut batch = begin(&mut queue, start);
    assert_eq!(batch, [message(0), message(1), message(2), message(3)]);
    assert_eq!(queue.queued(), 4);
    let later = start + Duration::from_secs(20);
    queue.offer(message(4), later, None);
    finish(&mut queue, &mut batch, 3, later);
    assert_eq!(queue.stats().sent, 1);
    let mut batch = begin(&mut queue, later);
    assert_eq!(batch, [message(1), message(2), message(3), message(4)]);
    let later = start + Duration::from_secs(31);
    finish(&mut queue, &mut batch, 4, later);
    assert_eq!(queue.stats().dropped.count(DropReason::Expired), 3);
    assert_eq!(queue.queued(), 1);
}

#[test]
fn a_batch_leaves_messages_that_newer_ones_can_replace() {
    let now = Instant::now();
    let mut queue = OutgoingQueue::new(config(4, 1000, OverflowPolicy::DropOldest), 1000);
    for n in 0..4 {
        queue.offer(message(n), now, None);
    }
    let mut batch = begin(&mut queue, now);
    assert_eq!(batch, [message(0), message(1)]);
    assert_eq!(queue.offer(message(4), now, None), OfferOutcome::Queued);
    finish(&mut queue, &mut batch, 0, now);
    assert_eq!(begin(&mut queue, now), [message(3), message(4)]);
}

#[test]
fn a_full_queue_drops_what_has_expired_before_anything_else() {
    use OverflowPolicy::{Backpressure, DropNewest, DropOldest};
    for overflow in [DropOldest, DropNewest, Backpressure] {
        let start = Instant::now();
        let mut queue = OutgoingQueue::new(config(2, 1000, overflow), 1000);
        queue.offer(message(0), start, None);
        let later = start + Duration::from_secs(30);
        queue.offer(message(1), later, None);
        let offered = queue.offer(message(2), later, None);
        assert_eq!(offered, OfferOutcome::Queued, "{overflow:?}");
        let dropped = queue.stats().dropped;
        assert_eq!(dropped.count(DropReason::Expired), 1, "{overflow:?}");
        assert_eq!(dropped.total(), 1, "{overflow:?}");
    }
}

proptest! {
    #[test]
    fn submitted_is_sent_and_queued_and_dropped_after_any_operation(
        policy in 0..3,
        operations in proptest::collection::vec((0..7, 0..40_usize), 1..200),
    ) {
        let overflow = match policy {
            0 => OverflowPolicy::DropOldest,
            1 => OverflowPolicy::DropNewest,
            _ => OverflowPolicy::Backpressure,
        };
        let mut now = Instant::now();
        let mut queue = OutgoingQueue::new(config(8, 100, overflow), 35);
        let mut offered = 0;
        let mut batch = VecDeque::new();
        for (operation, size) in operations {
            match operation {
                0..=2 => {
                    let offer = queue.offer(Bytes::from(vec![0; size]), now, None);
                    offered += u64::from(!matches!(offer, OfferOutcome::Full(_)));
                }
                3 if batch.is_empty() => {
                    queue.begin_batch(&mut batch, now);
                }
                3 | 4 => finish(&mut queue, &mut batch, size, now),
                5 => if let Ok(direct) = queue.begin_direct(Bytes::from(vec![0; size])) {
                    offered += 1;
                    batch = direct;
                }
                _ => {
                    now += Duration::from_secs(size as u64);
                    queue.purge(now);
                }
            }
            let stats = queue.stats();
            prop_assert_eq!(stats.submitted, offered);
            prop_assert_eq!(stats.submitted, stats.sent + stats.queued + stats.dropped.total());
            prop_assert!(stats.queued <= 8 && stats.queued_bytes <= 100);
        }
        queue.drop_all(DropReason::Closed);
        let stats = queue.stats();
        prop_assert_eq!((stats.queued, stats.queued_bytes), (0, 0));
        prop_assert_eq!(stats.submitted, stats.sent + stats.dropped.total());
    }
}

#[test]
fn a_batch_is_bounded_and_never_empty_while_a_message_waits() {
    const LARGE: usize = 100 << 10;
    // The bounds of the queue, the lengths of its messages, and how many make up the first batch.
    let cases: [(&str, usize, usize, &[usize], usize); 6] = [
        ("half of the messages", 10, 1000, &[1; 10], 5),
        ("half of the bytes", 10, 100, &[20, 20, 20, 20], 2),
        (
            "a message of more than half the bytes",
            10,
            100,
            &[80, 1],
            1,
        ),
        ("a queue of one message", 1, 100, &[100], 1),
        ("the bytes of a batch", 100, 10 << 20, &[LARGE; 5], 2),
        (
            "the messages of a batch",
            10_000,
            10 << 20,
            &[1; 5000],
            1024,
        ),
    ];
    let now = Instant::now();
    for (what, max_messages, max_bytes, lens, expected) in cases {
        let config = config(max_messages, max_bytes, OverflowPolicy::DropNewest);
        let mut queue = OutgoingQueue::new(config, usize::MAX);
        for len in lens {
            assert_eq!(
                queue.offer(vec![0; *len].into(), now, None),
                OfferOutcome::Queued
            );
        }
        assert_eq!(begin(&mut queue, now).len(), expected, "{what}");
    }
}

#[test]
fn a_message_that_is_too_long_and_no_other_is_dropped_by_every_way_in() {
    let now = Instant::now();
    let overflow = OverflowPolicy::Backpressure;
    // Longer than the bytes of the queue, and than the network allows.
    for (max_bytes, max_message_len) in [(5, 1000), (1000, 5)] {
        let mut queue = OutgoingQueue::new(config(10, max_bytes, overflow), max_message_len);
        let long = Bytes::from_static(b"longer");
        assert_eq!(queue.offer_if_room(long.clone(), now), Err(long.clone()));
        assert_eq!(queue.begin_direct(long.clone()), Err(long.clone()));
        let dropped = OfferOutcome::Dropped(DropReason::TooLarge);
        assert_eq!(queue.offer(long, now, None), dropped);
        // The longest one that may be sent.
        let mut batch = queue.begin_direct(Bytes::from_static(b"short")).unwrap();
        finish(&mut queue, &mut batch, 0, now);
        assert_eq!(
            queue.offer_if_room(Bytes::from_static(b"short"), now),
            Ok(())
        );
    }
}

#[test]
fn a_newcomer_waits_behind_a_sender_that_came_first_though_there_is_room() {
    let now = Instant::now();
    let mut queue = OutgoingQueue::new(config(1, 100, OverflowPolicy::Backpressure), 100);
    queue.offer(message(0), now, None);
    let (mut first, waker) = (None, Waker::noop());
    assert!(matches!(
        queue.offer(message(1), now, first),
        OfferOutcome::Full(_)
    ));
    queue.senders.join(&mut first, waker);
    let later = now + Duration::from_secs(30);
    queue.purge(later);
    assert_eq!(queue.queued(), 0, "a message expires when its time is over");
    assert!(queue.offer_if_room(message(2), later).is_err());
    assert!(queue.begin_direct(message(2)).is_err());
    assert!(matches!(
        queue.offer(message(2), later, None),
        OfferOutcome::Full(_)
    ));
    assert_eq!(queue.offer(message(1), later, first), OfferOutcome::Queued);
}

#[test]
fn bytes_that_the_network_has_taken_are_counted() {
    let now = Instant::now();
    let mut queue = OutgoingQueue::new(config(10, 1000, OverflowPolicy::DropOldest), 1000);
    for _ in 0..3 {
        queue.offer(Bytes::from_static(&[0; 20]), now, None);
    }
    for (left, sent) in [(1, 2), (1, 2), (0, 3)] {
        let mut batch = begin(&mut queue, now);
        finish(&mut queue, &mut batch, left, now);
        let stats = queue.stats();
        assert_eq!((stats.sent, stats.sent_bytes), (sent, sent * 20));
        assert_eq!(
            (stats.queued, stats.queued_bytes),
            (3 - sent, (3 - sent) * 20)
        );
    }
}

#[test]
fn messages_that_move_to_a_full_queue_replace_older_ones_or_are_dropped_by_its_policy() {
    let now = Instant::now();
    for (overflow, kept) in [
        (OverflowPolicy::DropOldest, [1, 2]),
        (OverflowPolicy::DropNewest, [0, 1]),
        (OverflowPolicy::Backpressure, [0, 1]),
    ] {
        let mut queue = OutgoingQueue::new(config(2, 1000, overflow), 1000);
        let mut other = OutgoingQueue::new(config(2, 1000, overflow), 1000);
        for n in 0..2 {
            queue.offer(message(n), now, None);
        }
        other.offer(message(2), now, None);
        queue.absorb(&mut other);
        let stats = queue.stats();
        assert_eq!(
            (stats.submitted, stats.dropped.count(DropReason::Overflow)),
            (3, 1)
        );
        let mut batch = VecDeque::new();
        while queue.queued() > 0 {
            let mut next = begin(&mut queue, now);
            batch.extend(next.iter().cloned());
            finish(&mut queue, &mut next, 0, now);
        }
        assert_eq!(batch, kept.map(message));
    }
}
