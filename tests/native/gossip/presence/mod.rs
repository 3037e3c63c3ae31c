//! Members that leave and pages that are gone: in virtual time, and on sockets.

mod sockets;
mod world;

use std::time::Duration;

use gossip_transport::gossip::Liveness;
use world::{Page, SECOND, World};

#[test]
fn a_page_that_is_gone_without_a_word_has_left_for_all_within_five_seconds() {
    let mut world = World::new(20);
    let pages: Vec<_> = (0..10).map(|n| world.load(Page::new(n, 1))).collect();
    world.run(SECOND * 15, |_| {});
    for page in &pages {
        assert!(world.all_see(page, Liveness::Live), "{page:?}");
    }
    world.lose(&pages[3]);
    let lost = world.now;
    world.run(SECOND * 5, |_| {});
    assert!(world.all_see(&pages[3], Liveness::Left));
    let others = pages.iter().filter(|page| **page != pages[3]);
    for page in others {
        assert!(world.all_see(page, Liveness::Live), "{page:?}");
    }
    assert_eq!(world.now, lost + SECOND * 5);
}

#[test]
fn a_page_that_leaves_has_left_for_all_at_once() {
    let mut world = World::new(20);
    let pages: Vec<_> = (0..10).map(|n| world.load(Page::new(n, 1))).collect();
    world.run(SECOND * 15, |_| {});
    world.leave(&pages[3]);
    world.run(Duration::from_millis(300), |_| {});
    assert!(world.all_see(&pages[3], Liveness::Left));
}

#[test]
fn a_page_that_is_reloaded_within_two_seconds_is_never_seen_as_dead() {
    for has_time_to_leave in [true, false] {
        let mut world = World::new(5);
        for n in 1..5 {
            world.load(Page::new(n, 1));
        }
        world.load(Page::new(0, 1));
        world.run(SECOND * 15, |_| {});
        let never_dead = |world: &World| {
            for (by, shown) in world.shown("page-00000") {
                assert_ne!(shown, Liveness::Dead, "by {by} at {:?}", world.now);
            }
        };
        for generation in 2..6 {
            let page = Page::new(0, generation - 1).id();
            if has_time_to_leave {
                world.leave(&page);
            } else {
                world.lose(&page);
            }
            world.run(SECOND * 2, never_dead);
            let next = world.load(Page::new(0, generation));
            world.run(SECOND * 20, never_dead);
            assert!(world.all_see(&next, Liveness::Live));
        }
    }
}

#[test]
fn a_crowd_of_page_loads_leaves_no_trace_after_a_minute() {
    const LOADS: u64 = 1_500;
    const PER_SECOND: u64 = 4;
    let mut world = World::new(5);
    let stays = world.load(Page::new(LOADS, 1));
    world.run(SECOND * 20, |_| {});
    let at_rest = world.bytes_in(SECOND * 20);
    let mut open = std::collections::VecDeque::new();
    for n in 0..LOADS {
        open.push_back(world.load(Page::new(n, 1)));
        // Each stays for three seconds. One in four has no time to say that it leaves.
        if open.len() as u64 > 3 * PER_SECOND {
            let page = open.pop_front().unwrap();
            if n % 4 == 0 {
                world.lose(&page);
            } else {
                world.leave(&page);
            }
        }
        world.run(SECOND / u32::try_from(PER_SECOND).unwrap(), |_| {});
    }
    for page in open {
        world.leave(&page);
    }
    world.run(SECOND * 60, |_| {});
    for (by, members) in world.members() {
        let others = members.iter().filter(|id| id.node_id.starts_with("page-"));
        let others: Vec<_> = others.filter(|id| **id != stays).collect();
        assert!(others.is_empty(), "{by} knows {} pages", others.len());
    }
    let quiet = world.bytes_in(SECOND * 20);
    assert!(
        quiet <= at_rest + at_rest / 5,
        "{quiet} bytes instead of {at_rest}"
    );
}
