//! What a leaf says about itself reaches everyone through core members.

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// Engines with the address, identity and role that others see.
struct World {
    engines: BTreeMap<SocketAddr, (Engine, Identity, Role)>,
    links: Vec<(SocketAddr, SocketAddr)>,
    now: Duration,
}

impl World {
    fn add(&mut self, id: ChitchatId, identity: Identity, role: Role, version: ProtocolVersion) {
        let config = GossipConfig {
            protocol_version: version,
            ..config(id.addr().port())
        };
        let (at, engine) = (id.addr(), Engine::new(config, id, Duration::ZERO).unwrap());
        self.engines.insert(at, (engine, identity, role));
    }

    fn connect(&mut self, claims: &Arc<Claims>, reads_v1: bool) {
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

    fn run(&mut self, rounds: u32) {
        let mut queue = VecDeque::new();
        for _ in 0..rounds {
            self.now += SECOND;
            for event in [Event::Round, Event::Rumours] {
                for (at, (engine, ..)) in &mut self.engines {
                    let outputs = engine.handle(event.clone(), self.now);
                    queue.extend(outputs.into_iter().map(|output| (*at, output)));
                }
                while let Some((from, output)) = queue.pop_front() {
                    let Some((receivers, message)) = sending(output) else {
                        continue;
                    };
                    for to in receivers {
                        let link = [(from, to), (to, from)];
                        if !link.iter().any(|link| self.links.contains(link)) {
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
    }
}

#[test]
fn what_a_leaf_says_about_itself_reaches_everyone_through_core_members() {
    for (version, reads_v1) in [
        (ProtocolVersion::V0, false),
        (ProtocolVersion::V1, false),
        (ProtocolVersion::V1, true),
    ] {
        let mut world = World {
            engines: BTreeMap::new(),
            links: Vec::new(),
            now: Duration::ZERO,
        };
        for n in 1..=3_u16 {
            let identity = Identity::from_bytes([100 + n as u8; 32]);
            world.add(core(n), identity, Role::Core, version);
        }
        for n in 1..=2 {
            world.add(leaf(n), identity(n), Role::Leaf, version);
        }
        let over_udp = ChitchatId::new("udp-9", 1, addr(9));
        world.add(
            over_udp,
            Identity::UNPROVED,
            Role::Unauthenticated,
            ProtocolVersion::V0,
        );
        let [a, b] = [1, 2].map(|n| identity(n).address());
        world.links = vec![
            (addr(1), addr(2)),
            (addr(2), addr(3)),
            (addr(1), addr(3)),
            (a, addr(1)),
            (b, addr(2)),
            (addr(9), addr(3)),
        ];
        world.connect(&claims(Quotas::default()), reads_v1);
        world.run(10);
        for (round, value) in ["first", "second"].into_iter().enumerate() {
            let now = world.now;
            let (tab, ..) = world.engines.get_mut(&a).unwrap();
            tab.set("k", value, now).unwrap();
            world.run(10);
            for (at, (engine, _, role)) in &world.engines {
                let seen = engine.member_value(&leaf(1), "k");
                let expected = Some(value);
                assert_eq!(seen, expected, "{at} {role:?} {version:?} {round}");
                if *at != a {
                    let member = find(engine, &leaf(1)).unwrap();
                    assert_eq!(member.liveness, crate::gossip::Liveness::Live, "{at}");
                }
            }
        }
    }
}
