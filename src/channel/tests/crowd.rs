//! Many channels on one carrier: none delays another.

use super::*;

/// Opens channels from the dialler.
fn open_many(pair: &mut Pair, count: usize) -> Vec<ChannelNumber> {
    let open = |_| pair.dialler.channels.open(Bytes::new()).unwrap();
    let numbers: Vec<_> = (0..count).map(open).collect();
    pair.run();
    for number in &numbers {
        pair.acceptor
            .channels
            .accept(*number, Bytes::new())
            .unwrap();
    }
    pair.run();
    pair.dialler.events();
    pair.acceptor.events();
    numbers
}

/// Sends frames on 100 channels, of which the first is read only if `reads_all`, until each other one has received 200 of the
/// longest. Returns the number of frames that the carrier had to carry, and the number of frames of the first channel.
fn run_hundred(reads_all: bool) -> (usize, usize) {
    let mut pair = Pair::new(&ChannelConfig::default());
    let numbers = open_many(&mut pair, 100);
    let mut received = vec![0; 100];
    let mut next_byte = vec![(0_u8, 0_u8); 100];
    let (mut carried, mut of_first) = (0, 0);
    let mut rounds = 0;
    while received[1..].iter().any(|frames| *frames < 200) {
        rounds += 1;
        assert!(rounds < 2000, "the channels do not go on");
        for (number, (byte, _)) in numbers.iter().zip(&mut next_byte) {
            let channels = &mut pair.dialler.channels;
            while channels.send(*number, frame(MAX_FRAME_LEN, *byte)).is_ok() {
                *byte = byte.wrapping_add(1);
            }
        }
        // The carrier takes 32 frames at a time.
        for _ in 0..32 {
            pair.dialler.write();
        }
        while let Some(item) = pair.dialler.written.pop_front() {
            if let Item::Frame(number, _) = &item {
                carried += 1;
                of_first += usize::from(*number == numbers[0]);
            }
            pair.acceptor.arrive(item).unwrap();
        }
        for (i, number) in numbers.iter().enumerate() {
            if i == 0 && !reads_all {
                continue;
            }
            for frame in pair.acceptor.take_all(*number) {
                let byte = &mut next_byte[i].1;
                assert_eq!(frame[0], *byte, "out of order");
                *byte = byte.wrapping_add(1);
                received[i] += 1;
            }
        }
        pair.acceptor.write();
        while let Some(item) = pair.acceptor.written.pop_front() {
            pair.dialler.arrive(item).unwrap();
        }
        let (least, most) = (received[1..].iter().min(), received[1..].iter().max());
        assert!(most.unwrap() - least.unwrap() <= 3, "{received:?}");
    }
    if !reads_all {
        assert_eq!(received[0], 0);
        // It has arrived within the window, and is in order.
        let first = pair.acceptor.take_all(numbers[0]);
        assert_eq!(first.len(), of_first);
        assert!(first.iter().zip(0..).all(|(frame, byte)| frame[0] == byte));
        // Once it is read, it goes on.
        pair.run();
        assert_eq!(pair.acceptor.take_all(numbers[0])[0][0], 2);
    }
    (carried, of_first)
}

#[test]
fn a_channel_that_is_never_read_costs_99_others_nothing() {
    let (carried, of_first) = run_hundred(false);
    assert_eq!(of_first, 2, "the window is two frames");
    let (all_carried, of_first_of_all) = run_hundred(true);
    assert!(of_first_of_all >= 200);
    // Nothing but its window was carried in vain, and the frames of the others are as many as when it is read.
    let others = carried - of_first;
    let others_of_all = all_carried - of_first_of_all;
    assert!(
        others.abs_diff(others_of_all) <= 99,
        "{others} {others_of_all}"
    );
}

#[test]
fn channels_that_nobody_reads_leave_room_to_send_for_all_others() {
    // Room for one frame of each channel, and for two more.
    let config = ChannelConfig::default().with_max_unsent_bytes(102 * MAX_COST as usize);
    let mut pair = Pair::new(&config);
    let numbers = open_many(&mut pair, 100);
    for _ in 0..10 {
        for number in &numbers[1..] {
            let _ = pair.dialler.channels.send(*number, frame(MAX_FRAME_LEN, 1));
        }
        pair.run();
    }
    let first = numbers[0];
    for _ in 0..100 {
        pair.dialler
            .channels
            .send(first, frame(MAX_FRAME_LEN, 2))
            .unwrap();
        pair.run();
        assert_eq!(pair.acceptor.take_all(first).len(), 1);
    }
    assert!(pair.dialler.channels.stats().send_full > 0);
}

#[test]
fn channel_zero_waits_for_one_frame_at_most_and_starves_nobody() {
    let mut pair = Pair::new(&ChannelConfig::default());
    let numbers = open_many(&mut pair, 100);
    let mut turns = String::new();
    for step in 0..3000 {
        for number in &numbers {
            let _ = pair.dialler.channels.send(*number, frame(MAX_FRAME_LEN, 1));
            pair.acceptor.take_all(*number);
        }
        // Channel 0 of the dialler always has messages.
        match pair.dialler.channels.next_turn(true).unwrap() {
            Turn::Zero => turns.push('0'),
            Turn::Control(messages) => {
                turns.push('c');
                pair.acceptor.arrive(Item::Control(messages)).unwrap();
            }
            Turn::Frame { number, frame } => {
                turns.push('f');
                pair.acceptor.arrive(Item::Frame(number, frame)).unwrap();
            }
        }
        if step % 2 == 0 {
            pair.acceptor.write();
            while let Some(item) = pair.acceptor.written.pop_front() {
                pair.dialler.arrive(item).unwrap();
            }
        }
    }
    assert!(!turns.contains("ff") && !turns.contains("fcf") && !turns.contains("cc"));
    let frames = turns.matches('f').count();
    assert!(frames > 900, "{frames} of 3000 turns");
    // A message that comes while frames wait goes next.
    assert!(matches!(
        pair.dialler.channels.next_turn(false),
        Some(Turn::Frame { .. })
    ));
    assert_eq!(pair.dialler.channels.next_turn(true), Some(Turn::Zero));
}

#[test]
fn a_thousand_channels_of_one_carrier_work_and_an_idle_one_takes_little_memory() {
    let mut pair = Pair::new(&ChannelConfig::default());
    let numbers = open_many(&mut pair, 1000);
    for round in 0..3 {
        for number in &numbers {
            for (end, len) in [(&mut pair.dialler, 700), (&mut pair.acceptor, 0)] {
                end.channels.send(*number, frame(len, round)).unwrap();
            }
        }
        pair.run();
        for number in &numbers {
            assert_eq!(pair.acceptor.take_all(*number), [frame(700, round)]);
            assert_eq!(pair.dialler.take_all(*number), [frame(0, round)]);
        }
    }
    let entry = std::mem::size_of::<Entry>();
    assert!(entry <= 256, "an idle channel takes {entry} bytes");
    for number in numbers {
        pair.acceptor.channels.finish(number, ChannelCode::NORMAL);
    }
    pair.run();
    assert_eq!(
        pair.dialler.channels.len() + pair.acceptor.channels.len(),
        0
    );
}
