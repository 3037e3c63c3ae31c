//! The start of a whole cluster: engines that know one seed, in steps of a millisecond.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::gossip::{Engine, Event, GossipConfig, Liveness};
use gossip_transport::message::{ChitchatId, ChitchatMessage, Message};
use gossip_transport::{Identity, Role};

use crate::gossip::sends;

const INTERVAL: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(1);
/// How many steps are made between two looks at all members, which take longer than a step.
const STEPS_PER_LOOK: usize = 10;
/// How long a message takes.
const LATENCY: Duration = Duration::from_millis(1);
/// How long a member takes to resolve the name of its seed.
const RESOLVING: Duration = Duration::from_millis(20);

struct Start {
    engines: Vec<Engine>,
    started: Vec<Duration>,
    /// Messages by the time at which they arrive.
    in_flight: BTreeMap<Duration, Vec<(SocketAddr, usize, Bytes)>>,
    now: Duration,
    rng: fastrand::Rng,
}

fn addr(n: usize) -> SocketAddr {
    ([10, 0, 0, 1], 1000 + n as u16).into()
}

impl Start {
    /// Returns the time until every member sees every member live. The members start evenly over
    /// one interval; the first is the seed of the others.
    fn time_to_all_live(members: usize, seed: u64, most: Duration) -> Duration {
        let mut start = Self {
            engines: Vec::new(),
            started: Vec::new(),
            in_flight: BTreeMap::new(),
            now: Duration::ZERO,
            rng: fastrand::Rng::with_seed(seed),
        };
        while start.engines.len() < members || !start.all_live() {
            assert!(start.now < most, "{members} members: not within {most:?}");
            for _ in 0..STEPS_PER_LOOK {
                start.step(members);
            }
        }
        start.now
    }

    fn step(&mut self, members: usize) {
        let started = self.engines.len();
        if started < members && self.now >= INTERVAL * started as u32 / members as u32 {
            self.start();
        }
        for n in 0..self.engines.len() {
            if self.now == self.started[n] + RESOLVING {
                self.handle(n, Event::Seeds(vec![addr(0)]));
            }
            if self.engines[n].next_round() <= self.now {
                self.handle(n, Event::Round);
            }
        }
        for (from, to, bytes) in self.in_flight.remove(&self.now).unwrap_or_default() {
            let event = Event::Message {
                from,
                identity: Identity::UNPROVED,
                role: Role::Core,
                message: ChitchatMessage::decode(bytes).unwrap(),
            };
            self.handle(to, event);
        }
        self.now += STEP;
    }

    fn start(&mut self) {
        let n = self.engines.len();
        let id = ChitchatId::new(format!("node-{n:03}"), 1, addr(n));
        let mut config = GossipConfig::new("cluster", "unused").with_interval(INTERVAL);
        config.rng_seed = Some(self.rng.u64(..));
        self.engines
            .push(Engine::new(config, id, self.now).unwrap());
        self.started.push(self.now);
    }

    fn handle(&mut self, n: usize, event: Event) {
        let outputs = self.engines[n].handle(event, self.now);
        for (to, message) in sends(outputs) {
            let to = usize::from(to.port() - 1000);
            let arrived = self.in_flight.entry(self.now + LATENCY).or_default();
            arrived.push((addr(n), to, message.into_bytes().unwrap()));
        }
    }

    fn all_live(&self) -> bool {
        self.engines.iter().all(|engine| {
            let members = engine.members();
            let live = members.iter().filter(|m| m.liveness != Liveness::Dead);
            live.count() == self.engines.len()
        })
    }
}

#[test]
fn the_members_of_a_new_cluster_see_each_other_live_within_four_and_a_half_rounds() {
    // The last member starts after nearly one interval. Three heartbeats of it have to reach all:
    // that of its first round, and those of the next two.
    for (members, seeds) in [(3, 0..4), (10, 0..4), (30, 0..2), (100, 0..1)] {
        for seed in seeds {
            let took = Start::time_to_all_live(members, seed, INTERVAL * 9 / 2);
            println!("{members} members: {took:?}");
        }
    }
}
