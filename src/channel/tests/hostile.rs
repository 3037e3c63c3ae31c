//! An end whose peer breaks the rules.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::channel::config::MAX_CREDIT;
use crate::channel::wire::{Control, Kind};

const OVERRUN: ChannelEnd = ChannelEnd::Breach(ChannelCode::OVERRUN);

/// An acceptor, to which a hostile dialler sends what it likes.
struct Victim(End);

impl Victim {
    fn new(config: &ChannelConfig) -> Self {
        Self(End::new(Side::Acceptor, config))
    }

    /// A victim that has accepted channel 1, and asked for channel 2.
    fn with_two() -> Self {
        let mut victim = Self::new(&ChannelConfig::default());
        victim.control(1, open()).unwrap();
        victim.0.channels.accept(number(1), Bytes::new()).unwrap();
        victim.0.channels.open(Bytes::new()).unwrap();
        victim.write();
        victim.0.events();
        victim
    }

    fn control(&mut self, of: u32, kind: Kind) -> Result<(), Violation> {
        let mut bytes = BytesMut::new();
        let number = number(of);
        Control { number, kind }.encode(&mut bytes);
        self.0.arrive(Item::Control(bytes.freeze()))
    }

    fn frame(&mut self, of: u32, len: usize) -> Result<(), Violation> {
        self.0.arrive(Item::Frame(number(of), frame(len, 0)))
    }

    /// Has the victim write everything, and returns its control messages.
    fn write(&mut self) -> Vec<Control> {
        while let Some(turn) = self.0.channels.next_turn(false) {
            if let Turn::Control(messages) = turn {
                self.0.written.push_back(Item::Control(messages));
            }
        }
        let mut controls = Vec::new();
        for item in self.0.written.drain(..) {
            let Item::Control(messages) = item else {
                continue;
            };
            let mut messages = &messages[..];
            while !messages.is_empty() {
                controls.push(Control::decode(&mut messages).unwrap());
            }
        }
        check(&self.0.channels);
        controls
    }

    fn assert_sends(&mut self, of: u32, kind: Kind) {
        let number = number(of);
        assert_eq!(self.write(), [Control { number, kind }]);
    }
}

fn open() -> Kind {
    Kind::Open {
        credit: 1 << 20,
        request: Bytes::new(),
    }
}

fn opened(credit: u32) -> Kind {
    Kind::Opened {
        credit,
        answer: Bytes::new(),
    }
}

fn close() -> Kind {
    Kind::Close(ChannelCode::NORMAL)
}

#[test]
fn a_frame_before_the_channel_is_open_ends_that_channel_only() {
    let mut victim = Victim::with_two();
    // Channel 2 was asked for here, 3 is not accepted, and of 5 the peer cannot know that it is.
    for of in [3, 5] {
        victim.control(of, open()).unwrap();
    }
    victim.0.channels.accept(number(5), Bytes::new()).unwrap();
    victim.0.events();
    let early = ChannelCode::EARLY;
    for of in [2, 3, 5] {
        victim.frame(of, 10).unwrap();
        victim.0.assert_ended(number(of), ChannelEnd::Breach(early));
        victim.frame(of, MAX_FRAME_LEN).unwrap();
    }
    let kinds = victim.write().into_iter().map(|control| control.kind);
    let answer = opened(SMALLEST_WINDOW as u32);
    let (refuse, close) = (Kind::Refuse(early), Kind::Close(early));
    // Those of channel 5 were due first.
    let expected = [refuse, answer, close.clone(), close];
    let mut found: Vec<_> = kinds.map(|kind| format!("{kind:?}")).collect();
    let mut expected: Vec<_> = expected.iter().map(|kind| format!("{kind:?}")).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(victim.0.channels.stats().early, 3);
    victim.frame(1, 10).unwrap();
    assert_eq!(victim.0.take_all(number(1)).len(), 1);
}

#[test]
fn a_frame_beyond_the_credit_ends_that_channel_only_and_both_ends_learn_why() {
    let mut victim = Victim::with_two();
    victim.frame(1, MAX_FRAME_LEN).unwrap();
    victim.frame(1, MAX_FRAME_LEN).unwrap();
    victim.0.events();
    victim.frame(1, 0).unwrap();
    victim.0.assert_ended(number(1), OVERRUN);
    victim.assert_sends(1, Kind::Close(ChannelCode::OVERRUN));
    let stats = victim.0.channels.stats();
    assert_eq!(
        (stats.overruns, stats.unread_dropped, stats.breach_dropped),
        (1, 2, 1)
    );
    // It may not know of the end yet.
    victim.frame(1, MAX_FRAME_LEN).unwrap();
    victim.control(1, close()).unwrap();
    victim.control(3, open()).unwrap();
}

#[test]
fn frames_of_a_channel_that_was_just_ended_are_ignored_up_to_the_credit() {
    let mut victim = Victim::with_two();
    victim.frame(1, MAX_FRAME_LEN).unwrap();
    victim.0.channels.abort(number(1), ChannelCode::NORMAL);
    victim.write();
    victim.frame(1, MAX_FRAME_LEN).unwrap();
    victim.control(1, Kind::Credit(7)).unwrap();
    victim.control(1, Kind::Blocked).unwrap();
    assert_eq!(victim.0.channels.stats().late_dropped, 1);
    let violation = victim.frame(1, 0).unwrap_err();
    assert_eq!(violation, Violation::LateOverrun { number: number(1) });
}

#[test]
fn a_violation_ends_all_channels_for_a_reason_and_everything_after_it_is_ignored() {
    let mut victim = Victim::with_two();
    victim.frame(1, 10).unwrap();
    victim.0.events();
    let violation = victim.frame(0, 10).unwrap_err();
    let ended = |of| ChannelEvent::Ended {
        number: number(of),
        end: ChannelEnd::Violation(violation),
    };
    assert_eq!(victim.0.events(), [ended(1), ended(2)]);
    assert_eq!(victim.0.take_all(number(1)).len(), 0);
    assert!(victim.0.channels.is_empty());
    assert_eq!(victim.0.channels.stats().violations, 1);
    victim.frame(9, 10).unwrap();
    victim.control(9, close()).unwrap();
    assert_eq!(victim.write(), []);
    assert_eq!(victim.0.channels.stats().frames_received, 2);
}

/// What a hostile dialler sends at last.
enum Last {
    Control(u32, Kind),
    Frame(u32, usize),
}

#[test]
fn what_no_honest_peer_sends_is_a_violation() {
    use Last::{Control, Frame};
    use Violation as V;
    let of = number;
    // What is done before, on top of `with_two`: the end of a channel, or the answer to the request for channel 2.
    let nothing: &[(u32, Kind)] = &[];
    let ended: &[_] = &[(1, close())];
    let answered: &[_] = &[(2, opened(0))];
    let requested: &[_] = &[(3, open())];
    let (len, max) = (MAX_FRAME_LEN + 1, MAX_FRAME_LEN);
    let credit = |of: u32, amount: u32| V::Credit {
        number: number(of),
        amount,
    };
    for (before, last, violation) in [
        (nothing, Frame(0, 1), V::NeverOpened { number: of(0) }),
        (nothing, Frame(3, 1), V::NeverOpened { number: of(3) }),
        (nothing, Frame(4, 1), V::NeverOpened { number: of(4) }),
        (
            nothing,
            Frame(u32::MAX, 1),
            V::NeverOpened {
                number: of(u32::MAX),
            },
        ),
        (nothing, Frame(1, len), V::FrameTooLong { len, max }),
        (ended, Frame(1, 1), V::AfterEnd { number: of(1) }),
        (ended, Control(1, close()), V::AfterEnd { number: of(1) }),
        (
            ended,
            Control(1, Kind::Credit(1)),
            V::AfterEnd { number: of(1) },
        ),
        (ended, Control(1, open()), V::OutOfOrder { number: of(1) }),
        (
            nothing,
            Control(3, close()),
            V::NeverOpened { number: of(3) },
        ),
        (nothing, Control(0, open()), V::OutOfOrder { number: of(0) }),
        (nothing, Control(1, open()), V::OutOfOrder { number: of(1) }),
        (nothing, Control(4, open()), V::OutOfOrder { number: of(4) }),
        (nothing, Control(5, open()), V::OutOfOrder { number: of(5) }),
        (nothing, Control(1, Kind::Credit(0)), credit(1, 0)),
        (
            nothing,
            Control(1, Kind::Credit(MAX_CREDIT)),
            credit(1, MAX_CREDIT),
        ),
        (nothing, Control(2, opened(u32::MAX)), credit(2, u32::MAX)),
        (
            nothing,
            Control(1, opened(0)),
            V::Unexpected { number: of(1) },
        ),
        (
            answered,
            Control(2, opened(0)),
            V::Unexpected { number: of(2) },
        ),
        (
            answered,
            Control(2, Kind::Refuse(ChannelCode(9))),
            V::Unexpected { number: of(2) },
        ),
        (
            nothing,
            Control(2, close()),
            V::Unexpected { number: of(2) },
        ),
        (
            nothing,
            Control(2, Kind::Credit(1)),
            V::Unexpected { number: of(2) },
        ),
        (
            nothing,
            Control(2, Kind::Blocked),
            V::Unexpected { number: of(2) },
        ),
        (
            requested,
            Control(3, Kind::Credit(1)),
            V::Unexpected { number: of(3) },
        ),
        (
            requested,
            Control(3, Kind::Blocked),
            V::Unexpected { number: of(3) },
        ),
    ] {
        let mut victim = Victim::with_two();
        for (of, kind) in before {
            victim.control(*of, kind.clone()).unwrap();
        }
        victim.write();
        let arrived = match last {
            Control(of, kind) => victim.control(of, kind),
            Frame(of, len) => victim.frame(of, len),
        };
        assert_eq!(arrived, Err(violation));
    }
}

#[test]
fn an_open_with_too_much_credit_is_a_violation() {
    let mut victim = Victim::new(&ChannelConfig::default());
    let (credit, request) = (MAX_CREDIT + 1, Bytes::new());
    let opened = victim.control(1, Kind::Open { credit, request });
    let (number, amount) = (number(1), credit);
    assert_eq!(opened, Err(Violation::Credit { number, amount }));
}

#[test]
fn requests_beyond_the_limit_are_a_violation_also_if_the_peer_never_confirms_refusals() {
    let config = ChannelConfig::default().with_max_channels(3);
    let mut victim = Victim::new(&config);
    for of in [1, 3, 5] {
        victim.control(of, open()).unwrap();
        victim.0.channels.refuse(number(of), ChannelCode::REFUSED);
        victim.write();
    }
    assert_eq!(
        victim.control(7, open()),
        Err(Violation::TooMany { max: 3 })
    );
    // A peer that confirms them may go on for ever.
    let mut victim = Victim::new(&config);
    for of in (1..1000).step_by(2) {
        victim.control(of, open()).unwrap();
        victim.0.channels.refuse(number(of), ChannelCode::REFUSED);
        victim.assert_sends(of, Kind::Refuse(ChannelCode::REFUSED));
        victim.control(of, close()).unwrap();
        assert!(victim.0.channels.is_empty());
    }
}

#[test]
fn channels_that_are_filled_and_ended_while_nobody_reads_hold_their_places() {
    let config = ChannelConfig::default().with_max_channels(3);
    let mut victim = Victim::new(&config);
    for of in [1, 3, 5] {
        victim.control(of, open()).unwrap();
        victim.0.channels.accept(number(of), Bytes::new()).unwrap();
        victim.write();
        victim.frame(of, MAX_FRAME_LEN).unwrap();
        victim.control(of, close()).unwrap();
    }
    assert_eq!(victim.write(), []);
    assert_eq!(
        victim.control(7, open()),
        Err(Violation::TooMany { max: 3 })
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_peer_that_sends_anything_at_all_stays_within_the_limits(
        steps in prop::collection::vec((0_u8..10, 0_u32..8, any::<u32>(), 0_usize..20_000), 1..150),
    ) {
        let config = ChannelConfig::default()
            .with_max_channels(3)
            .with_max_unread_bytes(3 * SMALLEST_WINDOW);
        let mut victim = Victim::new(&config);
        for (kind, of, amount, len) in steps {
            let text = || Bytes::from(vec![1; len % 513]);
            let arrived = match kind {
                0 => victim.control(of, Kind::Open { credit: amount / 4, request: text() }),
                1 => victim.control(of, Kind::Opened { credit: amount / 4, answer: text() }),
                2 => victim.control(of, Kind::Refuse(ChannelCode(7))),
                3 => victim.control(of, Kind::Credit(amount / 8)),
                4 => victim.control(of, close()),
                5 => victim.control(of, Kind::Blocked),
                6 => victim.0.arrive(Item::Control(vec![(amount % 7) as u8; len % 30].into())),
                7 => {
                    let _ = victim.0.channels.accept(number(of), Bytes::new());
                    let _ = victim.0.channels.open(Bytes::new());
                    let _ = victim.0.channels.send(number(of), frame(len.min(MAX_FRAME_LEN), 1));
                    Ok(())
                }
                8 => {
                    victim.write();
                    Ok(())
                }
                _ => victim.frame(of, len),
            };
            if arrived.is_err() {
                prop_assert!(victim.0.channels.is_empty());
                prop_assert_eq!(victim.0.channels.stats().violations, 1);
                break;
            }
        }
    }
}
