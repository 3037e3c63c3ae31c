//! Many engines in virtual time, over a network that loses, duplicates and reorders messages. Every
//! message passes through the codec. There is no socket and no clock; the same seed produces the
//! same run.

mod cold_start;
mod start_bytes;
mod world;

use std::time::Duration;

use gossip_transport::gossip::Liveness;
use proptest::prelude::*;
use world::{Faults, World};

/// Returns the number of rounds in which a change must reach all `members`. A push-pull epidemic
/// needs a number that is logarithmic in the members (Demers et al., 1987); this is a generous
/// multiple of it.
fn enough_rounds(members: usize) -> usize {
    8 + 4 * members.ilog2() as usize
}

#[test]
fn a_key_reaches_all_members_in_a_logarithmic_number_of_rounds() {
    for members in [3, 10, 30] {
        let mut world = World::new(1, members, Faults::default());
        world.converge_on_membership();
        world.set(0, "k", "v");
        let rounds = world.rounds_until(enough_rounds(members), |w| w.all_read(0, "k", Some("v")));
        println!("{members} members: {rounds} rounds");
    }
}

#[test]
fn members_that_reach_only_one_other_receive_changes_as_quickly() {
    const MEMBERS: usize = 40;
    const BEHIND: [usize; 2] = [38, 39];
    let mut world = World::new(3, MEMBERS, Faults::default());
    for n in BEHIND {
        world.put_behind(0, n);
    }
    world.converge_on_membership();
    for n in 0..20 {
        let (value, reader) = (n.to_string(), BEHIND[n % 2]);
        world.set(reader, "k", &value);
        world.set(7, "k", &value);
        let rounds = world.rounds_until(enough_rounds(MEMBERS) / 2, |w| {
            BEHIND.iter().all(|n| w.all_see(*n, Liveness::Live))
                && w.all_read(reader, "k", Some(&value))
                && w.all_read(7, "k", Some(&value))
        });
        println!("change {n}: {rounds} rounds");
    }
}

#[test]
fn a_deleted_key_disappears_everywhere_and_its_tombstone_is_collected() {
    let mut world = World::new(2, 10, Faults::default());
    world.converge_on_membership();
    world.set(3, "k", "v");
    world.rounds_until(enough_rounds(10), |w| w.all_read(3, "k", Some("v")));
    world.delete(3, "k");
    world.rounds_until(enough_rounds(10), |w| w.all_read(3, "k", None));
    world.run(world.grace_rounds() + 5);
    // Later changes still arrive after all members have collected the tombstone.
    world.set(3, "l", "w");
    world.rounds_until(enough_rounds(10), |w| w.all_read(3, "l", Some("w")));
    assert!(world.all_read(3, "k", None));
}

#[test]
fn a_key_with_a_ttl_disappears_everywhere() {
    let mut world = World::new(3, 10, Faults::default());
    world.converge_on_membership();
    world.set_with_ttl(3, "k", "v");
    world.rounds_until(enough_rounds(10), |w| w.all_read(3, "k", Some("v")));
    let most = world.grace_rounds() + enough_rounds(10);
    world.rounds_until(most, |w| w.all_read(3, "k", None));
}

#[test]
fn a_member_that_missed_collected_tombstones_starts_afresh() {
    let mut world = World::new(4, 6, Faults::default());
    world.converge_on_membership();
    world.set(0, "old", "v");
    world.rounds_until(enough_rounds(6), |w| w.all_read(0, "old", Some("v")));
    world.cut_off(&[5]);
    world.delete(0, "old");
    world.set(0, "new", "w");
    world.run(world.grace_rounds() * 2);
    assert_eq!(world.read(5, 0, "old"), Some("v".to_owned()));
    world.heal();
    world.rounds_until(40, |w| {
        w.all_read(0, "old", None) && w.all_read(0, "new", Some("w"))
    });
}

#[test]
fn a_killed_member_is_found_dead_within_the_timeout_and_supersedes_itself_when_it_returns() {
    let mut world = World::new(5, 10, Faults::default());
    world.converge_on_membership();
    world.set(9, "k", "before the restart");
    world.run(30);
    let bound = world.detection_bound(9);
    let killed = world.now();
    world.kill(9);
    world.rounds_until(60, |w| w.all_see(9, Liveness::Dead));
    let took = world.now() - killed;
    // The last heartbeat may have reached some members a few rounds after it was sent.
    let slack = Duration::from_secs(enough_rounds(10) as u64);
    assert!(took <= bound + slack, "{took:?}, the bound is {bound:?}");

    world.restart(9, 2);
    world.rounds_until(30, |w| w.all_see(9, Liveness::Live));
    world.rounds_until(enough_rounds(10), |w| w.all_read(9, "k", None));
    assert!(world.earlier_generation_is_superseded(9));
}

#[test]
fn keys_from_before_a_restart_under_the_same_generation_do_not_return() {
    let mut world = World::new(6, 10, Faults::default());
    world.converge_on_membership();
    for n in 0..20 {
        world.set(9, &format!("old-{n}"), "v");
    }
    world.run(20);
    world.kill(9);
    world.run(3);
    world.restart(9, 1);
    world.set(9, "old-0", "new");
    world.set(9, "young", "v");
    world.rounds_until(60, |w| w.all_see(9, Liveness::Live));
    world.rounds_until(60, |w| {
        w.all_read(9, "young", Some("v"))
            && w.all_read(9, "old-0", Some("new"))
            && w.all_read(9, "old-1", None)
            && w.all_read(9, "old-19", None)
    });
}

#[test]
fn a_healed_partition_is_one_cluster_again() {
    let mut world = World::new(7, 10, Faults::default());
    world.converge_on_membership();
    world.cut_off(&[0, 1, 2, 3, 4]);
    world.set(0, "a", "left");
    world.set(9, "b", "right");
    world.rounds_until(80, |w| {
        w.sees(0, 9) == Liveness::Dead && w.sees(9, 0) == Liveness::Dead
    });
    assert_eq!(world.read(9, 0, "a"), None);
    world.heal();
    world.rounds_until(80, |w| {
        w.all_read(0, "a", Some("left"))
            && w.all_read(9, "b", Some("right"))
            && (0..10).all(|n| w.all_see(n, Liveness::Live))
    });
}

#[test]
fn a_suspended_member_comes_back_without_a_restart_and_finds_no_other_dead() {
    let mut world = World::new(8, 6, Faults::default());
    world.converge_on_membership();
    world.run(20);
    world.freeze(5);
    world.rounds_until(80, |w| w.sees(0, 5) == Liveness::Dead);
    world.thaw(5);
    world.run(1);
    assert!((0..5).all(|n| world.sees(5, n) == Liveness::Live));
    world.rounds_until(30, |w| w.all_see(5, Liveness::Live));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Once the network works, all members agree, whatever it lost, duplicated and reordered before.
    #[test]
    fn all_members_agree_once_a_faulty_network_works_again(
        seed in any::<u64>(),
        loss in 0.0..0.6,
        duplicates in 0.0..0.3,
        delay in 0_usize..4,
        steps in prop::collection::vec((0_usize..6, 0_u8..5, 0_u8..4), 1..60),
    ) {
        let mut world = World::new(seed, 6, Faults { loss, duplicates, max_delay: delay });
        for (member, key, what) in steps {
            let key = format!("k{key}");
            match what {
                0 => world.delete(member, &key),
                1 => world.set_with_ttl(member, &key, &format!("{member}")),
                2 => world.set(member, &key, &format!("{}", world.now().as_secs())),
                _ => world.run(1),
            }
        }
        world.calm();
        world.run(world.grace_rounds() + 30);
        for owner in 0..6 {
            for reader in 0..6 {
                prop_assert_eq!(world.keys(reader, owner), world.keys(owner, owner));
            }
        }
    }
}
