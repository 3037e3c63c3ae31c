//! The life of channels between two ends that follow the rules.

use super::*;

#[test]
fn a_channel_is_opened_carries_frames_both_ways_and_is_ended_at_both_ends() {
    let mut pair = Pair::new(&ChannelConfig::default());
    let request = Bytes::from_static(b"request");
    let number = pair.dialler.channels.open(request.clone()).unwrap();
    assert_eq!(number.get(), 1);
    pair.run();
    let requested = ChannelEvent::Requested { number, request };
    assert_eq!(pair.acceptor.events(), [requested]);
    let answer = Bytes::from_static(b"answer");
    pair.acceptor
        .channels
        .accept(number, answer.clone())
        .unwrap();
    // The one that accepts may send behind its answer.
    pair.acceptor.channels.send(number, frame(3, 1)).unwrap();
    pair.run();
    let opened = ChannelEvent::Opened { number, answer };
    assert_eq!(
        pair.dialler.events(),
        [opened, ChannelEvent::Readable { number }]
    );
    for (len, byte) in [(MAX_FRAME_LEN, 2), (0, 3)] {
        pair.dialler
            .channels
            .send(number, frame(len, byte))
            .unwrap();
    }
    pair.run();
    assert_eq!(pair.acceptor.events(), [ChannelEvent::Readable { number }]);
    let taken = pair.acceptor.take_all(number);
    assert_eq!(taken, [frame(MAX_FRAME_LEN, 2), frame(0, 3)]);
    assert_eq!(pair.dialler.take_all(number), [frame(3, 1)]);
    pair.acceptor.channels.finish(number, ChannelCode::IDLE);
    pair.run();
    pair.acceptor
        .assert_ended(number, ChannelEnd::Local(ChannelCode::IDLE));
    pair.dialler
        .assert_ended(number, ChannelEnd::Remote(ChannelCode::IDLE));
    assert!(pair.dialler.channels.is_empty() && pair.acceptor.channels.is_empty());
    let second = pair.dialler.channels.open(Bytes::new()).unwrap();
    assert_eq!(
        second.get(),
        3,
        "the number of a channel that is over was used again"
    );
    let theirs = pair.acceptor.channels.open(Bytes::new()).unwrap();
    assert_eq!(theirs.get(), 2);
}

#[test]
fn a_frame_never_overtakes_the_answer_that_opens_its_channel() {
    let mut pair = Pair::new(&ChannelConfig::default());
    for _ in 0..2 {
        pair.dialler.channels.open(Bytes::new()).unwrap();
    }
    pair.run();
    let channels = &mut pair.acceptor.channels;
    channels.accept(number(1), Bytes::new()).unwrap();
    // The second answer is due, and the last record was one with control messages.
    assert!(matches!(channels.next_turn(false), Some(Turn::Control(_))));
    channels.accept(number(3), Bytes::new()).unwrap();
    channels.send(number(3), frame(1, 1)).unwrap();
    assert!(matches!(channels.next_turn(false), Some(Turn::Control(_))));
    assert!(matches!(
        channels.next_turn(false),
        Some(Turn::Frame { .. })
    ));
}

#[test]
fn a_refused_channel_is_over_at_both_ends() {
    let mut pair = Pair::new(&ChannelConfig::default());
    let number = pair.dialler.channels.open(Bytes::new()).unwrap();
    pair.run();
    pair.acceptor.events();
    pair.acceptor.channels.refuse(number, ChannelCode::REFUSED);
    pair.acceptor.channels.refuse(number, ChannelCode::NORMAL);
    let accepted = pair.acceptor.channels.accept(number, Bytes::new());
    assert_eq!(accepted, Err(SendError::NotOpen { number }));
    pair.run();
    pair.acceptor
        .assert_ended(number, ChannelEnd::Local(ChannelCode::REFUSED));
    pair.dialler
        .assert_ended(number, ChannelEnd::Refused(ChannelCode::REFUSED));
    assert_eq!(
        pair.dialler.channels.len() + pair.acceptor.channels.len(),
        0
    );
    assert_eq!(pair.acceptor.channels.stats().refused, 1);
    assert_eq!(pair.dialler.channels.stats().refused_by_peer, 1);
}

#[test]
fn ends_that_cross_each_other_or_the_answer_leave_nothing_behind() {
    let code = ChannelCode::GOING_AWAY;
    // Both at once.
    let mut pair = Pair::new(&ChannelConfig::default());
    let number = pair.open();
    for end in [&mut pair.dialler, &mut pair.acceptor] {
        end.channels.send(number, frame(10, 1)).unwrap();
        end.channels.abort(number, code);
        end.channels.abort(number, ChannelCode::IDLE);
        end.assert_ended(number, ChannelEnd::Local(code));
    }
    pair.run();
    // Before the request is sent.
    let second = pair.dialler.channels.open(Bytes::new()).unwrap();
    pair.dialler.channels.abort(second, code);
    pair.run();
    // Before the answer, which is a refusal, or an acceptance.
    for accepts in [false, true] {
        let number = pair.dialler.channels.open(Bytes::new()).unwrap();
        pair.dialler.write();
        while let Some(item) = pair.dialler.written.pop_front() {
            pair.acceptor.arrive(item).unwrap();
        }
        pair.dialler.channels.abort(number, code);
        if accepts {
            pair.acceptor.channels.accept(number, Bytes::new()).unwrap();
        } else {
            pair.acceptor.channels.refuse(number, ChannelCode::REFUSED);
        }
        pair.run();
    }
    let ends = |end: &mut End| {
        let events = end.events();
        let is_end = |event: &&ChannelEvent| matches!(event, ChannelEvent::Ended { .. });
        events.iter().filter(is_end).count()
    };
    assert_eq!((ends(&mut pair.dialler), ends(&mut pair.acceptor)), (3, 3));
    assert_eq!(
        pair.dialler.channels.len() + pair.acceptor.channels.len(),
        0
    );
    pair.open();
}

#[test]
fn finishing_sends_what_waits_and_aborting_drops_it() {
    for (aborts, arrive) in [(false, 4), (true, 0)] {
        let mut pair = Pair::new(&ChannelConfig::default());
        let number = pair.open();
        // The window is two of these frames, so the end waits until the peer has read some.
        for byte in 0..3 {
            let frame = frame(MAX_FRAME_LEN, byte);
            pair.dialler.channels.send(number, frame).unwrap();
        }
        pair.dialler.channels.send(number, frame(1, 3)).unwrap();
        pair.acceptor.channels.send(number, frame(7, 7)).unwrap();
        if aborts {
            pair.dialler.channels.abort(number, ChannelCode::NORMAL);
        } else {
            pair.dialler.channels.finish(number, ChannelCode::NORMAL);
            let sent = pair.dialler.channels.send(number, frame(1, 4));
            assert_eq!(sent, Err(SendError::NotOpen { number }));
        }
        let mut taken = Vec::new();
        for _ in 0..4 {
            pair.run();
            taken.extend(pair.acceptor.take_all(number));
        }
        assert_eq!(taken.len(), arrive);
        assert!(taken.iter().zip(0..).all(|(frame, byte)| frame[0] == byte));
        let remote = ChannelEnd::Remote(ChannelCode::NORMAL);
        let last = pair.acceptor.events().pop().unwrap();
        assert_eq!(
            last,
            ChannelEvent::Ended {
                number,
                end: remote
            }
        );
        pair.dialler
            .assert_ended(number, ChannelEnd::Local(ChannelCode::NORMAL));
        assert_eq!(pair.dialler.channels.stats().late_dropped, 1);
        let dropped = pair.dialler.channels.stats().unsent_dropped;
        assert_eq!(dropped, 4 - arrive as u64);
    }
}

#[test]
fn two_ends_that_finish_at_the_same_time_do_not_wait_for_each_other() {
    let mut pair = Pair::new(&ChannelConfig::default());
    let number = pair.open();
    for end in [&mut pair.dialler, &mut pair.acceptor] {
        while (end.channels).send(number, frame(MAX_FRAME_LEN, 1)).is_ok() {}
        end.channels.finish(number, ChannelCode::NORMAL);
    }
    pair.run();
    assert_eq!(
        pair.dialler.channels.len() + pair.acceptor.channels.len(),
        0
    );
}

#[test]
fn a_channel_that_the_peer_has_ended_is_over_once_everything_was_taken() {
    let mut pair = Pair::new(&ChannelConfig::default());
    let number = pair.open();
    for byte in 0..2 {
        pair.dialler.channels.send(number, frame(5, byte)).unwrap();
    }
    pair.dialler.channels.finish(number, ChannelCode::NORMAL);
    pair.run();
    assert_eq!(pair.acceptor.events(), [ChannelEvent::Readable { number }]);
    assert_eq!(
        pair.dialler.channels.len(),
        1,
        "its place is free too early"
    );
    assert_eq!(pair.acceptor.channels.receive(number).unwrap(), frame(5, 0));
    assert_eq!(pair.acceptor.events(), []);
    assert_eq!(pair.acceptor.channels.receive(number).unwrap(), frame(5, 1));
    pair.acceptor
        .assert_ended(number, ChannelEnd::Remote(ChannelCode::NORMAL));
    pair.run();
    assert_eq!(
        pair.dialler.channels.len() + pair.acceptor.channels.len(),
        0
    );
}

#[test]
fn frames_that_have_arrived_outlive_the_carrier() {
    let mut pair = Pair::new(&ChannelConfig::default());
    let (read, silent) = (pair.open(), pair.open());
    pair.dialler.channels.send(read, frame(5, 1)).unwrap();
    pair.run();
    pair.acceptor.events();
    pair.acceptor.channels.send(silent, frame(5, 1)).unwrap();
    pair.acceptor.channels.end();
    pair.acceptor.channels.end();
    check(&pair.acceptor.channels);
    pair.acceptor.assert_ended(silent, ChannelEnd::CarrierEnded);
    let sent = pair.acceptor.channels.send(read, frame(1, 1));
    assert_eq!(sent, Err(SendError::NotOpen { number: read }));
    let opened = pair.acceptor.channels.open(Bytes::new());
    assert_eq!(opened, Err(OpenError::CarrierEnded));
    assert_eq!(pair.acceptor.channels.next_turn(false), None);
    assert_eq!(pair.acceptor.take_all(read), [frame(5, 1)]);
    pair.acceptor.assert_ended(read, ChannelEnd::CarrierEnded);
    assert!(pair.acceptor.channels.is_empty());
    check(&pair.acceptor.channels);
}

#[test]
fn a_side_that_has_used_all_its_numbers_opens_no_more() {
    let mut pair = Pair::new(&ChannelConfig::default());
    pair.dialler.channels.our_numbers.skip_to_last(2);
    pair.acceptor.channels.their_numbers.skip_to_last(2);
    assert_eq!(pair.open(), number(u32::MAX - 2));
    let last = pair.open();
    assert_eq!(last, number(u32::MAX));
    let opened = pair.dialler.channels.open(Bytes::new());
    assert_eq!(opened, Err(OpenError::Exhausted));
    pair.dialler.channels.send(last, frame(1, 1)).unwrap();
    pair.run();
    assert_eq!(pair.acceptor.take_all(last).len(), 1);
    // The other half is as it was.
    assert_eq!(pair.acceptor.channels.open(Bytes::new()), Ok(number(2)));
}

#[test]
fn channels_beyond_a_limit_are_not_opened_until_others_are_over() {
    let config = ChannelConfig::default().with_max_channels(2);
    let mut pair = Pair::new(&config);
    let first = pair.open();
    pair.open();
    let opened = pair.dialler.channels.open(Bytes::new());
    assert_eq!(opened, Err(OpenError::TooMany { max: 2 }));
    pair.acceptor.channels.open(Bytes::new()).unwrap();
    pair.dialler.channels.abort(first, ChannelCode::NORMAL);
    let opened = pair.dialler.channels.open(Bytes::new());
    assert_eq!(
        opened,
        Err(OpenError::TooMany { max: 2 }),
        "the peer does not know"
    );
    pair.run();
    pair.open();
}

#[test]
fn a_channel_without_memory_is_refused_by_the_side_that_lacks_it() {
    for (config, ours) in [
        (
            ChannelConfig::default().with_max_unread_bytes(SMALLEST_WINDOW),
            true,
        ),
        (
            ChannelConfig::default().with_max_unsent_bytes(MAX_COST as usize),
            true,
        ),
        (
            ChannelConfig::default().with_max_unread_bytes(SMALLEST_WINDOW),
            false,
        ),
    ] {
        let mut pair = Pair::new(&config);
        if !ours {
            pair.dialler = End::new(Side::Dialler, &ChannelConfig::default());
        }
        let first = pair.open();
        let second = pair.dialler.channels.open(Bytes::new());
        if ours {
            assert_eq!(second, Err(OpenError::NoRoom));
        } else {
            pair.run();
            let end = ChannelEnd::Refused(ChannelCode::NO_ROOM);
            pair.dialler.assert_ended(second.unwrap(), end);
            assert_eq!(pair.acceptor.events(), []);
            assert_eq!(pair.acceptor.channels.stats().refused_no_room, 1);
        }
        pair.dialler.channels.abort(first, ChannelCode::NORMAL);
        pair.run();
        pair.open();
    }
}

#[test]
fn a_window_grows_while_the_reader_keeps_up_and_never_beyond_its_maximum() {
    let config = ChannelConfig::default().with_max_unsent_per_channel(1 << 20);
    let mut pair = Pair::new(&config);
    let (fast, slow) = (pair.open(), pair.open());
    let mut most = 0;
    for _ in 0..40 {
        for number in [fast, slow] {
            while pair
                .dialler
                .channels
                .send(number, frame(MAX_FRAME_LEN, 0))
                .is_ok()
            {}
        }
        pair.run();
        let taken = pair.acceptor.take_all(fast);
        most = most.max(taken.len());
        pair.acceptor.channels.receive(slow).unwrap();
        pair.run();
    }
    assert!(most >= 14, "at most {most} frames were in the window");
    let window = |number| pair.acceptor.channels.entries[&number].incoming.window() as usize;
    assert_eq!(window(fast), config.max_window);
    assert_eq!(window(slow), config.initial_window);
}

#[test]
fn requests_answers_and_frames_that_are_too_long_change_nothing() {
    let mut pair = Pair::new(&ChannelConfig::default());
    let number = pair.open();
    let (long, len) = (frame(513, 0), 513);
    let opened = pair.dialler.channels.open(long.clone());
    assert_eq!(opened, Err(OpenError::TooLong { len, max: 512 }));
    let accepted = pair.acceptor.channels.accept(number, long);
    assert_eq!(accepted, Err(SendError::TooLong { len, max: 512 }));
    let len = MAX_FRAME_LEN + 1;
    let sent = pair.dialler.channels.send(number, frame(len, 0));
    let max = MAX_FRAME_LEN;
    assert_eq!(sent, Err(SendError::TooLong { len, max }));
    assert_eq!(pair.dialler.channels.open(frame(512, 0)).unwrap().get(), 3);
    pair.run();
    assert_eq!(pair.acceptor.events().len(), 1);
    pair.acceptor
        .channels
        .accept(ChannelNumber(3), frame(512, 0))
        .unwrap();
    pair.run();
    assert_eq!(pair.dialler.events().len(), 1);
}
