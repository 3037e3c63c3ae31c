//! Engines, the messages between them, and virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::gossip::{Engine, Event, GossipConfig, Liveness, Member, Output};
use gossip_transport::message::{ChitchatId, ChitchatMessage, Message, Version};
use gossip_transport::{Identity, Role};

use crate::gossip::sends;

const GRACE: Duration = Duration::from_secs(40);

#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    pub loss: f64,
    pub duplicates: f64,
    /// The longest delay of a message, in rounds.
    pub max_delay: usize,
}

pub struct World {
    members: Vec<Option<Engine>>,
    frozen: BTreeSet<usize>,
    generations: Vec<u64>,
    cut_off: BTreeSet<usize>,
    /// Members that can reach only one other member, each with that member.
    behind: BTreeMap<usize, usize>,
    faults: Faults,
    rng: fastrand::Rng,
    /// Messages, by the round in which they arrive.
    in_flight: BTreeMap<usize, Vec<(SocketAddr, usize, Bytes)>>,
    round: usize,
    /// The versions that each member last claimed to have of each other: `last_gc_version` and
    /// `max_version`. The pair never decreases; after a reset the second number alone may.
    claims: BTreeMap<(usize, ChitchatId), (Version, Version)>,
}

fn addr(n: usize) -> SocketAddr {
    ([10, 0, 0, 1], 1000 + n as u16).into()
}

impl World {
    pub fn new(seed: u64, members: usize, faults: Faults) -> Self {
        let mut world = Self {
            members: (0..members).map(|_| None).collect(),
            frozen: BTreeSet::new(),
            generations: vec![1; members],
            cut_off: BTreeSet::new(),
            behind: BTreeMap::new(),
            faults,
            rng: fastrand::Rng::with_seed(seed),
            in_flight: BTreeMap::new(),
            round: 0,
            claims: BTreeMap::new(),
        };
        for n in 0..members {
            world.restart(n, 1);
        }
        world
    }

    fn id(&self, n: usize) -> ChitchatId {
        ChitchatId::new(format!("node-{n:02}"), self.generations[n], addr(n))
    }

    pub fn now(&self) -> Duration {
        Duration::from_secs(self.round as u64)
    }

    pub fn grace_rounds(&self) -> usize {
        GRACE.as_secs() as usize
    }

    pub fn kill(&mut self, n: usize) {
        self.members[n] = None;
    }

    pub fn restart(&mut self, n: usize, generation: u64) {
        self.generations[n] = generation;
        let mut config = GossipConfig::new("cluster", "unused");
        config.rng_seed = Some(self.rng.u64(..));
        config.marked_for_deletion_grace_period = GRACE;
        let mut engine = Engine::new(config, self.id(n), self.now()).unwrap();
        engine.handle(Event::Seeds(vec![addr(0)]), self.now());
        self.members[n] = Some(engine);
        self.claims.retain(|(of, _), _| *of != n);
    }

    pub fn freeze(&mut self, n: usize) {
        self.frozen.insert(n);
    }

    pub fn thaw(&mut self, n: usize) {
        self.frozen.remove(&n);
    }

    pub fn cut_off(&mut self, side: &[usize]) {
        self.cut_off = side.iter().copied().collect();
    }

    pub fn put_behind(&mut self, bridge: usize, n: usize) {
        self.behind.insert(n, bridge);
    }

    fn are_apart(&self, a: usize, b: usize) -> bool {
        let hides = |from, to| self.behind.get(&from).is_some_and(|bridge| *bridge != to);
        self.cut_off.contains(&a) != self.cut_off.contains(&b) || hides(a, b) || hides(b, a)
    }

    pub fn heal(&mut self) {
        self.cut_off.clear();
    }

    /// Ends all faults.
    pub fn calm(&mut self) {
        self.faults = Faults::default();
    }

    fn engine(&mut self, n: usize) -> &mut Engine {
        self.members[n].as_mut().unwrap()
    }

    pub fn set(&mut self, n: usize, key: &str, value: &str) {
        let now = self.now();
        self.engine(n).set(key, value, now).unwrap();
    }

    pub fn set_with_ttl(&mut self, n: usize, key: &str, value: &str) {
        let now = self.now();
        self.engine(n).set_with_ttl(key, value, now).unwrap();
    }

    pub fn delete(&mut self, n: usize, key: &str) {
        let now = self.now();
        // A key that does not exist is not an error here.
        let _ = self.engine(n).delete(key, now);
    }

    /// Advances by one second: a round of every member, and every message that is due.
    fn step(&mut self) {
        self.round += 1;
        let now = self.now();
        for n in 0..self.members.len() {
            if self.frozen.contains(&n) {
                continue;
            }
            if let Some(engine) = &mut self.members[n] {
                let outputs = engine.handle(Event::Round, now);
                self.post(n, outputs);
            }
        }
        // A reply arrives in the same round unless it is delayed.
        while let Some(messages) = self.in_flight.remove(&self.round) {
            for (from, to, bytes) in messages {
                self.deliver(from, to, bytes, now);
            }
        }
    }

    fn post(&mut self, from: usize, outputs: Vec<Output>) {
        for (to, message) in sends(outputs) {
            self.check_claims(from, &message);
            let to = usize::from(to.port() - 1000);
            if self.are_apart(from, to) || self.rng.f64() < self.faults.loss {
                continue;
            }
            let bytes = message.into_bytes().unwrap();
            assert!(bytes.len() <= 65_507);
            let copies = if self.rng.f64() < self.faults.duplicates {
                2
            } else {
                1
            };
            for _ in 0..copies {
                let due = self.round + self.rng.usize(0..=self.faults.max_delay);
                let queue = self.in_flight.entry(due).or_default();
                queue.push((addr(from), to, bytes.clone()));
            }
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: usize, bytes: Bytes, now: Duration) {
        if self.frozen.contains(&to) {
            return;
        }
        let Some(engine) = &mut self.members[to] else {
            return;
        };
        let message = ChitchatMessage::decode(bytes).unwrap();
        let event = Event::Message {
            from,
            identity: Identity::UNPROVED,
            role: Role::Core,
            message,
        };
        let outputs = engine.handle(event, now);
        self.post(to, outputs);
    }

    fn check_claims(&mut self, from: usize, message: &ChitchatMessage) {
        let (ChitchatMessage::Syn { digest, .. } | ChitchatMessage::SynAck { digest, .. }) =
            message
        else {
            return;
        };
        for (id, node) in &digest.node_digests {
            let claim = (node.last_gc_version, node.max_version);
            let before = self.claims.insert((from, id.clone()), claim);
            assert!(
                before <= Some(claim),
                "{from} of {id:?}: {claim:?} after {before:?}"
            );
        }
    }

    pub fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.step();
        }
    }

    /// Runs until `done` returns true, and returns the number of rounds that it took.
    pub fn rounds_until(&mut self, most: usize, done: impl Fn(&Self) -> bool) -> usize {
        for rounds in 0..=most {
            if done(self) {
                return rounds;
            }
            self.step();
        }
        panic!("not within {most} rounds");
    }

    pub fn converge_on_membership(&mut self) {
        let members = self.members.len();
        self.rounds_until(40, |w| (0..members).all(|n| w.all_see(n, Liveness::Live)));
    }

    fn alive(&self) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(|n| self.members[*n].is_some())
    }

    fn member(&self, reader: usize, of: usize) -> Option<Member> {
        let id = self.id(of);
        let members = self.members[reader].as_ref().unwrap().members();
        members.into_iter().find(|member| member.id == id)
    }

    pub fn read(&self, reader: usize, of: usize, key: &str) -> Option<String> {
        let value = self.member(reader, of)?.key_values.remove(key)?;
        Some(value.value)
    }

    pub fn keys(&self, reader: usize, of: usize) -> BTreeMap<String, String> {
        let keys = self.member(reader, of).map(|member| member.key_values);
        keys.unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.value))
            .collect()
    }

    pub fn all_read(&self, of: usize, key: &str, value: Option<&str>) -> bool {
        self.alive()
            .all(|reader| self.read(reader, of, key).as_deref() == value)
    }

    pub fn sees(&self, reader: usize, of: usize) -> Liveness {
        self.member(reader, of)
            .map_or(Liveness::Dead, |m| m.liveness)
    }

    pub fn all_see(&self, of: usize, liveness: Liveness) -> bool {
        self.alive()
            .filter(|reader| *reader != of)
            .all(|reader| self.sees(reader, of) == liveness)
    }

    /// Returns the longest silence after which any member finds `of` dead.
    pub fn detection_bound(&self, of: usize) -> Duration {
        let id = self.id(of);
        self.alive()
            .filter_map(|n| self.members[n].as_ref()?.failure_detection_timeout(&id))
            .max()
            .unwrap()
    }

    pub fn earlier_generation_is_superseded(&self, of: usize) -> bool {
        let members = self.members[0].as_ref().unwrap().members();
        let name = self.id(of).node_id;
        let found: Vec<_> = members.iter().filter(|m| m.id.node_id == name).collect();
        found.len() == 2 && found[0].superseded && !found[1].superseded
    }
}
