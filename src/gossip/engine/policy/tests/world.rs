//! Several engines and the messages between them.

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// Engines with the address, identity and role that others see.
#[derive(Default)]
pub(super) struct World {
    pub(super) engines: BTreeMap<SocketAddr, (Engine, Identity, Role)>,
    pub(super) links: Vec<(SocketAddr, SocketAddr)>,
    pub(super) now: Duration,
    /// The time after which tombstones are collected, if it is not an hour.
    pub(super) grace: Option<Duration>,
    /// If given, one in three messages is lost.
    pub(super) losses: Option<fastrand::Rng>,
}

impl World {
    pub(super) fn add(
        &mut self,
        id: ChitchatId,
        identity: Identity,
        role: Role,
        version: ProtocolVersion,
    ) {
        let config = GossipConfig {
            protocol_version: version,
            marked_for_deletion_grace_period: self.grace.unwrap_or(SECOND * 3600),
            ..config(id.addr().port())
        };
        let (at, engine) = (id.addr(), Engine::new(config, id, Duration::ZERO).unwrap());
        self.engines.insert(at, (engine, identity, role));
    }

    pub(super) fn connect(&mut self, claims: &Arc<Claims>, reads_v1: bool) {
        let roles: BTreeMap<_, _> = self.engines.iter().map(|(at, e)| (*at, e.2)).collect();
        for (at, (engine, ..)) in &mut self.engines {
            let peers = self.links.iter().filter_map(|(a, b)| match at {
                at if at == a => Some(*b),
                at if at == b => Some(*a),
                _ => None,
            });
            let seeds = peers.clone().collect();
            let connections = peers.map(|peer| Connection {
                addr: peer,
                reads_v1: reads_v1 && roles[&peer] != Role::Unauthenticated,
                invite: (roles[&peer] == Role::Leaf).then(|| Arc::clone(claims)),
            });
            engine.handle(
                Event::UnixTime(Duration::from_micros(START)),
                Duration::ZERO,
            );
            engine.handle(Event::Seeds(seeds), Duration::ZERO);
            engine.handle(Event::Connections(connections.collect()), Duration::ZERO);
        }
    }

    pub(super) fn run(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.now += SECOND;
            self.pass(Event::Round);
            self.pass(Event::Rumours);
        }
    }

    /// Passes an event to all engines, and delivers the messages that follow.
    pub(super) fn pass(&mut self, event: Event) {
        let mut queue = VecDeque::new();
        for (at, (engine, ..)) in &mut self.engines {
            let outputs = engine.handle(event.clone(), self.now);
            queue.extend(outputs.into_iter().map(|output| (*at, output)));
        }
        while let Some((from, output)) = queue.pop_front() {
            let Some((receivers, message)) = sending(output) else {
                continue;
            };
            for to in receivers {
                let is_lost = self.losses.as_mut().is_some_and(|rng| rng.u8(..3) == 0);
                let link = [(from, to), (to, from)];
                if is_lost || !link.iter().any(|link| self.links.contains(link)) {
                    continue;
                }
                let roles = [from, to].map(|at| self.engines[&at].2);
                // Over UDP, neither side proves anything.
                let (identity, role) = match roles.contains(&Role::Unauthenticated) {
                    true => (Identity::UNPROVED, Role::Unauthenticated),
                    false => (self.engines[&from].1, roles[0]),
                };
                let (engine, ..) = self.engines.get_mut(&to).unwrap();
                let event = Event::Message {
                    from,
                    identity,
                    role,
                    message: message.clone(),
                };
                let outputs = engine.handle(event, self.now);
                queue.extend(outputs.into_iter().map(|output| (to, output)));
            }
        }
    }
}
