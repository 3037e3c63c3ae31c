//! Answers that are short because the next change nearly fills a message.

use std::collections::VecDeque;

use super::*;

/// A member with its messages to one other, in virtual time.
struct Pair {
    /// The newcomer, and the member that has changes.
    engines: [Engine; 2],
    now: Duration,
}

impl Pair {
    fn new() -> Self {
        let rng = &mut fastrand::Rng::with_seed(3);
        let mut config = config();
        for n in 0..6 {
            // Two do not fit into one message.
            let len = if n % 2 == 0 { 1_500 } else { 64_000 };
            let value = std::iter::repeat_with(|| rng.alphanumeric()).take(len);
            let key = (format!("k{n}"), value.collect());
            config.initial_key_values.push(key);
        }
        let peer = Engine::new(config, id(2), Duration::ZERO).unwrap();
        let mut engines = [engine(1), peer];
        for (engine, other) in engines.iter_mut().zip([2, 1]) {
            engine.handle(Event::Seeds(vec![addr(other)]), SECOND);
            let connections = vec![Connection {
                addr: addr(other),
                reads_v1: true,
                invite: None,
            }];
            // The greeting is lost.
            engine.handle(Event::Connections(connections), SECOND);
        }
        let now = SECOND * 5;
        Self { engines, now }
    }

    /// Performs a round of member `n`, and all that follows within less than an interval.
    fn round(&mut self, n: usize) {
        let end = self.now + SECOND * 9 / 10;
        let mut in_flight = VecDeque::new();
        let mut event = Some((n, Event::Round));
        while let Some((n, happens)) = event {
            let outputs = self.engines[n].handle(happens, self.now);
            for (_, message) in sends(&outputs) {
                let from = addr([1, 2][n]);
                in_flight.push_back((1 - n, received(from, message.clone())));
            }
            event = in_flight.pop_front().or_else(|| {
                let dues = (0..2).filter_map(|n| Some((self.engines[n].next_rumours()?, n)));
                let (due, n) = dues.min()?;
                self.now = self.now.max(due);
                (due < end).then_some((n, Event::Rumours))
            });
        }
        self.now = end;
    }

    fn keys(&self) -> usize {
        let known = (0..6).filter(|n| {
            let key = format!("k{n}");
            self.engines[0].member_value(&id(2), &key).is_some()
        });
        known.count()
    }
}

#[test]
fn changes_that_nearly_fill_a_message_reach_a_newcomer_in_one_round_although_small_ones_precede() {
    for opens in [0, 1] {
        let mut pair = Pair::new();
        pair.round(opens);
        assert_eq!(pair.keys(), 6, "member {opens} opens the exchange");
    }
}
