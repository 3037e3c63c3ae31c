//! The order in which the connections of a peer are handed in.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn fixture() -> Fixture {
    Fixture::new(TransportLayerConfig::default())
}

impl Fixture {
    /// Returns whether the reader of a connection of the peer at `addr` has to hold back what it has read.
    pub(super) fn holds_back(&mut self, addr: SocketAddr, link: u64) -> bool {
        let key = self.key(addr);
        self.peers.must_hold_back(key, link, self.now, &mut self.fx)
    }

    /// Has the reader of a connection find nothing more to read.
    pub(super) fn read_empty(&mut self, addr: SocketAddr, link: u64) {
        let key = self.key(addr);
        let seen = self.peers.revision();
        self.peers.read_empty(key, link, seen, self.now);
    }
}

#[test]
fn a_reader_waits_for_those_whose_connections_went_out_of_service_before() {
    let mut fixture = fixture();
    let older = fixture.connect(addr(1), 101, Direction::Outgoing);
    let newer = fixture.accept(addr(1), 101);
    fixture.now += secs(1);
    fixture.read_empty(addr(1), older);
    let holding =
        |fixture: &mut Fixture| [older, newer].map(|link| fixture.holds_back(addr(1), link));
    assert_eq!(holding(&mut fixture), [false, false]);
    let mut revision = fixture.peers.revision();
    let key = fixture.key(addr(1));
    for link in [newer, older] {
        let (end, now) = (LinkEnd::Local(CloseCode::EVICTED), fixture.now);
        fixture
            .peers
            .disconnected(key, link, &end, now, &mut fixture.fx);
        assert_eq!(holding(&mut fixture), [true, false]);
        let another_is_read = link == newer;
        assert_eq!(fixture.peers.revision() > revision, another_is_read);
        revision = fixture.peers.revision();
    }
    fixture.peers.reader_ended(key, newer, &mut fixture.fx);
    assert!(!fixture.holds_back(addr(1), older));
}

#[test]
fn a_connection_that_does_not_stay_holds_back_until_the_one_before_it_is_quiet() {
    let mut fixture = fixture();
    let older = fixture.connect(addr(1), 101, Direction::Outgoing);
    let newer = fixture.accept(addr(1), 101);
    assert_ne!(
        newer, 0,
        "it is read, since the peer may wait for its answer"
    );
    let count = Arc::<Count>::default();
    let (waker, woken) = (Waker::from(Arc::clone(&count)), || {
        count.0.load(Ordering::Relaxed)
    });
    let key = fixture.key(addr(1));
    fixture.peers.reader_began(key, older, &waker);
    // Returns whether messages are held back `ms` later.
    let after = |fixture: &mut Fixture, ms| {
        fixture.now += Duration::from_millis(ms);
        fixture.read_empty(addr(1), older);
        fixture.holds_back(addr(1), newer)
    };
    assert!(after(&mut fixture, 19), "messages may be on their way");
    fixture.reading(addr(1), older, Reading::Paused);
    assert!(after(&mut fixture, 1000), "a message has no room yet");
    let now = fixture.now;
    fixture.reading(addr(1), older, Reading::Since(now));
    fixture
        .peers
        .each_conn(addr(1), |conn| conn.last_heard = now);
    assert!(after(&mut fixture, 19));
    assert!(!after(&mut fixture, 1));
    assert!(!fixture.holds_back(addr(1), older));
    fixture.fx.wakers.drain(..).for_each(Waker::wake);
    assert_eq!(woken(), 0);
}

#[test]
fn the_reader_of_an_older_connection_looks_before_it_counts_as_quiet() {
    let mut fixture = fixture();
    let older = fixture.connect(addr(1), 101, Direction::Outgoing);
    let newer = fixture.accept(addr(1), 101);
    let count = Arc::<Count>::default();
    let (waker, woken) = (Waker::from(Arc::clone(&count)), || {
        count.0.load(Ordering::Relaxed)
    });
    let key = fixture.key(addr(1));
    fixture.peers.reader_began(key, older, &waker);
    fixture.read_empty(addr(1), older);
    fixture.now += Duration::from_millis(20);
    for looks in 1..3 {
        let revision = fixture.peers.revision();
        assert!(
            fixture.holds_back(addr(1), newer),
            "its reader may not have had its turn since"
        );
        assert!(fixture.peers.revision() > revision);
        fixture.fx.wakers.drain(..).for_each(Waker::wake);
        assert_eq!(woken(), looks);
    }
    fixture.read_empty(addr(1), older);
    assert!(!fixture.holds_back(addr(1), newer));
    // It was not the last message.
    let now = fixture.now;
    fixture
        .peers
        .each_conn(addr(1), |conn| conn.last_heard = now);
    assert!(fixture.holds_back(addr(1), newer));
    fixture.now += Duration::from_millis(20);
    assert!(fixture.holds_back(addr(1), newer));
    fixture.read_empty(addr(1), older);
    assert!(!fixture.holds_back(addr(1), newer));
}

#[test]
fn a_connection_that_was_made_before_the_one_in_service_comes_first() {
    // The identity of the peer decides which connection stays.
    for (identity, direction) in [
        (101, Direction::Outgoing),
        (101, Direction::Incoming),
        (1, Direction::Outgoing),
        (1, Direction::Incoming),
    ] {
        for is_late in [false, true] {
            let what = format!("{identity}, {direction:?}, {is_late}");
            let mut fixture = fixture();
            let second = fixture.conn(addr(1), identity);
            fixture.now += Duration::from_millis(1);
            let other = match direction {
                Direction::Outgoing => Direction::Incoming,
                Direction::Incoming => Direction::Outgoing,
            };
            let first = fixture.connect(addr(1), identity, direction);
            let revision = fixture.peers.revision();
            let second = if is_late {
                fixture.enter(second, other)
            } else {
                fixture.connect(addr(1), identity, other)
            };
            assert_eq!(fixture.peers.revision() > revision, is_late, "{what}");
            assert_eq!(fixture.holds_back(addr(1), first), is_late, "{what}");
            if second == 0 {
                assert!(!is_late, "{what}: it is read at once");
                continue;
            }
            assert_eq!(fixture.holds_back(addr(1), second), !is_late, "{what}");
            let (before, after) = if is_late {
                (second, first)
            } else {
                (first, second)
            };
            fixture.now += Duration::from_millis(20);
            fixture.read_empty(addr(1), before);
            assert!(!fixture.holds_back(addr(1), after), "{what}");
        }
    }
}

#[test]
fn a_dial_that_may_have_been_accepted_looks_before_the_connection_of_its_peer_is_handed_in() {
    let mut fixture = fixture();
    let mut before = fixture.conn(addr(1), 101);
    fixture.touch(addr(1)).unwrap();
    fixture.offer(addr(1));
    let Step::Dial(NewDial { key: dial, .. }) = fixture.step(addr(1)) else {
        panic!("it is not connected");
    };
    let count = Arc::<Count>::default();
    let waker = Waker::from(Arc::clone(&count));
    let seen = fixture.peers.revision();
    fixture.peers.dial_waits(dial, seen, &waker);
    fixture.now += Duration::from_millis(1);
    let link = fixture.accept(addr(1), 101);
    for looks in 1..3 {
        assert!(fixture.holds_back(addr(1), link));
        fixture.fx.wakers.drain(..).for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::Relaxed), looks);
        // It had looked before the peer connected.
        fixture.peers.dial_waits(dial, seen, &waker);
    }
    let seen = fixture.peers.revision();
    fixture.peers.dial_waits(dial, seen, &waker);
    assert!(!fixture.holds_back(addr(1), link));
    // A later connection has it look again.
    fixture.lose(addr(1), link);
    let link = fixture.accept(addr(1), 101);
    assert!(fixture.holds_back(addr(1), link));
    // It had ended, and the peer may have written to its connection first.
    before.last_heard = fixture.now - Duration::from_millis(1);
    let (now, fx) = (fixture.now, &mut fixture.fx);
    fixture.peers.dial_succeeded(dial, before, now, fx);
    let first = fixture.fx.readers.last().unwrap().link;
    assert_ne!(first, link);
    assert!(!fixture.holds_back(addr(1), first));
    assert!(fixture.holds_back(addr(1), link));
    fixture.now += Duration::from_millis(20);
    fixture.read_empty(addr(1), first);
    assert!(!fixture.holds_back(addr(1), link));
}
