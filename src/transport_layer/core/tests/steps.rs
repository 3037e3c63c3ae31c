//! The steps of a peer's task and the times at which they are due, silence and idleness included.

use std::task::Waker;

use super::*;

#[test]
fn the_task_of_a_peer_does_what_is_due() {
    type Prepare = fn(&mut Fixture);
    let config = || TransportLayerConfig::default();
    let one = addr(1);
    let cases: [(&str, Prepare, &str); 11] = [
        (
            "nothing is due for a new peer",
            |f| f.touch(addr(1)).unwrap(),
            "wait",
        ),
        (
            "a message needs a dial",
            |f| {
                f.offer(addr(1));
            },
            "dial",
        ),
        (
            "a message is written to a connection",
            |f| {
                f.accept(addr(1), 1);
                f.offer(addr(1));
            },
            "write",
        ),
        (
            "after a failed dial the task waits, though there are messages",
            |f| {
                f.offer(addr(1));
                f.step(addr(1));
                f.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
            },
            "wait",
        ),
        (
            "a failed dial is repeated when its backoff is over",
            |f| {
                f.offer(addr(1));
                f.step(addr(1));
                f.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
                f.now += secs(1);
            },
            "dial",
        ),
        (
            "a connection without messages is kept alive",
            |f| {
                f.accept(addr(1), 1);
                f.now += secs(25);
            },
            "keepalive",
        ),
        (
            "an idle connection is closed",
            |f| {
                f.accept(addr(1), 1);
                f.now += secs(300);
            },
            "wait",
        ),
        (
            "a peer that was at rest for long is forgotten",
            |f| {
                f.touch(addr(1)).unwrap();
                f.now += secs(60);
            },
            "gone",
        ),
        (
            "a batch of a sender is in flight: the task waits",
            |f| {
                f.accept(addr(1), 1);
                f.now += secs(1);
                assert!(matches!(f.offer(addr(1)), Offered::Write(_)));
                f.offer(addr(1));
            },
            "wait",
        ),
        (
            "bytes that the network has not taken are flushed, though there are no messages",
            |f| {
                let link = f.accept(addr(1), 1);
                f.now += secs(1);
                assert!(matches!(f.offer(addr(1)), Offered::Write(_)));
                let key = f.key(addr(1));
                let (now, batch) = (f.now, &mut VecDeque::new());
                f.peers
                    .written((key, link, Writer::Sender), batch, false, now, &mut f.fx);
            },
            "write",
        ),
        (
            "a caller that wants a connection has one dialled",
            |f| {
                let mut wanted = Wanted::new(addr(1));
                let (now, fx) = (f.now, &mut f.fx);
                let poll = f.peers.poll_connected(&mut wanted, now, Waker::noop(), fx);
                assert!(poll.is_pending());
            },
            "dial",
        ),
    ];
    for (what, prepare, expected) in cases {
        let mut fixture = Fixture::new(config());
        prepare(&mut fixture);
        assert_eq!(name(&fixture.step(one)), expected, "{what}");
    }
}

#[test]
fn a_silent_peer_is_closed_unless_it_is_not_read() {
    for (reading, closed) in [(true, true), (false, false)] {
        let config = TransportLayerConfig::default().with_idle_timeout(secs(100_000));
        let mut fixture = Fixture::new(config);
        let link = fixture.accept(addr(1), 1);
        fixture.step(addr(1));
        if !reading {
            fixture.reading(addr(1), link, Reading::Paused);
        }
        fixture.now += secs(90);
        fixture.step(addr(1));
        assert_eq!(fixture.connections().is_empty(), closed);
    }
}

#[test]
fn the_task_of_a_peer_waits_until_the_next_thing_is_due() {
    type Prepare = fn(&mut Fixture);
    fn lost(f: &mut Fixture) {
        let link = f.accept(addr(1), 1);
        f.now += secs(10);
        f.lose(addr(1), link);
    }
    let quiet = || {
        TransportLayerConfig::default()
            .with_keepalive_interval(secs(1000))
            .with_silence_timeout(secs(1000))
    };
    let slow = || {
        TransportLayerConfig::default()
            .with_backoff_min(secs(200))
            .with_backoff_max(secs(200))
    };
    // The seconds from the last preparation to the deadline.
    let cases: [(&str, TransportLayerConfig, Prepare, u64); 8] = [
        (
            "forgetting a peer at rest",
            quiet(),
            |f| f.touch(addr(1)).unwrap(),
            60,
        ),
        ("forgetting a peer that was lost", quiet(), lost, 60),
        (
            "forgetting a peer whose messages have expired",
            slow(),
            |f| {
                f.offer(addr(1));
                f.step(addr(1));
                f.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
                f.now += secs(29);
                f.step(addr(1));
                f.now += secs(1);
            },
            59,
        ),
        (
            "the expiry of a message before the next dial",
            slow(),
            |f| {
                f.offer(addr(1));
                f.step(addr(1));
                f.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
            },
            30,
        ),
        (
            "a keepalive",
            TransportLayerConfig::default(),
            |f| {
                f.accept(addr(1), 1);
            },
            25,
        ),
        (
            "the next keepalive",
            TransportLayerConfig::default(),
            |f| {
                let link = f.accept(addr(1), 1);
                f.now += secs(25);
                assert_eq!(name(&f.step(addr(1))), "keepalive");
                let key = f.key(addr(1));
                f.peers.kept_alive(key, link, f.now);
            },
            25,
        ),
        (
            "the end of an idle connection",
            quiet().with_idle_timeout(secs(400)),
            |f| {
                f.accept(addr(1), 1);
            },
            400,
        ),
        (
            "the silence of the peer",
            quiet()
                .with_idle_timeout(secs(400))
                .with_silence_timeout(secs(100)),
            |f| {
                f.accept(addr(1), 1);
            },
            100,
        ),
    ];
    for (what, config, prepare, expected) in cases {
        let mut fixture = Fixture::new(config);
        prepare(&mut fixture);
        match fixture.step(addr(1)) {
            Step::Wait(Some(at)) => assert_eq!(at - fixture.now, secs(expected), "{what}"),
            step => panic!("{what}: {step:?}"),
        }
    }
    // The backoff is random: the snapshot knows it.
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    fixture.offer(addr(1));
    fixture.step(addr(1));
    fixture.fail_dial(addr(1), std::io::ErrorKind::TimedOut);
    let next_dial = fixture.peer(addr(1)).next_dial.unwrap();
    match fixture.step(addr(1)) {
        Step::Wait(Some(at)) => assert_eq!(at - fixture.now, next_dial),
        step => panic!("{step:?}"),
    }
}

#[test]
fn messages_either_way_keep_a_connection_from_being_idle() {
    type Use = fn(&mut Fixture, u64);
    let cases: [(&str, Use, bool); 4] = [
        ("nothing", |_, _| {}, true),
        (
            "a message was received",
            |f, link| f.hear(addr(1), link),
            false,
        ),
        (
            "a message was written",
            |f, link| {
                assert!(matches!(f.offer(addr(1)), Offered::Write(_)));
                f.written(addr(1), link);
            },
            false,
        ),
        (
            "a message is being written",
            |f, _| assert!(matches!(f.offer(addr(1)), Offered::Write(_))),
            false,
        ),
    ];
    for (what, use_it, closed) in cases {
        let config = TransportLayerConfig::default().with_silence_timeout(secs(1000));
        let mut fixture = Fixture::new(config);
        let link = fixture.accept(addr(1), 1);
        fixture.step(addr(1));
        fixture.now += secs(200);
        use_it(&mut fixture, link);
        fixture.now += secs(100);
        fixture.step(addr(1));
        assert_eq!(fixture.connections().is_empty(), closed, "{what}");
        let codes: Vec<_> = fixture.fx.close.iter().map(|(_, code)| *code).collect();
        let expected: &[_] = if closed { &[CloseCode::IDLE] } else { &[] };
        assert_eq!(codes, expected, "{what}");
    }
}

#[test]
fn a_written_message_is_as_good_as_a_keepalive() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let link = fixture.accept(addr(1), 1);
    fixture.step(addr(1));
    fixture.now += secs(10);
    assert!(matches!(fixture.offer(addr(1)), Offered::Write(_)));
    fixture.written(addr(1), link);
    fixture.now += secs(24);
    assert_eq!(name(&fixture.step(addr(1))), "wait");
    fixture.now += secs(1);
    assert_eq!(name(&fixture.step(addr(1))), "keepalive");
}

#[test]
fn a_connection_is_flushed_until_the_network_has_taken_all() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let link = fixture.accept(addr(1), 1);
    fixture.step(addr(1));
    fixture.now += secs(1);
    assert!(matches!(fixture.offer(addr(1)), Offered::Write(_)));
    let key = fixture.key(addr(1));
    for (writer, flushed, next) in [
        (Writer::Sender, false, "write"),
        (Writer::Task, false, "write"),
        (Writer::Task, true, "wait"),
    ] {
        let (now, fx) = (fixture.now, &mut fixture.fx);
        let batch = &mut VecDeque::new();
        fixture
            .peers
            .written((key, link, writer), batch, flushed, now, fx);
        assert_eq!(name(&fixture.step(addr(1))), next);
    }
}

#[test]
fn silence_counts_from_the_time_at_which_reading_goes_on() {
    let config = TransportLayerConfig::default().with_idle_timeout(secs(100_000));
    let mut fixture = Fixture::new(config);
    let link = fixture.accept(addr(1), 1);
    fixture.step(addr(1));
    fixture.reading(addr(1), link, Reading::Paused);
    fixture.now += secs(100);
    fixture.reading(addr(1), link, Reading::Since(fixture.now));
    for (later, silent) in [(0, false), (89, false), (1, true)] {
        fixture.now += secs(later);
        fixture.step(addr(1));
        assert_eq!(fixture.connections().is_empty(), silent);
    }
    let codes: Vec<_> = fixture.fx.close.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, [CloseCode::GOING_AWAY]);
}
