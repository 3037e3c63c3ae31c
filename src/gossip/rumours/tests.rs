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
fn the_first_news_is_told_at_once_and_what_follows_is_gathered() {
    let mut rumours = rumours();
    let start = Duration::from_secs(100);
    assert_eq!(rumours.due(), None);
    rumours.note(&id(1), 7, start);
    assert_eq!(rumours.due(), Some(start));
    assert_eq!(rumours.begin(start), Members::from_iter([(id(1), 7)]));
    rumours.end(1, 1, 100);
    assert_eq!(rumours.due(), None, "one other, who has been told");

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
fn a_rumour_is_told_a_few_times_to_different_members() {
    let mut rumours = rumours();
    let mut rng = fastrand::Rng::with_seed(1);
    rumours.note(&id(1), 7, Duration::ZERO);
    let mut told = Vec::new();
    while let Some(due) = rumours.due() {
        assert!(!rumours.begin(due).is_empty());
        let chosen = rumours.choose(&live(99), &mut rng);
        rumours.end(chosen.len(), 99, 100);
        told.extend(chosen);
    }
    // ln 99 + 5 = 9.6 contacts, four at a time.
    assert_eq!(told.len(), 12);
    let distinct: BTreeSet<_> = told.iter().collect();
    assert_eq!(distinct.len(), 12);
}

#[test]
fn what_keeps_changing_is_not_told_from_the_beginning_for_ever() {
    let mut rumours = rumours();
    let mut now = Duration::ZERO;
    for version in 0..100 {
        rumours.note(&id(1), version, now);
        let due = rumours.due().unwrap();
        now = now.max(due);
        let news = rumours.begin(now);
        let above = news.get(&id(1)).copied().unwrap();
        assert!(above + 3 > version, "{above} at {version}");
        rumours.end(4, 99, 100);
    }
}

#[test]
fn those_who_have_gone_are_not_chosen_and_nobody_is_chosen_twice_at_a_time() {
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
fn ten_seconds_of_news_cost_no_more_than_the_budget_and_a_seconds_burst() {
    let mut rumours = rumours();
    let a_second = RumourConfig::default().max_bytes_per_second;
    let mut sent = 0;
    let mut now = Duration::ZERO;
    let end = Duration::from_secs(10);
    while now < end {
        rumours.note(&id(1), 0, now);
        now = now.max(rumours.due().unwrap());
        if !rumours.begin(now).is_empty() {
            // As long as it may be.
            let len = rumours.room(now);
            rumours.end(4, 99, len);
            sent += 4 * len;
        }
    }
    assert!(sent <= 11 * a_second, "{sent}");
    assert!(sent >= 9 * a_second, "{sent}");
}

#[test]
fn what_is_lacked_is_asked_for_now_and_then_only() {
    let mut rumours = rumours();
    let asked = (0..1000)
        .filter(|ms| rumours.may_repair(Duration::from_millis(*ms)))
        .count();
    assert_eq!(asked, 5);
}

#[test]
fn a_fanout_of_zero_says_nothing() {
    let mut rumours = Rumours::new(RumourConfig {
        fanout: 0,
        ..RumourConfig::default()
    });
    rumours.note(&id(1), 7, Duration::ZERO);
    assert_eq!(rumours.due(), None);
    assert!(!rumours.may_repair(Duration::ZERO));
}
