//! Rumours: a hundred engines in virtual time with a resolution of milliseconds, over a network with
//! latency and loss. There is no socket and no clock; the same seed produces the same run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::Message as _;
use gossip_transport::gossip::{Engine, Event, GossipConfig};
use gossip_transport::message::{ChitchatId, ChitchatMessage};

use super::{deadline, next_due, received, sends};

struct World {
    engines: Vec<Engine>,
    in_flight: BTreeMap<(Duration, u64), (usize, SocketAddr, ChitchatMessage)>,
    sent: u64,
    /// Bytes of Acks that were sent as rumours.
    rumour_bytes: usize,
    now: Duration,
    loss: f64,
    /// The number of members without those that joined later.
    first: usize,
    /// Tells which members make changes. Default: all.
    active: Option<fn(usize) -> bool>,
    rng: fastrand::Rng,
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn addr(n: usize) -> SocketAddr {
    ([10, 0, 0, 1], 1000 + n as u16).into()
}

fn id(n: usize) -> ChitchatId {
    ChitchatId::new(format!("node-{n:03}"), 1, addr(n))
}

impl World {
    /// Returns members that know each other, with their rounds spread over the second.
    fn new(members: usize, change: impl Fn(&mut GossipConfig)) -> Self {
        let mut rng = fastrand::Rng::with_seed(7);
        let engines = (0..members).map(|n| {
            let mut config = GossipConfig::new("cluster", "unused");
            config.rng_seed = Some(rng.u64(..));
            change(&mut config);
            let mut engine = Engine::new(config, id(n), Duration::ZERO).unwrap();
            engine.handle(Event::Seeds(vec![addr(0)]), Duration::ZERO);
            engine
        });
        let mut world = Self {
            engines: engines.collect(),
            in_flight: BTreeMap::new(),
            sent: 0,
            rumour_bytes: 0,
            now: Duration::ZERO,
            loss: 0.0,
            first: members,
            active: None,
            rng,
        };
        for n in 0..members {
            world.now = Duration::from_secs(1) * n as u32 / members as u32;
            world.step(n, Event::Round);
        }
        world.run_for(Duration::from_secs(20));
        for engine in &world.engines {
            assert_eq!(engine.members().len(), members);
        }
        world
    }

    fn step(&mut self, n: usize, event: Event) {
        let is_rumour = matches!(event, Event::Rumours);
        let outputs = self.engines[n].handle(event, self.now);
        for (to, message) in sends(outputs) {
            if is_rumour {
                self.rumour_bytes += message.clone().into_bytes().unwrap().len();
            }
            if self.rng.f64() < self.loss {
                continue;
            }
            let due = self.now + Duration::from_micros(self.rng.u64(1_000..10_000));
            let to = usize::from(to.port() - 1000);
            self.sent += 1;
            self.in_flight
                .insert((due, self.sent), (to, addr(n), message));
        }
    }

    /// Performs the next event up to `end`. Returns false if there is none.
    fn next(&mut self, end: Duration) -> bool {
        let timers = self.engines.iter().map(next_due).enumerate();
        let (n, (at, is_round)) = timers.min_by_key(|(_, due)| *due).unwrap();
        let message = self.in_flight.keys().next().copied();
        if let Some(key) = message.filter(|(due, _)| *due <= at.min(end)) {
            self.now = self.now.max(key.0);
            let (to, from, message) = self.in_flight.remove(&key).unwrap();
            self.step(to, received(from, message));
        } else if at <= end {
            self.now = self.now.max(at);
            self.step(n, deadline(is_round));
        } else {
            self.now = end;
            return false;
        }
        true
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.next(end) {}
    }

    fn set(&mut self, n: usize, key: &str, value: &str) {
        self.engines[n].set(key, value, self.now).unwrap();
    }

    /// Returns the number of members that know `value` for `key` of member `of`.
    fn have(&self, of: usize, key: &str, value: &str) -> usize {
        let reads = |engine: &&Engine| engine.member_value(&id(of), key) == Some(value);
        self.engines[..self.first].iter().filter(reads).count()
    }

    /// Sets a key of member `of`, and returns the time until all members have it.
    fn time_to_all(&mut self, of: usize, value: &str, most: Duration) -> Duration {
        self.set(of, "k", value);
        let start = self.now;
        while self.have(of, "k", value) < self.first {
            assert!(self.next(start + most), "not within {most:?}");
        }
        self.now - start
    }

    /// Adds a member that knows the first one as its seed.
    fn join(&mut self) {
        let n = self.engines.len();
        let mut config = GossipConfig::new("cluster", "unused");
        config.rng_seed = Some(self.rng.u64(..));
        let mut engine = Engine::new(config, id(n), self.now).unwrap();
        engine.handle(Event::Seeds(vec![addr(0)]), self.now);
        self.engines.push(engine);
    }

    /// Makes `changes`, one after the other, and returns the times until all members that did not
    /// join later have each of them, sorted, and the number of copies of a change that were sent.
    fn measure(&mut self, changes: usize) -> (Vec<Duration>, u64) {
        let (before, members) = (self.rumours_sent(), self.first);
        let mut times = Vec::new();
        while times.len() < changes {
            let member = self.rng.usize(0..members);
            if self.active.is_some_and(|is_active| !is_active(member)) {
                continue;
            }
            let value = format!("{member} {} {:?}", times.len(), self.now);
            times.push(self.time_to_all(member, &value, Duration::from_secs(5)));
            self.run_for(ms(300));
        }
        times.sort_unstable();
        let copies = (self.rumours_sent() - before) / changes as u64;
        let (p50, p99) = (times[changes / 2], times[(changes * 99).div_ceil(100) - 1]);
        let max = times[changes - 1];
        println!("p50 {p50:?}, p99 {p99:?}, max {max:?}; {copies} copies of a change");
        (times, copies)
    }

    fn rumours_sent(&self) -> u64 {
        self.engines.iter().map(|e| e.counts().rumours_sent).sum()
    }
}

#[test]
fn ninety_nine_of_a_hundred_changes_reach_a_hundred_members_within_a_quarter_of_a_second() {
    let mut world = World::new(100, |_| {});
    let (times, copies) = world.measure(150);
    assert!(times[148] < ms(250), "{:?}", &times[140..]);
    // Four for each member, which is a third of what random copies take.
    assert!(copies < 420, "{copies}");
}

#[test]
fn lost_messages_cost_more_copies_and_hardly_more_time() {
    for (loss, most) in [(0.02, 450), (0.1, 500)] {
        let mut world = World::new(60, |_| {});
        world.loss = loss;
        let (times, copies) = world.measure(40);
        assert!(times[35] < ms(250), "{loss}: {:?}", &times[30..]);
        assert!(copies < most, "{loss}: {copies}");
    }
}

#[test]
fn members_that_pass_nothing_on_do_not_hold_up_rumours() {
    // As members of the published crate do.
    let passive = std::cell::Cell::new(0);
    let mut world = World::new(60, |config| {
        passive.set(passive.get() + 1);
        if passive.get() % 3 == 0 {
            config.rumours.fanout = 0;
        }
    });
    world.active = Some(|n| (n + 1) % 3 != 0);
    let (times, copies) = world.measure(40);
    assert!(times[38] < ms(250), "{:?}", &times[30..]);
    assert!(copies < 450, "{copies}");
}

#[test]
fn members_that_know_different_others_still_reach_all_quickly() {
    let mut world = World::new(60, |_| {});
    let mut times = Vec::new();
    for _ in 0..6 {
        world.join();
        // The members find the new one live one by one in the meantime.
        world.run_for(ms(1500));
        let (took, copies) = world.measure(8);
        times.extend(took);
        assert!(copies < 450, "{copies}");
    }
    times.sort_unstable();
    assert!(times[46] < ms(250), "{:?}", &times[40..]);
}

#[test]
fn without_changes_nothing_is_sent_between_rounds() {
    let mut world = World::new(20, |_| {});
    world.run_for(Duration::from_secs(10));
    let before = world.rumours_sent();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.rumours_sent(), before);
    assert!(world.engines.iter().all(|e| e.next_rumours().is_none()));
}

#[test]
fn rounds_and_repairs_bring_what_rumours_miss_on_a_bad_network() {
    let mut world = World::new(50, |_| {});
    world.loss = 0.3;
    for n in 0..20 {
        let member = world.rng.usize(0..50);
        world.time_to_all(member, &n.to_string(), Duration::from_secs(20));
    }
}

#[test]
fn a_missing_change_is_asked_for_at_once() {
    let mut world = World::new(2, |_| {});
    world.loss = 1.0;
    world.set(0, "missed", "v");
    world.run_for(ms(60));
    world.loss = 0.0;
    // A round must not bring it: the next one of both members must be further away than this.
    let next_round = world.engines.iter().map(Engine::next_round).min().unwrap();
    if next_round - world.now < ms(100) {
        world.loss = 1.0;
        world.run_for(ms(150));
        world.loss = 0.0;
    }
    world.set(0, "k", "v");
    world.run_for(ms(60));
    assert_eq!(world.have(0, "missed", "v"), 2);
    assert_eq!(world.have(0, "k", "v"), 2);
}

#[test]
fn a_member_that_changes_all_the_time_stays_within_its_budget() {
    const A_SECOND: usize = 20_000;
    let mut world = World::new(10, |config| config.rumours.max_bytes_per_second = A_SECOND);
    world.run_for(Duration::from_secs(5));
    world.rumour_bytes = 0;
    let seconds = 5;
    for n in 0..seconds * 1000 {
        world.set(0, &format!("k{}", n % 50), &format!("{n:0>100}"));
        world.run_for(ms(1));
    }
    // All ten members pass the changes on.
    let most = 10 * (seconds + 1) * A_SECOND;
    assert!(
        world.rumour_bytes <= most,
        "{} of {most}",
        world.rumour_bytes
    );
    assert!(world.rumour_bytes > A_SECOND, "{}", world.rumour_bytes);
    world.run_for(Duration::from_secs(10));
    assert_eq!(
        world.have(0, "k49", &format!("{:0>100}", seconds * 1000 - 1)),
        10
    );
}

#[test]
fn a_fanout_of_zero_leaves_everything_to_the_rounds() {
    let mut world = World::new(20, |config| config.rumours.fanout = 0);
    let time = world.time_to_all(0, "v", Duration::from_secs(10));
    assert!(time > ms(300), "{time:?}");
    assert_eq!(world.rumours_sent(), 0);
}
