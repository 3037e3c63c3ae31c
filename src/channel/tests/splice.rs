//! A relay between two carriers: frames go through it in order, and back-pressure as well.

use super::*;

/// A relay with the acceptors of two carriers, and the peers at their other ends.
struct Relay {
    left: Pair,
    right: Pair,
    number: ChannelNumber,
}

impl Relay {
    fn new() -> Self {
        let config = ChannelConfig::default();
        let (mut left, mut right) = (Pair::new(&config), Pair::new(&config));
        let number = left.open();
        assert_eq!(right.open(), number);
        Self {
            left,
            right,
            number,
        }
    }

    /// Moves frames from one carrier to the other in both directions, as far as there is room.
    fn splice(&mut self) {
        let (left, right) = (&mut self.left.acceptor, &mut self.right.acceptor);
        pass_on(self.number, &mut left.channels, &mut right.channels);
        pass_on(self.number, &mut right.channels, &mut left.channels);
    }

    fn run(&mut self) {
        for _ in 0..8 {
            self.left.run();
            self.splice();
            self.right.run();
            self.splice();
        }
    }
}

fn pass_on(number: ChannelNumber, from: &mut Channels, to: &mut Channels) {
    while let Some(len) = from.next_len(number)
        && to.can_send(number, len)
        && let Some(frame) = from.receive(number)
    {
        to.send(number, frame).unwrap();
    }
}

#[test]
fn frames_pass_in_order_and_a_reader_that_stops_stops_the_sender() {
    let mut relay = Relay::new();
    let number = relay.number;
    let (mut sent, mut taken) = (0_u32, 0_u32);
    let mut most_waiting = 0;
    for round in 0..400 {
        loop {
            let len = 4 + (sent as usize * 7919) % (MAX_FRAME_LEN - 4);
            let mut frame = vec![0; len];
            frame[..4].copy_from_slice(&sent.to_be_bytes());
            if relay
                .left
                .dialler
                .channels
                .send(number, frame.into())
                .is_err()
            {
                break;
            }
            sent += 1;
        }
        relay.run();
        let waiting = |end: &End| {
            let entry = &end.channels.entries[&number];
            entry.incoming.held() + entry.outgoing.held()
        };
        most_waiting =
            most_waiting.max(waiting(&relay.left.acceptor) + waiting(&relay.right.acceptor));
        // The reader stops for a time.
        if (100..200).contains(&round) {
            continue;
        }
        for frame in relay.right.dialler.take_all(number) {
            assert_eq!(frame[..4], taken.to_be_bytes());
            taken += 1;
        }
    }
    assert!(taken > 1000, "{taken} frames");
    let config = ChannelConfig::default();
    assert!(most_waiting <= config.max_window + config.max_unsent_per_channel);
    relay
        .right
        .dialler
        .channels
        .send(number, frame(9, 9))
        .unwrap();
    relay.run();
    assert_eq!(relay.left.dialler.take_all(number), [frame(9, 9)]);
}
