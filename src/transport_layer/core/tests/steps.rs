//! The steps of a peer's task, and the consequences of failed dials and silence.

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
        ("a message needs a dial", |f| drop(f.offer(addr(1))), "dial"),
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
                f.now += secs(15);
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
fn messages_outlive_a_failed_dial_unless_no_retry_can_help() {
    let help = String::new();
    let (one, two) = (addr(1), addr(2));
    let cases = [
        (
            ConnectError::Timeout {
                addr: one,
                after: secs(1),
            },
            one,
            1,
            0,
        ),
        (ConnectError::NotPermitted { addr: two, help }, two, 0, 1),
    ];
    let mut fixture = Fixture::new(TransportLayerConfig::default());
    for (error, addr, queued, dropped) in cases {
        fixture.offer(addr);
        fixture.step(addr);
        fixture.fail_dial_with(error, addr);
        let peer = fixture.peer(addr);
        assert_eq!(peer.queued, queued);
        assert_eq!(peer.dropped.count(DropReason::DialFailed), dropped);
    }
}

#[test]
fn a_silent_peer_is_closed_unless_it_is_not_read() {
    for (reading, closed) in [(true, true), (false, false)] {
        let config = TransportLayerConfig::default().with_idle_timeout(secs(100_000));
        let mut fixture = Fixture::new(config);
        let conn = fixture.conn(addr(1), 1);
        let (now, fx) = (fixture.now, &mut fixture.fx);
        let incoming = Direction::Incoming;
        let link = fixture.peers.connected(addr(1), conn, incoming, now, fx);
        fixture.step(addr(1));
        if !reading {
            let link = link.unwrap();
            fixture.peers.reading(addr(1), link, Reading::Paused);
        }
        fixture.now += secs(90);
        fixture.step(addr(1));
        assert_eq!(fixture.connections().is_empty(), closed);
    }
}
