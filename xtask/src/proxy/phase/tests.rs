use super::*;

fn phase(kind: Kind, millis: &[u64]) -> Phase {
    Phase {
        kind,
        start: Start::Complete,
        nodes: 12,
        tabs: 2,
        took: Duration::from_secs(10),
        spreads: millis.iter().copied().map(Duration::from_millis).collect(),
        uncertainty: Duration::from_millis(4),
        counts: Counts::default(),
        load: 1.0,
    }
}

#[test]
fn percentiles_are_values_that_occurred() {
    let values: Vec<_> = (1..=10).rev().map(Duration::from_millis).collect();
    let millis = |percent| percentile(&values, percent).map(|value| value.as_millis());
    assert_eq!(millis(50), Some(5));
    assert_eq!(millis(90), Some(9));
    assert_eq!(millis(100), Some(10));
    assert_eq!(percentile(&[], 50), None);
}

#[test]
fn a_proxy_may_take_half_as_much_again_and_not_more() {
    let direct = phase(Kind::Direct, &[100; 10]);
    let fast = phase(Kind::Proxied, &[165; 10]);
    assert_eq!(broken(&[direct.clone(), fast]), [""; 0]);
    let slow = phase(Kind::Proxied, &[166; 10]);
    let broken = broken(&[direct, slow]);
    assert_eq!(broken.len(), 2, "{broken:?}");
}

#[test]
fn only_clusters_of_the_same_size_are_compared() {
    let mut direct = phase(Kind::Direct, &[1]);
    direct.nodes = 3;
    assert_eq!(broken(&[direct, phase(Kind::Proxied, &[900])]), [""; 0]);
}

#[test]
fn a_change_must_arrive_in_time_after_an_interruption_and_within_twenty_seconds_otherwise() {
    let late = [1, 5_001];
    assert_eq!(broken(&[phase(Kind::Restarted, &late)]).len(), 1);
    for kind in [Kind::Offline, Kind::Asleep] {
        assert_eq!(broken(&[phase(kind, &[1, 1_000])]), [""; 0]);
        assert_eq!(broken(&[phase(kind, &[1, 1_001])]).len(), 1);
    }
    assert_eq!(broken(&[phase(Kind::Proxied, &late)]), [""; 0]);
    let lost = [1, 20_000];
    assert_eq!(broken(&[phase(Kind::Proxied, &lost)]).len(), 1);
    assert_eq!(phase(Kind::Proxied, &lost).lost(), 1);
}

#[test]
fn anything_that_should_not_happen_breaks_an_expectation() {
    let mut rest = phase(Kind::Rest, &[]);
    rest.counts = Counts {
        deaths_at_nodes: 1,
        deaths_at_tabs: 2,
        flips_at_tabs: 3,
        console_errors: 4,
        proxy_errors: 5,
        foreign_dials: 6,
        failed_node_dials: 7,
    };
    assert_eq!(broken(&[rest.clone()]).len(), 6);
    rest.start = Start::Incomplete;
    assert_eq!(broken(&[rest.clone()]).len(), 7);
    // While the proxy is down, tabs may say that they do not reach it.
    rest.kind = Kind::Restarted;
    assert_eq!(broken(&[rest.clone()]).len(), 6);
    // A tab that was offline has seen others dead, and each other tab has seen one that was asleep dead.
    rest.kind = Kind::Offline;
    assert_eq!(broken(&[rest.clone()]).len(), 5);
    rest.kind = Kind::Asleep;
    assert_eq!(broken(&[rest.clone()]).len(), 6);
    rest.tabs = 3;
    assert_eq!(broken(&[rest]).len(), 5);
}
