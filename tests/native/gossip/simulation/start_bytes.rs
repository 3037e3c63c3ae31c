//! What the members of a new cluster send each other, and how much of it the receivers have already.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::gossip::{Connection, Engine, Event, GossipConfig, Liveness};
use gossip_transport::message::{ChitchatId, ChitchatMessage, Delta, Version};

use crate::gossip::{deadline, next_due, received, sends};

const MEMBERS: usize = 30;
const KEYS: usize = 10;
const VALUE: usize = 90;
const LATENCY: Duration = Duration::from_millis(1);

/// Bytes of keys and values, and how many of them the receivers had.
#[derive(Debug, Default, Clone, Copy)]
struct Changes {
    all: usize,
    known: usize,
}

#[derive(Debug, Default)]
struct Sent {
    in_exchanges: Changes,
    pushed: Changes,
}

struct World {
    engines: Vec<Engine>,
    in_flight: BTreeMap<(Duration, u64), (usize, usize, ChitchatMessage)>,
    connected: BTreeSet<(usize, usize)>,
    /// The keys of each member, by their versions.
    known: BTreeSet<(usize, ChitchatId, Version)>,
    /// The number of SynAcks that each member has yet to answer to another.
    expected: BTreeMap<(usize, usize), usize>,
    sent: Sent,
    count: u64,
    now: Duration,
}

fn addr(n: usize) -> SocketAddr {
    ([10, 0, 0, 1], 1000 + n as u16).into()
}

impl World {
    fn start(&mut self, n: usize, rng: &mut fastrand::Rng) {
        let id = ChitchatId::new(format!("node-{n:03}"), 1, addr(n));
        let mut config = GossipConfig::new("cluster", "unused").with_rng_seed(Some(rng.u64(..)));
        for key in 0..KEYS {
            let value = std::iter::repeat_with(|| rng.alphanumeric()).take(VALUE);
            let key = (format!("key-{key}"), value.collect());
            config.initial_key_values.push(key);
        }
        self.engines
            .push(Engine::new(config, id, self.now).unwrap());
        self.handle(n, Event::Connections(Vec::new()));
        self.handle(n, Event::Seeds(vec![addr(0)]));
    }

    fn connect(&mut self, a: usize, b: usize) {
        if a == b || !self.connected.insert((a, b)) {
            return;
        }
        self.connected.insert((b, a));
        for n in [a, b] {
            let peers = self.connected.iter().filter(|(own, _)| *own == n);
            let peers = peers.map(|(_, other)| Connection {
                addr: addr(*other),
                reads_v1: true,
                invite: None,
            });
            let peers = Event::Connections(peers.collect());
            self.handle(n, peers);
        }
    }

    fn handle(&mut self, n: usize, event: Event) {
        for (to, message) in sends(self.engines[n].handle(event, self.now)) {
            let to = usize::from(to.port() - 1000);
            if to >= self.engines.len() {
                continue;
            }
            self.count += 1;
            let due = self.now + LATENCY;
            self.in_flight.insert((due, self.count), (n, to, message));
        }
    }

    fn arrive(&mut self, from: usize, to: usize, message: ChitchatMessage) {
        self.connect(from, to);
        match &message {
            ChitchatMessage::SynAck { delta, .. } => {
                *self.expected.entry((to, from)).or_default() += 1;
                self.note(to, delta, true);
            }
            ChitchatMessage::Ack { delta, .. } => {
                let expected = self.expected.entry((from, to)).or_default();
                let is_answer = *expected > 0;
                *expected = expected.saturating_sub(1);
                self.note(to, delta, is_answer);
            }
            ChitchatMessage::Syn { .. } | ChitchatMessage::BadCluster { .. } => {}
        }
        self.handle(to, received(addr(from), message));
    }

    fn note(&mut self, to: usize, delta: &Delta, is_answer: bool) {
        let changes = if is_answer {
            &mut self.sent.in_exchanges
        } else {
            &mut self.sent.pushed
        };
        for node in &delta.node_deltas {
            let id = &node.chitchat_id;
            for kv in &node.key_values {
                let len = kv.key.len() + kv.value.len();
                changes.all += len;
                let is_own = *id == *self.engines[to].id();
                let is_new = self.known.insert((to, id.clone(), kv.version)) && !is_own;
                changes.known += usize::from(!is_new) * len;
            }
        }
    }

    fn step(&mut self, end: Duration) {
        let timers = self.engines.iter().enumerate();
        let timer = timers.map(|(n, engine)| (n, next_due(engine)));
        let timer = timer.min_by_key(|(_, due)| *due);
        let message = self.in_flight.keys().next().copied();
        let at = timer.map_or(end, |(_, (at, _))| at).min(end);
        if let Some(key) = message.filter(|(due, _)| *due <= at) {
            self.now = self.now.max(key.0);
            let (from, to, message) = self.in_flight.remove(&key).unwrap();
            self.arrive(from, to, message);
        } else if let Some((n, (at, is_round))) = timer.filter(|(_, (at, _))| *at <= end) {
            self.now = self.now.max(at);
            self.handle(n, deadline(is_round));
        } else {
            self.now = end;
        }
    }

    fn run_until(&mut self, end: Duration) {
        while self.now < end {
            self.step(end);
        }
    }

    fn all_live(&self) -> bool {
        self.engines.iter().all(|engine| {
            let members = engine.members();
            let live = members.iter().filter(|m| m.liveness != Liveness::Dead);
            live.count() == MEMBERS
        })
    }
}

#[test]
fn the_members_of_a_new_cluster_push_nothing_that_all_have_learnt_before_the_first_is_live() {
    const NEEDED: usize = MEMBERS * (MEMBERS - 1) * KEYS * (VALUE + 5);
    for seed in 0..3 {
        let mut world = World {
            engines: Vec::new(),
            in_flight: BTreeMap::new(),
            connected: BTreeSet::new(),
            known: BTreeSet::new(),
            expected: BTreeMap::new(),
            sent: Sent::default(),
            count: 0,
            now: Duration::ZERO,
        };
        let rng = &mut fastrand::Rng::with_seed(seed);
        for n in 0..MEMBERS {
            world.run_until(Duration::from_secs(1) * n as u32 / MEMBERS as u32);
            world.start(n, rng);
        }
        world.run_until(Duration::from_secs(10));
        assert!(world.all_live());
        println!("needed {NEEDED}, sent {:?}", world.sent);
        let Sent {
            in_exchanges,
            pushed,
        } = world.sent;
        let new = in_exchanges.all - in_exchanges.known + pushed.all - pushed.known;
        assert_eq!(new, NEEDED);
        assert!(pushed.known < NEEDED / 10, "{pushed:?}");
        // Members ask several others at a time, and each other.
        assert!(in_exchanges.known < NEEDED * 3 / 2, "{in_exchanges:?}");
    }
}
