//! Nodes that are all connected to each other, pages that are connected to one node each, and virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::credential::Keyring;
use gossip_transport::gossip::{
    Connection, DialPolicy, Engine, Event, GossipConfig, Liveness, Output,
};
use gossip_transport::message::{ChitchatId, ChitchatMessage, Message as _};
use gossip_transport::{ClusterSecret, Identity};

use crate::gossip::{deadline, next_due, received, sends};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A page to load.
pub(super) struct Page {
    number: u64,
    generation: u64,
}

pub(super) struct World {
    pub(super) now: Duration,
    engines: BTreeMap<SocketAddr, Engine>,
    nodes: Vec<SocketAddr>,
    links: BTreeMap<SocketAddr, BTreeSet<SocketAddr>>,
    in_flight: VecDeque<(SocketAddr, SocketAddr, ChitchatMessage)>,
    /// The bytes of the messages that were sent, while they are counted.
    bytes: Option<usize>,
}

impl Page {
    pub(super) fn new(number: u64, generation: u64) -> Self {
        Self { number, generation }
    }

    /// Returns the id of the page. Its key survives a reload.
    pub(super) fn id(&self) -> ChitchatId {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&self.number.to_be_bytes());
        let addr = Identity::from_bytes(key).address();
        ChitchatId::new(format!("page-{:05}", self.number), self.generation, addr)
    }
}

impl World {
    /// Starts nodes, and runs until they know each other.
    pub(super) fn new(nodes: u16) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            engines: BTreeMap::new(),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            in_flight: VecDeque::new(),
            bytes: None,
        };
        let secret = ClusterSecret::from_bytes(&[7; 32]).unwrap();
        for n in 0..nodes {
            let addr: SocketAddr = ([10, 0, 0, 1], n + 1).into();
            let id = ChitchatId::new(format!("node-{n:02}"), 1, addr);
            let config = GossipConfig::new("cluster", "unused").with_rng_seed(Some(n.into()));
            let mut engine = Engine::new(config, id, world.now).unwrap();
            engine.set_secrets(Some(&Keyring::from(secret.clone())), world.now);
            world.engines.insert(addr, engine);
            for other in world.nodes.clone() {
                world.link(addr, other);
            }
            world.nodes.push(addr);
        }
        world.run(SECOND * 10, |_| {});
        world
    }

    /// Loads a page, which has no secret and connects to one of the nodes. Returns its id.
    pub(super) fn load(&mut self, page: Page) -> ChitchatId {
        let id = page.id();
        let addr = id.gossip_advertise_addr;
        let config = GossipConfig::new("cluster", "unused").with_rng_seed(Some(page.number));
        let config = config.with_dial(DialPolicy::SeedsOnly);
        let engine = Engine::new(config, id.clone(), self.now).unwrap();
        self.engines.insert(addr, engine);
        let node = self.nodes[page.number as usize % self.nodes.len()];
        self.handle(addr, Event::Seeds(vec![node]));
        self.link(addr, node);
        id
    }

    /// Closes a page that has time to say so.
    pub(super) fn leave(&mut self, page: &ChitchatId) {
        let addr = page.gossip_advertise_addr;
        let engine = self.engines.get_mut(&addr).unwrap();
        let outputs = engine.leave(self.now);
        self.post(addr, outputs);
        while let Some(message) = self.in_flight.pop_front() {
            self.deliver(message);
        }
        self.lose(page);
    }

    /// Ends a page without a word, and its connections.
    pub(super) fn lose(&mut self, page: &ChitchatId) {
        let addr = page.gossip_advertise_addr;
        self.engines.remove(&addr);
        for peer in self.links.remove(&addr).unwrap_or_default() {
            self.links.entry(peer).or_default().remove(&addr);
            self.report(peer);
        }
    }

    fn link(&mut self, a: SocketAddr, b: SocketAddr) {
        self.links.entry(a).or_default().insert(b);
        self.links.entry(b).or_default().insert(a);
        self.report(b);
        self.report(a);
    }

    /// Passes its connections to an engine.
    fn report(&mut self, to: SocketAddr) {
        let links = self.links.get(&to).into_iter().flatten();
        let connections = links.map(|addr| Connection {
            addr: *addr,
            reads_v1: true,
            invite: None,
        });
        self.handle(to, Event::Connections(connections.collect()));
    }

    fn handle(&mut self, at: SocketAddr, event: Event) {
        if let Some(engine) = self.engines.get_mut(&at) {
            let outputs = engine.handle(event, self.now);
            self.post(at, outputs);
        }
    }

    fn post(&mut self, from: SocketAddr, outputs: Vec<Output>) {
        for (to, message) in sends(outputs) {
            if let Some(bytes) = &mut self.bytes {
                *bytes += message.clone().into_bytes().unwrap().len();
            }
            self.in_flight.push_back((from, to, message));
        }
    }

    fn deliver(&mut self, (from, to, message): (SocketAddr, SocketAddr, ChitchatMessage)) {
        let links = self.links.get(&from);
        if links.is_some_and(|links| links.contains(&to)) {
            self.handle(to, received(from, message));
        }
    }

    /// Runs for `time`. Calls `look` after each event.
    pub(super) fn run(&mut self, time: Duration, look: impl Fn(&Self)) {
        let end = self.now + time;
        loop {
            while let Some(message) = self.in_flight.pop_front() {
                self.deliver(message);
            }
            look(self);
            let dues = self.engines.iter().map(|(addr, e)| (next_due(e), *addr));
            let ((due, is_round), addr) = dues.min().unwrap();
            if due > end {
                break;
            }
            self.now = self.now.max(due);
            self.handle(addr, deadline(is_round));
        }
        self.now = end;
    }

    /// Returns the bytes that all members send while `time` passes.
    pub(super) fn bytes_in(&mut self, time: Duration) -> usize {
        self.bytes = Some(0);
        self.run(time, |_| {});
        self.bytes.take().unwrap()
    }

    /// Returns whether all members but itself see `id` so.
    pub(super) fn all_see(&self, id: &ChitchatId, liveness: Liveness) -> bool {
        let others = self.engines.values().filter(|engine| engine.id() != id);
        others
            .map(Engine::liveness_of_members)
            .all(|members| members.contains(&(id.clone(), liveness)))
    }

    /// Returns how each node shows the member with this name that takes precedence.
    pub(super) fn shown(&self, name: &str) -> Vec<(SocketAddr, Liveness)> {
        let mut shown = Vec::new();
        for node in &self.nodes {
            let members = self.engines[node].members().into_iter();
            let named = members.filter(|m| &*m.id.node_id == name && !m.superseded);
            shown.extend(named.map(|member| (*node, member.liveness)));
        }
        assert_eq!(shown.len(), self.nodes.len(), "each shows it once");
        shown
    }

    /// Returns the members that each of them knows.
    pub(super) fn members(&self) -> Vec<(SocketAddr, Vec<ChitchatId>)> {
        let engines = self.engines.iter();
        let ids = |engine: &Engine| {
            let members = engine.liveness_of_members().into_iter();
            members.map(|(id, _)| id).collect()
        };
        engines.map(|(addr, e)| (*addr, ids(e))).collect()
    }
}
