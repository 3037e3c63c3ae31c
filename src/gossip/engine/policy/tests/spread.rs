//! What a leaf says about itself reaches everyone through core members.

use super::world::World;
use super::*;

#[test]
fn what_a_leaf_says_about_itself_reaches_everyone_through_core_members() {
    for (version, reads_v1) in [
        (ProtocolVersion::V0, false),
        (ProtocolVersion::V1, false),
        (ProtocolVersion::V1, true),
    ] {
        let mut world = World::default();
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
