//! Attacks by leaves that have changed their role or their invite, and by those that take the names of others.

use super::*;
use crate::gossip::Liveness;

/// Returns the id of the leaf with identity `n` under another name.
fn named(n: u8, name: &str) -> ChitchatId {
    ChitchatId::new(name, START, identity(n).address())
}

fn is_refused(outputs: &[Output]) -> bool {
    let mut outputs = outputs.iter();
    outputs.any(|output| matches!(output, Output::Refuse { .. }))
}

fn any_name() -> Arc<Claims> {
    Arc::new(Claims::new(InviteId::generate(SECOND, SECOND).unwrap()))
}

#[test]
fn a_leaf_that_was_core_until_its_secret_was_removed_takes_no_name_from_others() {
    let mut us = engine_with(1, config(1));
    us.handle(from_core(2, syn(&[(core(2), listed(1))])), SECOND);
    let page = named(9, "page-9");
    us.handle(
        from_page(9, Role::Core, syn(&[(page.clone(), listed(1))])),
        SECOND,
    );
    assert!(find(&us, &page).is_some());
    // It comes back with an invite.
    connect(&mut us, &[(1, any_name()), (9, any_name())], SECOND * 2);
    us.handle(from_leaf(1, syn(&[(leaf(1), listed(1))])), SECOND * 2);
    let later = |name: &str| ChitchatId {
        generation_id: START + 1,
        ..named(9, name)
    };
    for name in ["core-1", "core-2", "tab-1"] {
        us.handle(from_leaf(9, syn(&[(later(name), listed(1))])), SECOND * 3);
    }
    let honest = us.handle(from_leaf(1, syn(&[(leaf(1), listed(2))])), SECOND * 3);
    assert!(!is_refused(&honest), "an honest leaf has lost its name");
    assert_eq!(find(&us, &later("core-1")), None);
    assert_eq!(find(&us, &later("core-2")), None);
    for id in [core(1), core(2)] {
        assert!(!find(&us, &id).unwrap().superseded, "{id:?}");
    }
    // Of a leaf, one generation is known at a time.
    let members = us.members();
    let of_nine = members
        .iter()
        .filter(|m| m.id.addr() == identity(9).address());
    assert_eq!(of_nine.count(), 1);
}

#[test]
fn what_a_leaf_said_before_it_came_back_with_another_invite_is_no_reason_to_refuse_it() {
    let mut us = beside_leaf(Quotas::default());
    us.handle(from_leaf(1, syn(&[(leaf(1), listed(1))])), SECOND);
    let id = InviteId::generate(SECOND, SECOND).unwrap();
    let other = Claims::new(id).with_name_prefix("page-".parse().unwrap());
    connect(&mut us, &[(1, Arc::new(other))], SECOND * 2);
    // This message has waited while the page was loaded again.
    let outputs = us.handle(from_leaf(1, syn(&[(leaf(1), listed(2))])), SECOND * 2);
    assert!(!is_refused(&outputs));
    let new = ChitchatId {
        generation_id: START + 1,
        ..named(1, "page-1")
    };
    let outputs = us.handle(from_leaf(1, syn(&[(new.clone(), listed(1))])), SECOND * 2);
    assert!(!is_refused(&outputs));
    assert!(find(&us, &new).is_some());
    // If it goes on with its former name, it is told.
    let outputs = us.handle(from_leaf(1, syn(&[(leaf(1), listed(3))])), SECOND * 60);
    assert!(is_refused(&outputs));
}

/// Has leaf 1 ask core member 1, and passes the messages that follow. Returns true if the leaf is refused.
fn exchange(us: &mut Engine, page: &mut Engine, now: Duration) -> bool {
    page.handle(Event::Seeds(vec![addr(1)]), now);
    let mut sent = page.handle(Event::Round, now);
    let mut to_us = true;
    loop {
        let messages = sent.into_iter().filter_map(sending);
        let Some((_, message)) = messages.last() else {
            return false;
        };
        sent = match to_us {
            true => us.handle(from_leaf(1, message), now),
            false => page.handle(from_core(1, message), now),
        };
        if is_refused(&sent) {
            return true;
        }
        to_us = !to_us;
    }
}

#[test]
fn taking_the_name_of_an_honest_leaf_does_not_get_it_refused() {
    let by_leaf = |us: &mut Engine| {
        // The clocks of core members differ a little, so that this is too late for one of them.
        let other = ChitchatId {
            generation_id: START + 140 * 1_000_000,
            ..named(2, "tab-1")
        };
        us.handle(from_core(2, syn(&[(other, listed(1))])), SECOND);
    };
    let over_udp = |us: &mut Engine| {
        let other = ChitchatId::new("tab-1", 1 << 60, addr(3));
        us.handle(from_udp(3, syn(&[(other.clone(), listed(1))])), SECOND);
        us.handle(from_core(2, syn(&[list(&core(1), 1, 1)])), SECOND);
        assert!(find(us, &other).is_some());
    };
    for lie in [by_leaf, over_udp] {
        let mut us = member(1);
        connect(&mut us, &[(1, any_name())], Duration::ZERO);
        let mut page = Engine::new(config(7), leaf(1), Duration::ZERO).unwrap();
        assert!(!exchange(&mut us, &mut page, SECOND));
        lie(&mut us);
        for n in 2..20 {
            assert!(!exchange(&mut us, &mut page, SECOND * n));
        }
        assert_eq!(*page.id(), leaf(1));
        assert!(find(&us, &leaf(1)).is_some());
    }
}

#[test]
fn a_leaf_with_the_name_of_a_core_member_that_starts_does_not_raise_its_generation() {
    let mut us = member(1);
    let later = ChitchatId {
        generation_id: START + 100 * 1_000_000,
        ..named(9, "core-1")
    };
    us.handle(from_core(2, syn(&[(later, listed(1))])), SECOND);
    assert_eq!(*us.id(), core(1));
}

#[test]
fn a_page_that_changes_between_core_and_leaf_hundreds_of_times_takes_no_room_from_others() {
    let config = GossipConfig {
        max_bytes: 4_000,
        ..config(1)
    };
    let mut us = engine_with(1, config);
    let all: Vec<_> = [1, 2, 9].map(|n| (n, any_name())).into();
    connect(&mut us, &all, Duration::ZERO);
    us.handle(from_core(2, syn(&[(core(2), listed(1))])), SECOND);
    for n in [1, 2] {
        us.handle(from_leaf(n, syn(&[(leaf(n), listed(1))])), SECOND);
    }
    let page = named(9, "tab-9");
    let value = "v".repeat(1_400);
    for n in 1..=300_u64 {
        let digest = syn(&[list(&page, n, n)]);
        let delta = ack(vec![node_delta(&page, n - 1, vec![set("k", &value, n)])]);
        let now = SECOND + Duration::from_millis(100 * n);
        for message in [digest, delta] {
            us.handle(
                match n % 2 {
                    0 => from_leaf(9, message),
                    _ => from_page(9, Role::Core, message),
                },
                now,
            );
        }
    }
    let state = find(&us, &page).unwrap();
    assert_eq!((state.heartbeat, state.max_version), (300, 300));
    // Leaves have three quarters of the bytes.
    let value = "v".repeat(1_200);
    for (n, has_room) in [(1, true), (2, false)] {
        let delta = node_delta(&leaf(n), 0, vec![set("k", &value, 1)]);
        us.handle(from_leaf(n, ack(vec![delta])), SECOND * 60);
        assert_eq!(keys(&us, &leaf(n)).len(), usize::from(has_room), "{n}");
    }
    let members: Vec<_> = us.members().into_iter().map(|member| member.id).collect();
    assert_eq!(members, [core(1), core(2), leaf(1), leaf(2), page]);
}

#[test]
fn a_page_that_is_loaded_again_every_ten_seconds_is_live_each_time_and_leaves_nothing() {
    let mut us = member(1);
    connect(&mut us, &[(1, any_name())], Duration::ZERO);
    let mut version = 0;
    for n in 0..300_u64 {
        let now = Duration::from_millis(10_500 * (n + 1));
        let page = ChitchatId {
            generation_id: START + n,
            ..leaf(1)
        };
        for heartbeat in 1..4 {
            let at = now + SECOND * u32::try_from(heartbeat).unwrap();
            us.handle(from_leaf(1, syn(&[(page.clone(), listed(heartbeat))])), at);
            us.handle(Event::Round, at);
        }
        assert_eq!(find(&us, &page).unwrap().liveness, Liveness::Live, "{n}");
        assert_eq!(us.members().len(), 2);
        let left = set("gossip-transport/left", "3", 1);
        let delta = ack(vec![node_delta(&page, 0, vec![left])]);
        us.handle(from_leaf(1, delta), now + SECOND * 4);
        assert_eq!(find(&us, &page).unwrap().liveness, Liveness::Left);
        connect(&mut us, &[], now + SECOND * 5);
        connect(&mut us, &[(1, any_name())], now + SECOND * 6);
        version = version.max(find(&us, us.id()).unwrap().max_version);
    }
    assert!(
        version < 20,
        "a leaf that has left is not said to be gone: {version}"
    );
}

#[test]
fn core_members_that_disagree_about_a_departure_neither_revive_nor_end_a_leaf() {
    let mut us = member(1);
    let sign = |us: &mut Engine, name: &str, payload: &str| us.set_reserved(name, payload, SECOND);
    // Two others, one of which has seen more of the leaf.
    let gone = |heartbeat: u64| format!("{heartbeat} {START} {}", identity(1).address().ip());
    let mut others = [2, 3].map(member);
    for (other, heartbeat) in others.iter_mut().zip([5, 9]) {
        sign(other, "departed/0", &gone(heartbeat)).unwrap();
    }
    let beat = |us: &mut Engine, heartbeat: u64, n: u32| {
        let list = [(leaf(1), listed(heartbeat)), (core(2), listed(n.into()))];
        us.handle(from_core(2, syn(&list)), SECOND * n);
    };
    for n in 1..=4 {
        beat(&mut us, n.into(), n);
    }
    let teach = |us: &mut Engine, other: &mut Engine, n: u16, now| {
        let own = find(other, other.id()).unwrap();
        let hello = syn(&[list(other.id(), 50, own.max_version)]);
        us.handle(from_core(n, hello.clone()), now);
        let ours = syn(&[list(us.id(), 1, 0)]);
        let answer = other.handle(from_core(1, ours), now).into_iter();
        for (_, message) in answer.filter_map(sending) {
            us.handle(from_core(n, message), now);
        }
    };
    let liveness = |us: &Engine| find(us, &leaf(1)).unwrap().liveness;
    assert_eq!(liveness(&us), Liveness::Live);
    let [first, second] = &mut others;
    teach(&mut us, second, 3, SECOND * 4);
    teach(&mut us, first, 2, SECOND * 4);
    assert_eq!(liveness(&us), Liveness::Left);
    // What is not above the higher of the two is old.
    beat(&mut us, 9, 5);
    assert_eq!(liveness(&us), Liveness::Left);
    beat(&mut us, 10, 6);
    beat(&mut us, 11, 7);
    assert_eq!(liveness(&us), Liveness::Live);
    teach(&mut us, first, 2, SECOND * 7);
    for n in 8..10 {
        us.handle(Event::Round, SECOND * n);
        assert_eq!(liveness(&us), Liveness::Live);
    }
}
