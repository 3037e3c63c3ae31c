use super::*;

const TICK: Duration = Duration::from_millis(20);

fn id(n: u16) -> ChitchatId {
    ChitchatId::new(format!("node-{n}"), 1, addr(n))
}

fn addr(n: u16) -> SocketAddr {
    ([10, 0, 0, 1], n).into()
}

fn live(count: u16) -> BTreeSet<SocketAddr> {
    (1..=count).map(addr).collect()
}

fn rumours() -> Rumours {
    Rumours::new(RumourConfig::default())
}

/// Transmits what is due among `live` members, none of which is known to be connected. Member 100 is
/// this one, and takes part in the pattern. Returns the receivers.
fn transmit(
    rumours: &mut Rumours,
    live: &BTreeSet<SocketAddr>,
    rng: &mut fastrand::Rng,
) -> Vec<SocketAddr> {
    let due = rumours.due().unwrap();
    let transmission = rumours.begin(due);
    assert!(!transmission.changes.is_empty());
    let own = addr(100);
    let pattern: Vec<_> = live.iter().copied().chain([own]).collect();
    let audience = Audience {
        reachable: live,
        connected: &BTreeSet::new(),
        pattern: &pattern,
        own,
    };
    let chosen = rumours.choose(&transmission, audience, 100, |_| 7, rng);
    rumours.end(&transmission, chosen.len(), live.len(), 100, false);
    chosen
}

fn changes(rumours: &mut Rumours, now: Duration) -> Members<Version> {
    rumours.begin(now).changes
}

#[test]
fn the_first_change_is_sent_at_once_and_those_that_follow_are_gathered() {
    let mut rumours = rumours();
    let start = Duration::from_secs(100);
    assert_eq!(rumours.due(), None);
    rumours.note(&id(1), 7, None, start);
    assert_eq!(rumours.due(), Some(start));
    let transmission = rumours.begin(start);
    assert_eq!(transmission.changes, Members::from_iter([(id(1), 7)]));
    rumours.end(&transmission, 1, 1, 100, false);
    assert_eq!(rumours.due(), None, "the only other member has it");

    let soon = start + TICK / 4;
    rumours.note(&id(1), 8, None, soon);
    rumours.note(&id(1), 9, None, soon + TICK / 4);
    rumours.note(&id(2), 3, None, soon + TICK / 2);
    assert_eq!(rumours.due(), Some(start + TICK));
    assert!(changes(&mut rumours, soon + TICK / 2).is_empty());
    let both = Members::from_iter([(id(1), 8), (id(2), 3)]);
    assert_eq!(changes(&mut rumours, start + TICK), both);
}

#[test]
fn without_feedback_a_rumour_is_sent_a_few_times_to_different_members() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(1);
    rumours.note(&id(100), 6, None, Duration::ZERO);
    let mut receivers = Vec::new();
    while rumours.due().is_some() {
        receivers.extend(transmit(&mut rumours, &live(99), &mut rng));
    }
    // ln 99 + 5 = 9.6 receivers, four in each transmission. The random ones may repeat a receiver of
    // the pattern.
    assert_eq!(receivers.len(), 12);
    let distinct: BTreeSet<_> = receivers.iter().collect();
    assert!(distinct.len() >= 10, "{receivers:?}");
    assert!(rumours.pending.is_empty(), "nothing is remembered of it");
}

#[test]
fn a_change_that_was_received_as_often_as_expected_is_sent_once() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(1);
    rumours.note(&id(50), 6, Some((addr(60), 7)), Duration::ZERO);
    let receivers = transmit(&mut rumours, &live(98), &mut rng);
    assert_eq!(receivers.len(), 4);
    // One of the receivers would have sent it to us, so that two of the four copies are accounted for.
    assert!(receivers.contains(&addr(1)));
    assert!(rumours.due().is_some());
    // A second copy of the same member is no further evidence, and one of an older version is none.
    rumours.note_copy(&id(50), addr(60), 7, 7);
    rumours.note_copy(&id(50), addr(61), 6, 7);
    assert!(rumours.due().is_some());
    // One of a member that had an older version is.
    rumours.note_digest(addr(62), |_| Some(6));
    rumours.note_copy(&id(50), addr(62), 7, 7);
    assert_eq!(rumours.due(), None);
}

#[test]
fn a_rumour_does_not_go_to_members_that_are_known_to_have_it() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(1);
    rumours.note(&id(1), 6, Some((addr(2), 7)), Duration::ZERO);
    rumours.note_digest(addr(3), |_| Some(7));
    // This one has an older version.
    rumours.note_digest(addr(4), |_| Some(6));
    let receivers = transmit(&mut rumours, &live(4), &mut rng);
    assert_eq!(receivers, [addr(4)]);
}

#[test]
fn the_first_copies_follow_the_pattern() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(1);
    rumours.note(&id(100), 6, None, Duration::ZERO);
    let first = transmit(&mut rumours, &live(99), &mut rng);
    // The place of this member is 99, of 100.
    let expected: Vec<_> = overlay::successors(99, 100, 4)
        .map(|place| addr(place as u16 + 1))
        .collect();
    assert_eq!(first, expected);
}

#[test]
fn a_first_transmission_goes_to_all_members_that_only_connections_reach() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(1);
    let tabs: BTreeSet<_> = (1..=20)
        .map(|n| crate::credential::Identity::from_bytes([n; 32]).address())
        .collect();
    let pattern: Vec<_> = (1..=100).map(addr).collect();
    let reachable: BTreeSet<_> = live(99).union(&tabs).copied().collect();
    rumours.note(&id(50), 6, None, Duration::ZERO);
    let transmission = rumours.begin(Duration::ZERO);
    let audience = Audience {
        reachable: &reachable,
        connected: &tabs,
        pattern: &pattern,
        own: addr(100),
    };
    let mut choose = |rumours: &mut Rumours, len| {
        let chosen = rumours.choose(&transmission, audience, len, |_| 7, &mut rng);
        order::set(chosen)
    };
    let chosen = choose(&mut rumours, 100);
    assert_eq!(chosen.len(), 24);
    assert!(tabs.is_subset(&chosen));
    // As far as the budget allows.
    let len = RumourConfig::default().max_bytes_per_second / 10;
    assert_eq!(choose(&mut rumours, len).len(), 10);
}

#[test]
fn a_change_that_came_from_a_tab_which_made_it_goes_to_more_members() {
    let tab = crate::credential::Identity::from_bytes([1; 32]).address();
    let of_tab = ChitchatId::new("tab", 1, tab);
    for (from, receivers) in [(tab, 8), (addr(60), 4)] {
        let mut rumours = rumours();
        let mut rng = fastrand::Rng::with_seed(1);
        rumours.note(&of_tab, 6, Some((from, 7)), Duration::ZERO);
        let chosen = transmit(&mut rumours, &live(99), &mut rng);
        assert_eq!(order::set(chosen).len(), receivers);
    }
}

#[test]
fn a_change_that_reaches_nobody_waits_for_a_connection_if_one_can_come() {
    let mut rumours = rumours();
    for (may_wait, due) in [(false, None), (true, Some(TICK * 50))] {
        rumours.note(&id(1), 6, None, TICK * 40);
        let transmission = rumours.begin(TICK * 40);
        rumours.end(&transmission, 0, 0, 100, may_wait);
        assert_eq!(rumours.due(), None);
        rumours.unpark(TICK * 50);
        assert_eq!(rumours.due(), due);
    }
}

#[test]
fn what_others_have_sent_does_not_wait_for_a_connection_unless_it_was_entrusted() {
    let tab = crate::credential::Identity::from_bytes([1; 32]).address();
    let of_tab = ChitchatId::new("tab", 1, tab);
    for (of, from, waits) in [(of_tab, tab, true), (id(1), addr(1), false)] {
        let mut rumours = rumours();
        rumours.note(&of, 6, Some((from, 7)), TICK * 40);
        let transmission = rumours.begin(TICK * 40);
        rumours.end(&transmission, 0, 0, 100, true);
        rumours.unpark(TICK * 50);
        assert_eq!(rumours.due().is_some(), waits);
    }
}

#[test]
fn frequent_changes_do_not_keep_older_ones_in_the_rumours() {
    let mut rumours = rumours();
    let mut now = Duration::ZERO;
    for version in 0..100 {
        rumours.note(&id(1), version, None, now);
        let due = rumours.due().unwrap();
        now = now.max(due);
        let transmission = rumours.begin(now);
        let above = transmission.changes.get(&id(1)).copied().unwrap();
        assert!(above + 3 > version, "{above} at {version}");
        rumours.end(&transmission, 4, 99, 100, false);
    }
}

#[test]
fn random_receivers_are_different_members_that_are_still_live() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(2);
    let mut choose = |live: &BTreeSet<SocketAddr>| {
        let mut chosen = Vec::new();
        rumours.choose_at_random(4, live, |addr| live.contains(addr), &mut chosen, &mut rng);
        chosen
    };
    choose(&live(9));
    for _ in 0..50 {
        let chosen = choose(&live(5));
        let distinct: BTreeSet<_> = chosen.iter().copied().collect();
        assert_eq!((chosen.len(), distinct.len()), (4, 4));
        assert!(distinct.is_subset(&live(5)));
    }
    assert_eq!(choose(&live(2)).len(), 2);
    assert!(choose(&BTreeSet::new()).is_empty());
}

#[test]
fn ten_seconds_of_changes_cost_no_more_than_the_budget_and_a_burst_of_one_second() {
    let mut rumours = rumours();
    let a_second = RumourConfig::default().max_bytes_per_second;
    let mut sent = 0;
    let mut now = Duration::ZERO;
    let end = Duration::from_secs(10);
    while now < end {
        rumours.note(&id(1), 0, None, now);
        now = now.max(rumours.due().unwrap());
        let transmission = rumours.begin(now);
        if !transmission.changes.is_empty() {
            // The longest message that is allowed.
            let len = rumours.room(now);
            rumours.end(&transmission, 4, 99, len, false);
            sent += 4 * len;
        }
    }
    assert!(sent <= 11 * a_second, "{sent}");
    assert!(sent >= 9 * a_second, "{sent}");
}

#[test]
fn missing_changes_are_asked_for_at_most_five_times_a_second() {
    let mut rumours = rumours();
    let asked = (0..1000)
        .filter(|ms| rumours.may_repair(Duration::from_millis(*ms)))
        .count();
    assert_eq!(asked, 5);
}

#[test]
fn a_fanout_of_zero_turns_rumours_off() {
    let mut rumours = Rumours::new(RumourConfig {
        fanout: 0,
        ..RumourConfig::default()
    });
    rumours.note(&id(1), 7, None, Duration::ZERO);
    assert_eq!(rumours.due(), None);
    assert!(!rumours.may_repair(Duration::ZERO));
}

#[test]
fn a_member_that_has_only_a_part_of_the_changes_is_sent_all_of_them() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(1);
    for member in [1, 5] {
        rumours.note(&id(member), 6, Some((addr(2), 7)), Duration::ZERO);
    }
    // This one has even later changes, and the other one lacks some of one member.
    rumours.note_digest(addr(3), |_| Some(8));
    rumours.note_digest(addr(4), |of| Some(if *of == id(1) { 7 } else { 6 }));
    let receivers = transmit(&mut rumours, &live(4), &mut rng);
    assert_eq!(receivers, [addr(1), addr(4)]);
}

#[test]
fn a_first_transmission_goes_over_connections_first_and_to_no_tab_that_has_the_changes() {
    let mut rng = fastrand::Rng::with_seed(1);
    let tab = |n| crate::credential::Identity::from_bytes([n; 32]).address();
    let mut rumours = rumours();
    rumours.note(&id(50), 6, Some((tab(1), 7)), Duration::ZERO);
    let transmission = rumours.begin(Duration::ZERO);
    let connected = BTreeSet::from([addr(1), addr(2), tab(1), tab(2)]);
    let reachable = live(99).union(&connected).copied().collect();
    let audience = Audience {
        reachable: &reachable,
        connected: &connected,
        // Others cannot dial this member.
        pattern: &[],
        own: addr(100),
    };
    let chosen = rumours.choose(&transmission, audience, 100, |_| 7, &mut rng);
    assert_eq!(chosen.len(), 5);
    let near: BTreeSet<_> = chosen
        .into_iter()
        .filter(|to| connected.contains(to))
        .collect();
    assert_eq!(near, BTreeSet::from([addr(1), addr(2), tab(2)]));
}

#[test]
fn the_length_of_a_delta_is_estimated_by_its_texts() {
    let node = |n| NodeDelta {
        chitchat_id: id(n),
        from_version_excluded: 0,
        last_gc_version: 0,
        key_values: (1..=10)
            .map(|version| crate::message::KeyValueMutation {
                key: "k".repeat(20),
                value: "v".repeat(80),
                version,
                status: crate::message::DeletionStatus::Set,
            })
            .collect(),
        max_version: 10,
    };
    let delta = Delta {
        node_deltas: vec![node(1), node(2)],
    };
    let len = approximate_len(&delta);
    assert!((2_000..2_600).contains(&len), "{len}");
}

#[test]
fn a_change_is_sent_once_however_often_it_was_received_before() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(1);
    rumours.note(&id(50), 6, Some((addr(60), 7)), Duration::ZERO);
    for n in 61..70 {
        rumours.note_copy(&id(50), addr(n), 7, 7);
    }
    assert_eq!(rumours.due(), Some(Duration::ZERO));
    transmit(&mut rumours, &live(98), &mut rng);
    assert_eq!(rumours.due(), None);
}

#[test]
fn members_of_the_pattern_that_cannot_be_reached_from_here_are_replaced_by_others() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(1);
    let pattern: Vec<_> = (1..=100).map(addr).collect();
    let successors: Vec<_> = overlay::successors(99, 100, 4)
        .map(|place| addr(place as u16 + 1))
        .collect();
    let mut reachable = live(99);
    reachable.remove(&successors[0]);
    rumours.note(&id(100), 6, None, Duration::ZERO);
    let transmission = rumours.begin(Duration::ZERO);
    let audience = Audience {
        reachable: &reachable,
        connected: &BTreeSet::new(),
        pattern: &pattern,
        own: addr(100),
    };
    let chosen = rumours.choose(&transmission, audience, 100, |_| 7, &mut rng);
    assert_eq!(chosen.len(), 4);
    assert!(successors[1..].iter().all(|next| chosen.contains(next)));
    assert!(!chosen.contains(&successors[0]));
}

#[test]
fn a_change_that_follows_one_which_was_sent_takes_the_pattern_as_well() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(1);
    for version in [6, 7] {
        rumours.note(&id(100), version, None, Duration::ZERO);
        let receivers = transmit(&mut rumours, &live(99), &mut rng);
        let successors = overlay::successors(99, 100, 4);
        for next in successors.map(|place| addr(place as u16 + 1)) {
            assert!(receivers.contains(&next), "{receivers:?}");
        }
    }
}

#[test]
fn a_repeated_transmission_goes_to_members_at_random_and_to_one_at_least_that_is_connected() {
    for (connected, seed) in [1, 9]
        .map(live)
        .iter()
        .flat_map(|c| (0..20).map(move |n| (c, n)))
    {
        let mut rumours = rumours();
        let mut rng = fastrand::Rng::with_seed(seed);
        rumours.note(&id(100), 6, None, Duration::ZERO);
        transmit(&mut rumours, &live(99), &mut rng);
        let transmission = rumours.begin(rumours.due().unwrap());
        let audience = Audience {
            reachable: &live(99),
            connected,
            pattern: &[],
            own: addr(100),
        };
        let chosen = rumours.choose(&transmission, audience, 100, |_| 7, &mut rng);
        let (near, far): (Vec<_>, Vec<_>) = chosen
            .iter()
            .copied()
            .partition(|to| connected.contains(to));
        assert!(!near.is_empty() && !far.is_empty(), "{chosen:?}");
    }
}

#[test]
fn changes_that_follow_each_other_before_a_transmission_are_one() {
    let mut rumours = rumours();
    for version in 6..9 {
        rumours.note(&id(100), version, None, Duration::ZERO);
    }
    let stretches = |rumours: &Rumours| rumours.pending.get(&id(100)).unwrap().stretches.len();
    assert_eq!(stretches(&rumours), 1);
    transmit(&mut rumours, &live(99), &mut fastrand::Rng::with_seed(1));
    rumours.note(&id(100), 9, None, Duration::ZERO);
    assert_eq!(stretches(&rumours), 2);
}
