//! Holders of an invite that keep to its quotas: whatever they set and delete, others accept it.

use std::collections::BTreeMap;

use super::world::World;
use super::*;

const GRACE: Duration = Duration::from_secs(20);

/// Returns what `engine` shows of leaf 1. Keys with a TTL, whose names begin with a `t`, may be there for longer than at
/// the leaf.
fn shown(engine: &Engine, of_leaf: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let member = find(engine, &leaf(1)).unwrap();
    let keys = member.key_values.into_iter();
    keys.filter(|(key, _)| !key.starts_with('t') || of_leaf.contains_key(key))
        .map(|(key, value)| (key, value.value))
        .collect()
}

/// Three core members, of which two are connected to leaf 1.
fn world(invite: &Arc<Claims>) -> World {
    let mut world = World {
        grace: Some(GRACE),
        ..World::default()
    };
    let version = ProtocolVersion::V1;
    for n in 1..=3 {
        add_core(&mut world, n);
    }
    world.add(leaf(1), identity(1), Role::Leaf, version);
    world.links = vec![(addr(1), addr(2)), (addr(2), addr(3))];
    for n in 1..=2 {
        world.links.push((identity(1).address(), addr(n)));
    }
    world.connect(invite, true);
    world
}

fn add_core(world: &mut World, n: u16) {
    let identity = Identity::from_bytes([100 + n as u8; 32]);
    world.add(core(n), identity, Role::Core, ProtocolVersion::V1);
}

fn leaf_of(world: &mut World) -> &mut Engine {
    let (leaf, ..) = world.engines.get_mut(&identity(1).address()).unwrap();
    leaf
}

/// Lets all messages arrive for a few rounds, and checks that all see what the leaf has.
fn settle(world: &mut World, context: &str) {
    let losses = world.losses.take();
    world.run(4);
    let leaf_1 = leaf_of(world);
    let all = find(leaf_1, &leaf(1)).unwrap().key_values.into_iter();
    let all = all.map(|(key, value)| (key, value.value)).collect();
    for (at, (engine, ..)) in &world.engines {
        let seen = shown(engine, &all);
        assert_eq!(seen, all, "{at} {context}");
        // However many keys it has replaced.
        let state = engine.state_of(&leaf(1)).unwrap();
        let held = (state.entries().count(), state.bytes());
        let is_within = held.0 <= 2 * 8 && held.1 <= 2 * 900;
        assert!(is_within, "{at} {context} {held:?}");
        for of_quotas in [Denial::Keys, Denial::Bytes, Denial::Rate] {
            assert_eq!(denied(engine, of_quotas), 0, "{at} {context} {of_quotas:?}");
        }
    }
    world.losses = losses;
}

/// Changes a key of the leaf at random. It may fail, if the quotas do not allow it.
fn change(world: &mut World, rng: &mut fastrand::Rng) {
    let now = world.now;
    let leaf = leaf_of(world);
    let key = format!("{}{}", ["k", "k", "t"][rng.usize(..3)], rng.u8(..12));
    let value = "v".repeat(rng.usize(..150));
    let _ = match (rng.u8(..3), key.starts_with('t')) {
        (0, _) => leaf.delete(&key, now).is_ok(),
        (_, true) => leaf.set_with_ttl(&key, &value, now).is_ok(),
        (_, false) => leaf.set(&key, &value, now).is_ok(),
    };
}

#[test]
fn whatever_a_leaf_sets_and_deletes_within_its_quotas_is_accepted_by_all() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let quotas = Quotas::default().with_max_changes_per_second(10_000);
        let quotas = quotas.with_max_keys(8).with_max_bytes(900);
        let smaller = quotas.with_max_keys(4).with_max_bytes(500);
        let mut world = world(&claims(quotas));
        leaf_of(&mut world).set_quotas(Some(quotas), NOW).unwrap();
        settle(&mut world, "before");
        world.losses = Some(rng.fork());
        for step in 0..600 {
            let context = format!("seed {seed}, step {step}");
            change(&mut world, &mut rng);
            world.now += Duration::from_millis(rng.u64(..400));
            match rng.u8(..4) {
                0 => world.pass(Event::Rumours),
                1 => world.pass(Event::Round),
                _ => {}
            }
            if step == 200 {
                // This one takes the whole state late, and holds tombstones for longer than the leaf.
                add_core(&mut world, 4);
                world.links.push((identity(1).address(), addr(4)));
                world.connect(&claims(quotas), true);
            }
            if step == 400 {
                settle(&mut world, &context);
                world.connect(&claims(smaller), true);
                let now = world.now;
                let _ = leaf_of(&mut world).set_quotas(Some(smaller), now);
            }
            if step == 500 {
                // The leaf may still have tombstones from the time of its larger quotas.
                add_core(&mut world, 5);
                world.links.push((identity(1).address(), addr(5)));
                world.connect(&claims(smaller), true);
            }
            if step % 40 == 0 {
                settle(&mut world, &context);
            }
        }
    }
}

#[test]
fn a_leaf_with_more_than_a_smaller_invite_allows_has_no_tombstones_left_once_it_has_deleted_enough()
{
    let mut page = Engine::new(config(7), leaf(1), Duration::ZERO).unwrap();
    for n in 1..=6 {
        page.set(&format!("k{n}"), "v", NOW).unwrap();
    }
    let smaller = Quotas::default().with_max_keys(2);
    page.set_quotas(Some(smaller), NOW).unwrap_err();
    let mut left = Vec::new();
    for n in 1..=4 {
        page.delete(&format!("k{n}"), NOW).unwrap();
        left.push(page.state_of(&leaf(1)).unwrap().entries().count());
    }
    assert_eq!(left, [6, 6, 6, 2]);
    assert!(page.next_rumours().is_some());
    assert_eq!(page.set_quotas(Some(smaller), NOW), Ok(false));
}
