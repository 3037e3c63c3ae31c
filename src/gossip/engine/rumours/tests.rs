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

#[test]
fn the_first_change_is_sent_at_once_and_those_that_follow_are_gathered() {
    let mut rumours = rumours();
    let start = Duration::from_secs(100);
    assert_eq!(rumours.due(), None);
    rumours.note(&id(1), 7, start);
    assert_eq!(rumours.due(), Some(start));
    assert_eq!(rumours.begin(start), Members::from_iter([(id(1), 7)]));
    rumours.end(1, 1, 100);
    assert_eq!(rumours.due(), None, "the only other member has it");

    let soon = start + TICK / 4;
    rumours.note(&id(1), 8, soon);
    rumours.note(&id(1), 9, soon + TICK / 4);
    rumours.note(&id(2), 3, soon + TICK / 2);
    assert_eq!(rumours.due(), Some(start + TICK));
    assert!(rumours.begin(soon + TICK / 2).is_empty());
    let both = Members::from_iter([(id(1), 8), (id(2), 3)]);
    assert_eq!(rumours.begin(start + TICK), both);
}

#[test]
fn a_rumour_is_sent_a_few_times_to_different_members() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(1);
    rumours.note(&id(1), 7, Duration::ZERO);
    let mut receivers = Vec::new();
    while let Some(due) = rumours.due() {
        assert!(!rumours.begin(due).is_empty());
        let chosen = rumours.choose(&live(99), &mut rng);
        rumours.end(chosen.len(), 99, 100);
        receivers.extend(chosen);
    }
    // ln 99 + 5 = 9.6 receivers, four in each transmission.
    assert_eq!(receivers.len(), 12);
    let distinct: BTreeSet<_> = receivers.iter().collect();
    assert_eq!(distinct.len(), 12);
}

#[test]
fn frequent_changes_do_not_keep_older_ones_in_the_rumours() {
    let mut rumours = rumours();
    let mut now = Duration::ZERO;
    for version in 0..100 {
        rumours.note(&id(1), version, now);
        let due = rumours.due().unwrap();
        now = now.max(due);
        let changes = rumours.begin(now);
        let above = changes.get(&id(1)).copied().unwrap();
        assert!(above + 3 > version, "{above} at {version}");
        rumours.end(4, 99, 100);
    }
}

#[test]
fn a_transmission_goes_to_different_members_that_are_still_live() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(2);
    rumours.choose(&live(9), &mut rng);
    for _ in 0..50 {
        let chosen = rumours.choose(&live(5), &mut rng);
        let distinct: BTreeSet<_> = chosen.iter().copied().collect();
        assert_eq!((chosen.len(), distinct.len()), (4, 4));
        assert!(distinct.is_subset(&live(5)));
    }
    assert_eq!(rumours.choose(&live(2), &mut rng).len(), 2);
    assert!(rumours.choose(&BTreeSet::new(), &mut rng).is_empty());
}

#[test]
fn ten_seconds_of_changes_cost_no_more_than_the_budget_and_a_burst_of_one_second() {
    let mut rumours = rumours();
    let a_second = RumourConfig::default().max_bytes_per_second;
    let mut sent = 0;
    let mut now = Duration::ZERO;
    let end = Duration::from_secs(10);
    while now < end {
        rumours.note(&id(1), 0, now);
        now = now.max(rumours.due().unwrap());
        if !rumours.begin(now).is_empty() {
            // The longest message that is allowed.
            let len = rumours.room(now);
            rumours.end(4, 99, len);
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
    rumours.note(&id(1), 7, Duration::ZERO);
    assert_eq!(rumours.due(), None);
    assert!(!rumours.may_repair(Duration::ZERO));
}
