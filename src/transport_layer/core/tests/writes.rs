//! Writes: whether the sender or the task writes a message, their order, and the readings of the
//! clock.

use super::*;

#[test]
fn a_sender_writes_to_a_connection_itself_only_if_it_is_at_rest() {
    type Prepare = fn(&mut Fixture, u64);
    let cases: [(&str, Prepare, bool); 6] = [
        ("at rest", |_, _| {}, true),
        (
            "just after another message was written",
            |f, link| {
                assert!(matches!(f.offer(addr(1)), Offered::Write(_)));
                f.written(addr(1), link);
            },
            false,
        ),
        (
            "while another sender writes",
            |f, _| assert!(matches!(f.offer(addr(1)), Offered::Write(_))),
            false,
        ),
        (
            "while the task of the peer writes",
            |f, _| {
                f.now -= secs(1);
                f.offer(addr(1));
                assert_eq!(name(&f.step(addr(1))), "write");
                f.now += secs(1);
            },
            false,
        ),
        (
            "while a message waits for the task of the peer",
            |f, _| {
                f.now -= secs(1);
                f.offer(addr(1));
                f.now += secs(1);
            },
            false,
        ),
        (
            "while the connection holds bytes that the network has not taken",
            |f, link| {
                assert!(matches!(f.offer(addr(1)), Offered::Write(_)));
                let key = f.key(addr(1));
                let (now, batch) = (f.now, &mut VecDeque::new());
                f.peers
                    .written((key, link, Writer::Sender), batch, false, now, &mut f.fx);
                f.now += secs(1);
            },
            false,
        ),
    ];
    for (what, prepare, expected) in cases {
        let mut fixture = Fixture::new(TransportLayerConfig::default());
        let link = fixture.accept(addr(1), 1);
        fixture.step(addr(1));
        fixture.now += secs(1);
        prepare(&mut fixture, link);
        let direct = matches!(fixture.offer(addr(1)), Offered::Write(_));
        assert_eq!(direct, expected, "{what}");
    }
}

#[test]
fn a_long_message_is_left_to_the_task_of_the_peer() {
    for (len, direct) in [(8 << 10, true), ((8 << 10) + 1, false)] {
        let mut fixture = Fixture::new(TransportLayerConfig::default());
        fixture.accept(addr(1), 1);
        fixture.step(addr(1));
        fixture.now += secs(1);
        let (now, fx) = (fixture.now, &mut fixture.fx);
        let bytes = Bytes::from(vec![0; len]);
        let offered = fixture.peers.offer(addr(1), bytes, || now, fx);
        assert_eq!(matches!(offered, Offered::Write(_)), direct);
    }
}

#[test]
fn a_message_that_its_sender_could_not_write_goes_first() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let link = fixture.accept(addr(1), 1);
    fixture.step(addr(1));
    fixture.now += secs(1);
    let direct = fixture.direct(addr(1));
    fixture.offer(addr(1));
    // The connection broke: the message is still in the batch.
    let (now, fx) = (fixture.now, &mut fixture.fx);
    let mut batch = VecDeque::from([Bytes::from_static(b"first")]);
    fixture.peers.written(
        (direct.key, direct.link, Writer::Sender),
        &mut batch,
        false,
        now,
        fx,
    );
    fixture.lose(addr(1), link);
    assert_eq!(fixture.peer(addr(1)).queued, 2);
    fixture.accept(addr(1), 1);
    assert_eq!(name(&fixture.step(addr(1))), "write");
    assert_eq!(fixture.batch, [Bytes::from_static(b"first"), message()]);
}

#[test]
fn the_clock_is_not_read_while_the_task_of_the_peer_runs() {
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    fixture.accept(addr(1), 1);
    fixture.step(addr(1));
    fixture.offer(addr(1));
    let reads = |fixture: &mut Fixture| {
        let (mut reads, now) = (0, fixture.now);
        let clock = || {
            reads += 1;
            now
        };
        let offered = fixture
            .peers
            .offer(addr(1), message(), clock, &mut fixture.fx);
        assert!(matches!(offered, Offered::Done));
        reads
    };
    // The first message has woken the task.
    assert_eq!(reads(&mut fixture), 0);
    let Step::Write { link, .. } = fixture.step(addr(1)) else {
        panic!("there are messages");
    };
    assert_eq!(reads(&mut fixture), 0);
    // The network does not take the messages, so the task may wait for long.
    let key = fixture.key(addr(1));
    fixture.peers.write_blocked(key);
    assert_eq!(reads(&mut fixture), 1);
    fixture.written(addr(1), link);
    assert_eq!(reads(&mut fixture), 0);
}

#[test]
fn the_clock_is_not_read_for_an_answer() {
    // The time after the last write at which the peer was heard, whether the clock is read then,
    // and whether the sender writes.
    let micros = Duration::from_micros;
    for (heard, reads, direct) in [(micros(1), 1, false), (micros(2), 0, true)] {
        let mut fixture = Fixture::new(TransportLayerConfig::default());
        let mut conn = fixture.conn(addr(1), 1);
        conn.last_heard += heard;
        let now = fixture.now;
        fixture.enter(conn, Direction::Incoming);
        fixture.step(addr(1));
        let mut read = 0;
        let clock = || {
            read += 1;
            now + heard
        };
        let offered = fixture
            .peers
            .offer(addr(1), message(), clock, &mut fixture.fx);
        assert_eq!(matches!(offered, Offered::Write(_)), direct, "{heard:?}");
        assert_eq!(read, reads, "{heard:?}");
    }
}

#[test]
fn the_time_to_live_of_a_message_that_its_sender_could_not_write_begins_then() {
    let config = TransportLayerConfig::default();
    let ttl = config.outgoing.ttl;
    let mut fixture = Fixture::new(config);
    let link = fixture.accept(addr(1), 1);
    fixture.step(addr(1));
    fixture.now += secs(1);
    let direct = fixture.direct(addr(1));
    let write = (direct.key, link, Writer::Sender);
    let (now, mut batch) = (fixture.now, direct.batch);
    let fx = &mut fixture.fx;
    fixture.peers.written(write, &mut batch, false, now, fx);
    fixture.lose(addr(1), link);
    for (later, queued) in [(ttl - secs(1), 1), (ttl, 0)] {
        fixture.now = now + later;
        fixture.step(addr(1));
        assert_eq!(fixture.peer(addr(1)).queued, queued, "{later:?}");
    }
}

#[test]
fn of_connections_without_authentication_the_first_is_written_to_as_long_as_it_lives() {
    let written_to = |fixture: &mut Fixture| {
        fixture.offer(addr(1));
        match fixture.step(addr(1)) {
            Step::Write { link, .. } => {
                fixture.written(addr(1), link);
                link
            }
            step => panic!("{step:?}"),
        }
    };
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let accepted = fixture.accept(addr(1), 0);
    fixture.connect(addr(1), 0, Direction::Outgoing);
    assert_eq!(written_to(&mut fixture), accepted);
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    let dialled = fixture.connect(addr(1), 0, Direction::Outgoing);
    let accepted = fixture.accept(addr(1), 0);
    assert_eq!(written_to(&mut fixture), dialled);
    // If the peer comes again from the same address, it has lost its earlier connection.
    let newer = fixture.accept(addr(1), 0);
    assert_eq!(written_to(&mut fixture), newer);
    for (ended, next) in [(newer, dialled), (dialled, accepted)] {
        fixture.lose(addr(1), ended);
        assert_eq!(written_to(&mut fixture), next);
    }
}
