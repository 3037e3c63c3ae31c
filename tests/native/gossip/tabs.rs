//! Browser tabs behind a proxy: engines in virtual time that know which connections exist. Nodes are
//! connected to each other; a tab dials nothing but the proxy, which forwards to the first node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::Identity;
use gossip_transport::credential::is_key_address;
use gossip_transport::gossip::{Connection, DialPolicy, Engine, Event, GossipConfig, Liveness};
use gossip_transport::message::{ChitchatId, ChitchatMessage, ProtocolVersion};

use super::{deadline, next_due, received, sends};

const SECOND: Duration = Duration::from_secs(1);

struct World {
    nodes: usize,
    engines: Vec<Option<Engine>>,
    /// Tabs with a connection.
    connected: BTreeSet<usize>,
    proxy_is_up: bool,
    in_flight: BTreeMap<(Duration, u64), (usize, SocketAddr, ChitchatMessage)>,
    sent: u64,
    /// Messages of tabs to the proxy's address and to that of the node behind it.
    to_proxy: u64,
    to_node: u64,
    /// Messages to a tab that is not connected, and of a tab to a member that it cannot reach.
    to_nowhere: u64,
    versions: BTreeSet<bool>,
    now: Duration,
    rng: fastrand::Rng,
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The stand-in address of the URL at which tabs dial.
fn proxy() -> SocketAddr {
    ([240, 0, 0, 1], 443).into()
}

impl World {
    /// Returns members that know each other. The first `nodes` are nodes, the others are tabs.
    fn new(nodes: usize, tabs: usize) -> Self {
        let mut world = Self {
            nodes,
            engines: Vec::new(),
            connected: BTreeSet::new(),
            proxy_is_up: true,
            in_flight: BTreeMap::new(),
            sent: 0,
            to_proxy: 0,
            to_node: 0,
            to_nowhere: 0,
            versions: BTreeSet::new(),
            now: Duration::ZERO,
            rng: fastrand::Rng::with_seed(5),
        };
        for n in 0..nodes + tabs {
            let mut config = GossipConfig::new("cluster", "unused");
            config.rng_seed = Some(world.rng.u64(..));
            let mut seed = world.addr(0);
            if n >= nodes {
                config.dial = DialPolicy::SeedsOnly;
                seed = proxy();
            }
            let mut engine = Engine::new(config, world.id(n), world.now).unwrap();
            engine.handle(Event::Seeds(vec![seed]), world.now);
            world.engines.push(Some(engine));
        }
        for n in 0..nodes + tabs {
            world.report_connections(n);
        }
        world.run_for(SECOND * 60);
        assert!(world.everyone_is_live());
        world
    }

    fn addr(&self, n: usize) -> SocketAddr {
        if n < self.nodes {
            ([10, 0, 0, 1], 1000 + n as u16).into()
        } else {
            Identity::from_bytes([n as u8; 32]).address()
        }
    }

    fn id(&self, n: usize) -> ChitchatId {
        ChitchatId::new(format!("member-{n:03}"), 1, self.addr(n))
    }

    fn find(&self, addr: SocketAddr) -> Option<usize> {
        (0..self.engines.len()).find(|n| self.addr(*n) == addr)
    }

    fn report_connections(&mut self, n: usize) {
        let to: Vec<usize> = match n {
            0 => (1..self.nodes)
                .chain(self.connected.iter().copied())
                .collect(),
            n if n < self.nodes => (0..self.nodes).filter(|other| *other != n).collect(),
            n if self.connected.contains(&n) => vec![0],
            _ => Vec::new(),
        };
        let to = to.into_iter().filter(|n| self.engines[*n].is_some());
        let connections = to.map(|n| Connection {
            addr: self.addr(n),
            reads_v1: true,
            invite: None,
        });
        self.handle(n, Event::Connections(connections.collect()));
    }

    fn connect(&mut self, tab: usize) {
        self.connected.insert(tab);
        self.report_connections(0);
        self.report_connections(tab);
    }

    fn stop_proxy(&mut self) {
        self.proxy_is_up = false;
        let tabs = std::mem::take(&mut self.connected);
        for n in tabs.into_iter().chain([0]) {
            self.report_connections(n);
        }
    }

    fn kill(&mut self, n: usize) {
        self.engines[n] = None;
        if n == 0 {
            self.stop_proxy();
        }
        (0..self.engines.len()).for_each(|other| self.report_connections(other));
    }

    fn handle(&mut self, n: usize, event: Event) {
        let Some(engine) = &mut self.engines[n] else {
            return;
        };
        for (to, message) in sends(engine.handle(event, self.now)) {
            let is_tab = n >= self.nodes;
            self.to_proxy += u64::from(is_tab && to == proxy());
            self.to_node += u64::from(is_tab && to != proxy());
            if is_tab && !self.connected.contains(&n) {
                assert_eq!(to, proxy(), "a tab dials its seed only");
                if !self.proxy_is_up {
                    continue;
                }
                self.connect(n);
            }
            let target = if to == proxy() {
                Some(0)
            } else {
                self.find(to)
            };
            let target = target.unwrap();
            let peer = if is_tab { n } else { target };
            let has_route = match (is_tab, is_key_address(to)) {
                (false, false) => true,
                (true, _) => target == 0,
                (false, true) => n == 0 && self.connected.contains(&peer),
            };
            if !has_route {
                self.to_nowhere += 1;
                continue;
            }
            self.versions
                .insert(message.version() == ProtocolVersion::V1);
            let due = self.now + Duration::from_micros(self.rng.u64(1_000..10_000));
            self.sent += 1;
            let from = self.addr(n);
            self.in_flight
                .insert((due, self.sent), (target, from, message));
        }
    }

    fn next(&mut self, end: Duration) -> bool {
        let running = self.engines.iter().enumerate();
        let timers = running.filter_map(|(n, engine)| Some((n, next_due(engine.as_ref()?))));
        let (n, (at, is_round)) = timers.min_by_key(|(_, due)| *due).unwrap();
        let message = self.in_flight.keys().next().copied();
        if let Some(key) = message.filter(|(due, _)| *due <= at.min(end)) {
            self.now = self.now.max(key.0);
            let (to, from, message) = self.in_flight.remove(&key).unwrap();
            let is_cut = |n: usize| n >= self.nodes && !self.connected.contains(&n);
            if !is_cut(to) && !self.find(from).is_some_and(is_cut) {
                self.handle(to, received(from, message));
            }
        } else if at <= end {
            self.now = self.now.max(at);
            self.handle(n, deadline(is_round));
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

    /// Returns how long the member `seen_by` waits for `id` before it takes it for dead.
    fn timeout(&self, id: &ChitchatId, seen_by: usize) -> Duration {
        let engine = self.engines[seen_by].as_ref().unwrap();
        engine.failure_detection_timeout(id).unwrap()
    }

    fn liveness(&self, of: usize, seen_by: usize) -> Liveness {
        let members = self.engines[seen_by].as_ref().unwrap().members();
        let found = members.iter().find(|m| m.id == self.id(of));
        found.map_or(Liveness::Dead, |member| member.liveness)
    }

    /// Returns whether nobody finds another one dead. A tab that is away for three seconds has left meanwhile.
    fn everyone_is_live(&self) -> bool {
        let all = 0..self.engines.len();
        all.clone().all(|of| {
            let mut observers = all.clone();
            observers.all(|by| self.liveness(of, by) != Liveness::Dead)
        })
    }

    fn set(&mut self, n: usize, value: &str) {
        let now = self.now;
        self.engines[n]
            .as_mut()
            .unwrap()
            .set("k", value, now)
            .unwrap();
    }

    fn all_have(&self, of: usize, value: &str) -> bool {
        let id = self.id(of);
        let mut engines = self.engines.iter().flatten();
        engines.all(|engine| engine.member_value(&id, "k") == Some(value))
    }

    /// Returns the time until all members have what member `of` has set.
    fn time_to_all(&mut self, of: usize, value: &str, most: Duration) -> Duration {
        let start = self.now;
        while !self.all_have(of, value) {
            assert!(self.next(start + most), "not within {most:?}");
        }
        self.now - start
    }

    /// Returns the mean time until all members have a change of member `of`.
    fn mean_time(&mut self, of: usize) -> Duration {
        let mut sum = Duration::ZERO;
        for n in 0..40 {
            let value = format!("{n} at {:?}", self.now);
            self.set(of, &value);
            sum += self.time_to_all(of, &value, SECOND * 3);
            self.run_for(ms(530));
        }
        sum / 40
    }
}

#[test]
fn a_tab_behind_one_connection_is_as_quick_as_a_node() {
    let mut world = World::new(12, 1);
    let of_tab = world.mean_time(12);
    let of_node = World::new(13, 0).mean_time(12);
    println!("tab {of_tab:?}, node {of_node:?}");
    assert!(
        of_tab * 2 < of_node * 3,
        "{of_tab:?}, a node takes {of_node:?}"
    );
    // Changes of others reach the tab by a rumour as well.
    let to_tab = world.mean_time(5);
    assert!(
        to_tab * 2 < of_node * 3,
        "{to_tab:?}, a node takes {of_node:?}"
    );
}

#[test]
fn a_tab_spends_its_rounds_on_its_connection_and_nobody_sends_where_no_route_leads() {
    let mut world = World::new(12, 3);
    (world.to_proxy, world.to_node, world.to_nowhere) = (0, 0, 0);
    world.versions.clear();
    world.run_for(SECOND * 100);
    assert!(world.everyone_is_live());
    assert_eq!(world.to_nowhere, 0);
    // A Syn of each tab in each round, and answers. The seed is not asked twice because it is
    // connected under another name.
    assert!(world.to_node >= 300, "{}", world.to_node);
    assert!(world.to_proxy < 30, "{}", world.to_proxy);
}

#[test]
fn a_seed_that_is_connected_under_another_name_is_not_asked_twice_in_each_round() {
    let mut world = World::new(1, 1);
    (world.to_proxy, world.to_node) = (0, 0);
    world.run_for(SECOND * 100);
    assert!(world.to_node >= 100, "{}", world.to_node);
    assert!(world.to_proxy < 30, "{}", world.to_proxy);
}

#[test]
fn members_that_are_known_to_read_v1_are_addressed_in_v1() {
    let mut world = World::new(6, 0);
    world.versions.clear();
    world.run_for(SECOND * 20);
    assert_eq!(world.versions, BTreeSet::from([true]));
}

#[test]
fn a_restart_of_the_proxy_looks_like_no_death_and_gossip_goes_on_at_once() {
    let mut world = World::new(12, 3);
    for (n, pause) in [1, 3, 5].into_iter().enumerate() {
        world.stop_proxy();
        let (tab, node) = (format!("tab {n}"), format!("node {n}"));
        world.set(12, &tab);
        world.set(7, &node);
        for _ in 0..pause * 10 {
            world.run_for(ms(100));
            assert!(world.everyone_is_live(), "after {pause} s");
        }
        world.proxy_is_up = true;
        while world.connected.len() < 3 {
            assert!(world.next(world.now + SECOND * 2));
        }
        let took = world.time_to_all(12, &tab, SECOND);
        let took = took + world.time_to_all(7, &node, SECOND);
        assert!(took < ms(150), "{took:?}");
        for _ in 0..200 {
            world.run_for(ms(100));
            assert!(world.everyone_is_live());
        }
    }
}

#[test]
fn a_tab_that_is_cut_off_finds_nobody_dead_for_half_a_minute() {
    let mut world = World::new(12, 1);
    world.stop_proxy();
    for _ in 0..280 {
        world.run_for(ms(100));
        assert!((0..12).all(|n| world.liveness(n, 12) == Liveness::Live));
    }
    world.proxy_is_up = true;
    for _ in 0..100 {
        world.run_for(ms(100));
        assert!((0..12).all(|n| world.liveness(n, 12) == Liveness::Live));
    }
}

#[test]
fn a_tab_finds_the_only_node_dead_in_the_end() {
    let mut world = World::new(1, 1);
    let id = world.id(0);
    let timeout = world.timeout(&id, 1);
    world.kill(0);
    world.run_for(SECOND * 30);
    assert_eq!(world.liveness(0, 1), Liveness::Live);
    world.run_for(timeout + SECOND * 2);
    assert_eq!(world.liveness(0, 1), Liveness::Dead);
}

#[test]
fn a_node_finds_the_only_other_one_dead_as_soon_as_without_connections() {
    let mut world = World::new(2, 0);
    let id = world.id(0);
    let timeout = world.timeout(&id, 1);
    world.kill(0);
    world.run_for(timeout + SECOND * 2);
    assert_eq!(world.liveness(0, 1), Liveness::Dead);
}
