//! Many peers, hostile ones among them, whose tasks are run as the driver does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake};

use proptest::prelude::*;

use super::*;
use crate::rt::sync::Signal;
use crate::transport_layer::core::SenderPlace;
use crate::transport_layer::core::step::DialKey;
use crate::transport_layer::stats::ConnectionInfo;
use crate::transport_layer::{ClosedError, OverflowPolicy};

/// A waker that notes that it was called.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The task of a peer.
struct Task {
    key: PeerKey,
    signal: Arc<Signal>,
    deadline: Option<Instant>,
    /// It writes this batch.
    writes: Option<(u64, VecDeque<Bytes>)>,
}

/// A caller that waits, and its waker.
struct Caller<T> {
    place: T,
    flag: Arc<Flag>,
}

/// A core whose tasks, dials and readers are run.
struct Sim {
    fixture: Fixture,
    tasks: BTreeMap<u64, Task>,
    dials: Vec<(DialKey, SocketAddr)>,
    readers: BTreeMap<u64, PeerKey>,
    ever_read: BTreeSet<u64>,
    /// The writes of senders.
    direct: Vec<(PeerKey, u64, VecDeque<Bytes>)>,
    /// The identity that each message was queued for, if there was one.
    meant_for: Vec<Option<Identity>>,
    senders: Vec<Caller<(SenderPlace, Bytes)>>,
    waiting: Vec<Caller<Wanted>>,
}

impl Sim {
    fn new(config: TransportLayerConfig) -> Self {
        Self {
            fixture: Fixture::new(config),
            tasks: BTreeMap::new(),
            dials: Vec::new(),
            readers: BTreeMap::new(),
            ever_read: BTreeSet::new(),
            direct: Vec::new(),
            meant_for: Vec::new(),
            senders: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn carry_out(&mut self) {
        let fx = std::mem::take(&mut self.fixture.fx);
        fx.wakers.into_iter().for_each(Waker::wake);
        for NewPeer { key, signal } in fx.new_peers {
            let deadline = Some(self.fixture.now);
            let task = Task {
                key,
                signal,
                deadline,
                writes: None,
            };
            self.tasks.insert(key.id, task);
        }
        for reader in fx.readers {
            assert!(self.ever_read.insert(reader.link), "it is read twice");
            self.readers.insert(reader.link, reader.key);
        }
    }

    /// Returns a message to `to`.
    fn message(&mut self, to: SocketAddr) -> Bytes {
        let number = u32::try_from(self.meant_for.len()).unwrap();
        self.meant_for.push(self.fixture.peers.owner_of(to));
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    fn assert_meant_for(&self, identity: Identity, batch: &VecDeque<Bytes>) {
        for message in batch {
            let number = u32::from_be_bytes(message[..].try_into().unwrap());
            let owner = self.meant_for[usize::try_from(number).unwrap()];
            assert!(owner.is_none_or(|owner| owner == identity), "for {owner:?}");
        }
    }

    /// Runs all tasks that are awake and do not write, until all wait.
    fn run_tasks(&mut self) {
        self.carry_out();
        for round in 0.. {
            assert!(round < 1000, "the tasks never rest");
            let mut cx = Context::from_waker(Waker::noop());
            let now = self.fixture.now;
            let awake = self.tasks.values().find(|task| {
                let due = task.deadline.is_some_and(|at| at <= now);
                task.writes.is_none() && (due || task.signal.poll(&mut cx).is_ready())
            });
            let Some(key) = awake.map(|task| task.key) else {
                return;
            };
            let mut batch = VecDeque::new();
            let fx = &mut self.fixture.fx;
            let step = self.fixture.peers.next_step(key, &mut batch, now, fx);
            let task = self.tasks.get_mut(&key.id).unwrap();
            // It goes on at once, unless it waits.
            task.deadline = Some(now);
            match step {
                Step::Gone => {
                    self.tasks.remove(&key.id);
                }
                Step::Wait(deadline) => task.deadline = deadline,
                Step::Dial(dial) => {
                    assert!(
                        crate::net::may_be_dialled(dial.to),
                        "{} is dialled",
                        dial.to
                    );
                    self.dials.push((dial.key, dial.to));
                }
                Step::Write { link, conn, .. } => {
                    task.writes = Some((link, batch.clone()));
                    self.assert_meant_for(conn.identity, &batch);
                }
                Step::Keepalive { link, .. } => self.fixture.peers.kept_alive(key, link, now),
                Step::Probe { .. } => {}
            }
            self.carry_out();
        }
    }

    /// Ends a write of a task. The network has taken all but the last `left` messages.
    fn end_write(&mut self, which: usize, left: usize) {
        let writing = self.tasks.values_mut().filter(|task| task.writes.is_some());
        let mut writing: Vec<_> = writing.collect();
        if writing.is_empty() {
            return;
        }
        let which = which % writing.len();
        let task = &mut writing[which];
        let (link, mut batch) = task.writes.take().unwrap();
        let key = task.key;
        batch.drain(..batch.len().saturating_sub(left));
        let (flushed, now) = (batch.is_empty(), self.fixture.now);
        let write = (key, link, Writer::Task);
        let fx = &mut self.fixture.fx;
        self.fixture
            .peers
            .written(write, &mut batch, flushed, now, fx);
    }

    fn end_direct(&mut self, taken: bool) {
        if let Some((key, link, mut batch)) = self.direct.pop() {
            if taken {
                batch.clear();
            }
            let write = (key, link, Writer::Sender);
            let (now, fx) = (self.fixture.now, &mut self.fixture.fx);
            self.fixture
                .peers
                .written(write, &mut batch, taken, now, fx);
        }
    }

    fn offer(&mut self, to: SocketAddr) {
        let message = self.message(to);
        let now = self.fixture.now;
        let offered = match self.fixture.peers.offer_to_busy(to, message) {
            Ok(()) => return,
            Err(bytes) => {
                let fx = &mut self.fixture.fx;
                self.fixture.peers.offer(to, bytes, || now, fx)
            }
        };
        match offered {
            Offered::Done | Offered::Closed(_) => {}
            Offered::Full(bytes) => {
                let flag = Arc::new(Flag::default());
                flag.0.store(true, Ordering::Relaxed);
                let place = (SenderPlace::new(to), bytes);
                self.senders.push(Caller { place, flag });
            }
            Offered::Write(direct) => {
                self.assert_meant_for(direct.conn.identity, &direct.batch);
                self.direct.push((direct.key, direct.link, direct.batch));
            }
        }
    }

    /// Lets the callers that were woken look again.
    fn run_callers(&mut self) {
        let now = self.fixture.now;
        for mut sender in std::mem::take(&mut self.senders) {
            if !sender.flag.0.swap(false, Ordering::Relaxed) {
                self.senders.push(sender);
                continue;
            }
            let waker = Waker::from(Arc::clone(&sender.flag));
            let (place, bytes) = (&mut sender.place.0, sender.place.1.clone());
            let number = u32::from_be_bytes(bytes[..].try_into().unwrap());
            // It is queued for whoever has the address now.
            let owner = self.fixture.peers.owner_of(place.to);
            self.meant_for[usize::try_from(number).unwrap()] = owner;
            let fx = &mut self.fixture.fx;
            let offered = self
                .fixture
                .peers
                .offer_again(bytes, place, now, &waker, fx);
            match offered {
                Offered::Full(_) => self.senders.push(sender),
                Offered::Done | Offered::Closed(_) => {
                    self.fixture.peers.withdraw(place, &mut self.fixture.fx);
                }
                Offered::Write(_) => panic!("it has waited"),
            }
            self.carry_out();
        }
        for mut caller in std::mem::take(&mut self.waiting) {
            if !caller.flag.0.swap(false, Ordering::Relaxed) {
                self.waiting.push(caller);
                continue;
            }
            let waker = Waker::from(Arc::clone(&caller.flag));
            let (wanted, fx) = (&mut caller.place, &mut self.fixture.fx);
            let poll = self.fixture.peers.poll_connected(wanted, now, &waker, fx);
            match poll {
                Poll::Pending => self.waiting.push(caller),
                Poll::Ready(_) => self.fixture.peers.stop_wanting(wanted),
            }
            self.carry_out();
        }
    }

    fn assert_invariants(&self) {
        self.fixture.peers.assert_named_consistently();
        let now = self.fixture.now;
        self.fixture.peers.assert_at_rest(now, |id| {
            let task = &self.tasks[&id];
            task.writes.is_none().then_some(task.deadline)
        });
        for caller in &self.waiting {
            let (connected, _) = self.fixture.peers.outlook(caller.place.addr);
            assert!(!connected, "a caller is not woken");
        }
        for sender in &self.senders {
            let (_, ready) = self.fixture.peers.outlook(sender.place.0.to);
            assert!(!ready, "a sender is not woken");
        }
        let stats = self.fixture.stats();
        let mut total = stats.total.clone();
        for (addr, one) in &stats.peers {
            let sum = one.sent + one.queued + one.dropped.total();
            assert_eq!(one.submitted, sum, "{addr}");
            assert!(one.queued <= 3);
            total.merge(one);
        }
        let sum = total.sent + total.queued + total.dropped.total();
        assert_eq!(total.submitted, sum);
        let is_unproved = |c: &&ConnectionInfo| c.remote_identity == Identity::UNPROVED;
        let unproved = stats.connections.iter().filter(is_unproved).count();
        assert!(unproved <= 2 && stats.connections.len() - unproved <= 6);
        assert!(stats.peers.len() <= 9);
        let aliases = self.fixture.peers.alias_count();
        assert!(aliases <= 16 * stats.peers.len());
    }

    /// Ends all writes, dials and connections.
    fn end_everything(&mut self) {
        let now = self.fixture.now;
        while !self.direct.is_empty() {
            self.end_direct(true);
        }
        for _ in 0..self.tasks.len() {
            self.end_write(0, 0);
        }
        let error = Arc::new(ClosedError.into());
        for (key, _) in std::mem::take(&mut self.dials) {
            let fx = &mut self.fixture.fx;
            self.fixture.peers.dial_failed(key, &error, now, fx);
        }
        for (link, key) in std::mem::take(&mut self.readers) {
            let fx = &mut self.fixture.fx;
            self.fixture
                .peers
                .disconnected(key, link, &LinkEnd::Lost, now, fx);
            self.fixture.peers.reader_ended(key, link, fx);
        }
    }

    /// Lets all callers and tasks run until nothing changes.
    fn rest(&mut self) {
        for round in 0.. {
            assert!(round < 1000, "the callers never rest");
            self.run_tasks();
            let awake = |flag: &Flag| flag.0.load(Ordering::Relaxed);
            let awake = self.senders.iter().any(|sender| awake(&sender.flag))
                || self.waiting.iter().any(|caller| awake(&caller.flag));
            if !awake {
                return;
            }
            self.run_callers();
        }
    }
}

/// An address that can be listened at, or the key address of an identity.
fn any_address(n: u8, identity: u8) -> SocketAddr {
    match n {
        0 => id(identity.max(1)).address(),
        n => addr(n),
    }
}

proptest! {
    #[test]
    fn many_peers_keep_to_their_names_and_places(
        policy in 0..3,
        operations in proptest::collection::vec((0..18, 0..6_u8, 0..4_u8, 0..6_u8, 0..2500_u64), 1..150),
    ) {
        let mut config = TransportLayerConfig::default()
            .with_max_connections(6)
            .with_max_unauthenticated_connections(2)
            .with_max_connections_per_identity(3)
            .with_max_connections_per_host(4)
            .with_max_peers(9)
            .with_max_outgoing_bytes(40);
        config.outgoing.overflow = match policy {
            0 => OverflowPolicy::DropOldest,
            1 => OverflowPolicy::DropNewest,
            _ => OverflowPolicy::Backpressure,
        };
        config.outgoing.max_messages = 3;
        let mut sim = Sim::new(config);
        for (operation, peer, identity, other, time) in operations {
            let to = any_address(peer, identity);
            let which = usize::from(other);
            // Our identity is in the middle of theirs.
            let identity = [0, 1, 2, 101][usize::from(identity)];
            let stated = (other > 0).then(|| any_address(other, identity));
            let now = sim.fixture.now;
            match operation {
                0..=2 => sim.offer(to),
                3 | 4 => {
                    let mut conn = sim.fixture.conn(addr(20 + other % 2), identity);
                    conn.stated = Some(to).filter(|_| time % 3 != 0);
                    sim.fixture.peers.accepted(conn, now, &mut sim.fixture.fx);
                }
                5 | 6 if !sim.dials.is_empty() => {
                    let (key, target) = sim.dials.remove(which % sim.dials.len());
                    let mut conn = sim.fixture.conn(target, identity);
                    conn.stated = stated.filter(|_| identity != 0);
                    let fx = &mut sim.fixture.fx;
                    sim.fixture.peers.dial_succeeded(key, conn, now, fx);
                }
                7 if !sim.dials.is_empty() => {
                    let (key, addr) = sim.dials.remove(which % sim.dials.len());
                    let error = if time % 4 == 0 {
                        ConnectError::NotDialable { addr }
                    } else {
                        ConnectError::Io { addr, source: std::io::ErrorKind::TimedOut.into() }
                    };
                    let fx = &mut sim.fixture.fx;
                    sim.fixture.peers.dial_failed(key, &Arc::new(error.into()), now, fx);
                }
                8 | 9 => sim.end_write(which, usize::from(identity) % 4),
                10 => sim.end_direct(time % 3 != 0),
                11 if !sim.readers.is_empty() => {
                    let nth = which % sim.readers.len();
                    let (&link, &key) = sim.readers.iter().nth(nth).unwrap();
                    sim.readers.remove(&link);
                    let code = [CloseCode::DUPLICATE, CloseCode::REDUNDANT, CloseCode::NORMAL];
                    let end = match time % 4 {
                        3 => LinkEnd::Lost,
                        n => LinkEnd::Remote(code[usize::try_from(n).unwrap()]),
                    };
                    let fx = &mut sim.fixture.fx;
                    sim.fixture.peers.disconnected(key, link, &end, now, fx);
                    sim.fixture.peers.reader_ended(key, link, fx);
                }
                12 if !sim.readers.is_empty() => {
                    let nth = which % sim.readers.len();
                    let (&link, &key) = sim.readers.iter().nth(nth).unwrap();
                    match time % 3 {
                        0 => sim.fixture.peers.heard(key, link, now),
                        1 => sim.fixture.peers.reading(key, link, Reading::Paused),
                        _ => sim.fixture.peers.reading(key, link, Reading::Since(now)),
                    }
                }
                13 => sim.fixture.peers.each_conn(to, |conn| {
                    conn.last_heard = now;
                    conn.last_answer = Some(now);
                }),
                14 => {
                    let flag = Arc::new(Flag::default());
                    flag.0.store(true, Ordering::Relaxed);
                    let place = Wanted::new(to);
                    sim.waiting.push(Caller { place, flag });
                }
                15 if time % 2 == 0 => if let Some(mut caller) = sim.waiting.pop() {
                    sim.fixture.peers.stop_wanting(&mut caller.place);
                },
                15 => if let Some(mut sender) = sim.senders.pop() {
                    let fx = &mut sim.fixture.fx;
                    sim.fixture.peers.withdraw(&mut sender.place.0, fx);
                },
                16 => drop(sim.fixture.peers.ask_for(to, now, &mut sim.fixture.fx)),
                _ => sim.fixture.now += Duration::from_millis(time),
            }
            sim.rest();
            sim.assert_invariants();
        }
        // Everybody leaves, and everything is forgotten.
        for mut caller in std::mem::take(&mut sim.waiting) {
            sim.fixture.peers.stop_wanting(&mut caller.place);
        }
        for mut sender in std::mem::take(&mut sim.senders) {
            sim.fixture.peers.withdraw(&mut sender.place.0, &mut sim.fixture.fx);
        }
        for _ in 0..20 {
            sim.end_everything();
            sim.rest();
            sim.assert_invariants();
            sim.fixture.now += secs(40);
        }
        prop_assert!(sim.fixture.stats().peers.is_empty());
        prop_assert!(sim.tasks.is_empty(), "{} tasks are left", sim.tasks.len());
        prop_assert_eq!(sim.fixture.peers.alias_count(), 0);
    }
}
