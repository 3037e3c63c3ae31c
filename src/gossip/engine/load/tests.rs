use std::sync::OnceLock;

use super::*;
use crate::credential::Identity;
use crate::message::{
    ChitchatId, DeletionStatus, Digest, KeyValueMutation, NodeDelta, NodeDigest, ProtocolVersion,
};

fn addr(n: u16) -> SocketAddr {
    ([127, 0, 0, 1], n).into()
}

fn syn(members: u64) -> ChitchatMessage {
    let ids = (0..members).map(|n| ChitchatId::new("a", n, addr(1)));
    let digest: Vec<_> = ids.map(|id| (id, NodeDigest::default())).collect();
    ChitchatMessage::Syn {
        version: ProtocolVersion::V1,
        cluster_id: "cluster".to_owned(),
        digest: Digest::from(digest),
    }
}

/// A message with the changes of one member, `keys` of them.
fn ack(keys: u64) -> ChitchatMessage {
    let change = |version| KeyValueMutation {
        key: "k".to_owned(),
        value: "v".to_owned(),
        version,
        status: DeletionStatus::Set,
    };
    let node = NodeDelta {
        chitchat_id: ChitchatId::new("a", 1, addr(1)),
        from_version_excluded: 0,
        last_gc_version: 0,
        key_values: (1..=keys).map(change).collect(),
        max_version: keys,
    };
    ChitchatMessage::Ack {
        version: ProtocolVersion::V1,
        delta: Delta {
            node_deltas: vec![node],
        },
    }
}

#[test]
fn a_peer_is_a_leaf_or_a_core_member_only_if_its_identity_is_proved() {
    let roles = [Role::Core, Role::Leaf, Role::Unauthenticated];
    let of = |identity| {
        roles.map(|role| {
            let addr = addr(1);
            let sender = Sender {
                addr,
                identity,
                role,
            };
            Class::of(sender, |_| None)
        })
    };
    let proved = of(Identity::from_bytes([1; 32]));
    assert_eq!(proved, [Class::Core, Class::Leaf(None), Class::Unproved]);
    assert_eq!(of(Identity::UNPROVED), [Class::Unproved; 3]);
}

#[test]
fn a_peer_that_sends_long_messages_is_limited_by_their_length_and_limits_no_other() {
    for (long, short) in [(syn(20_000), syn(10)), (ack(20_000), ack(10))] {
        let mut load = Load::new();
        let mut admitted = 0;
        for millis in 0..10_000 {
            let now = Duration::from_millis(millis);
            admitted += usize::from(load.admit(addr(1), Class::Core, &long, now));
            assert!(load.admit(addr(2), Class::Core, &short, now));
            assert!(load.admit(addr(3), Class::Unproved, &short, now));
        }
        // 80 ms each, and those of the burst.
        assert!((120..135).contains(&admitted), "{admitted}");
    }
}

#[test]
fn peers_without_a_proved_identity_share_what_one_peer_gets() {
    let (long, short) = (syn(20_000), syn(10));
    let mut load = Load::new();
    let mut admitted = 0;
    for millis in 0..10_000_u16 {
        let now = Duration::from_millis(millis.into());
        admitted += usize::from(load.admit(addr(millis), Class::Unproved, &long, now));
        assert!(load.admit(addr(2), Class::Core, &short, now));
    }
    assert!((120..135).contains(&admitted), "{admitted}");
}

#[test]
fn of_peers_without_a_proved_identity_a_few_hosts_that_ask_all_the_time_keep_no_other_waiting() {
    let (long, short) = (syn(500), syn(100));
    for greedy in [1, 2, 5] {
        let mut load = Load::new();
        for millis in 0..10_000_u16 {
            let now = Duration::from_millis(millis.into());
            for host in 1..=greedy {
                let from = ([10, 0, 0, host], millis).into();
                while load.admit(from, Class::Unproved, &long, now) {}
            }
            if millis % 100 == 0 {
                let honest = ([10, 0, 1, 1], 7_000).into();
                assert!(
                    load.admit(honest, Class::Unproved, &short, now),
                    "{greedy}: {now:?}"
                );
            }
        }
    }
}

#[test]
fn a_peer_is_idle_again_once_the_work_that_it_has_caused_is_done() {
    let mut load = Load::new();
    let now = Duration::from_secs(5);
    assert_eq!(load.idle_from(addr(1)), Duration::ZERO);
    load.admit(addr(1), Class::Core, &syn(20_000), now);
    assert_eq!(load.idle_from(addr(1)), now + PER_ENTRY * 20_000);
    assert_eq!(load.idle_from(addr(2)), Duration::ZERO);
    // A member with nine keys.
    load.admit(addr(2), Class::Core, &ack(9), now);
    assert_eq!(load.idle_from(addr(2)), now + PER_ENTRY * 10);
    load.forget_idle(now + TICK);
    assert_eq!(load.idle_from(addr(2)), Duration::ZERO);
    assert!(load.idle_from(addr(1)) > now);
}

/// Returns how many answers of 60 kB each of `peers` peers gets in a second if each asks a hundred times,
/// and how many of the hundred questions of another one, with short answers, are refused.
fn answers_in_a_second(peers: u16) -> (u32, u32) {
    let (mut load, ask) = (Load::new(), syn(0));
    let (mut answered, mut refused) = (0, 0);
    for hundredth in 0..300_u64 {
        let now = Duration::from_millis(hundredth * 10);
        for peer in 0..peers {
            if load.admit(addr(peer), Class::Core, &ask, now) {
                load.note_answer(addr(peer), Class::Core, 60_000, now);
                answered += u32::from(hundredth >= 200);
            }
        }
        if load.admit(addr(9_999), Class::Core, &syn(10), now) {
            load.note_answer(addr(9_999), Class::Core, 500, now);
        } else {
            refused += 1;
        }
    }
    (answered, refused)
}

#[test]
fn peers_that_want_many_long_answers_share_half_a_core_and_keep_no_other_waiting() {
    // A member that has much to catch up on gets all that it asks for, and so do several.
    for few in [1, 8, 16] {
        assert_eq!(answers_in_a_second(few), (u32::from(few) * 100, 0));
    }
    // 1 ms is counted for each.
    for many in [40, 100, 500] {
        let (answered, refused) = answers_in_a_second(many);
        assert!((1_500..2_500).contains(&answered), "{many}: {answered}");
        assert_eq!(refused, 0, "{many}");
    }
}

#[test]
fn a_peer_that_has_had_its_burst_is_heard_soon_although_many_others_ask_all_the_time() {
    let (mut load, ask) = (Load::new(), syn(0));
    let (joiner, mut heard) = (addr(9_999), None);
    for hundredth in 0..1_000_u64 {
        let now = Duration::from_millis(hundredth * 10);
        if hundredth == 0 {
            while load.admit(joiner, Class::Core, &ask, now) {
                load.note_answer(joiner, Class::Core, 60_000, now);
            }
        } else if heard.is_none() && load.admit(joiner, Class::Core, &ask, now) {
            heard = Some(now);
        }
        for peer in 0..200 {
            if load.admit(addr(peer), Class::Core, &ask, now) {
                load.note_answer(addr(peer), Class::Core, 60_000, now);
            }
        }
    }
    assert!(heard < Some(Duration::from_secs(3)), "{heard:?}");
    assert!(heard.is_some());
}

#[test]
fn many_members_that_exchange_little_are_never_limited() {
    let (mut load, ask) = (Load::new(), syn(300));
    for hundredth in 0..1_000_u64 {
        let now = Duration::from_millis(hundredth * 10);
        // 300 members, each once in a second.
        for peer in 0..3 {
            let from = addr(u16::try_from(hundredth % 100 * 3 + peer).unwrap());
            assert!(load.admit(from, Class::Core, &ask, now));
            load.note_answer(from, Class::Core, 9_000, now);
        }
    }
}

#[test]
fn forged_addresses_do_not_take_the_time_of_peers_that_have_an_identity() {
    let (mut load, long) = (Load::new(), syn(20_000));
    let mut admitted = 0;
    for millis in 0..3_000_u16 {
        let now = Duration::from_millis(millis.into());
        load.admit(addr(millis), Class::Unproved, &long, now);
        admitted += usize::from(load.admit(addr(9_999), Class::Core, &long, now));
    }
    // 80 ms each, as if there were no others.
    assert!((36..45).contains(&admitted), "{admitted}");
}

/// Returns the class of a leaf with one of eight invites.
fn leaf(n: u16) -> Class {
    static INVITES: OnceLock<Vec<InviteId>> = OnceLock::new();
    let invite = |_| InviteId::generate(Duration::ZERO, Duration::from_secs(60)).unwrap();
    let invites = INVITES.get_or_init(|| (0..8).map(invite).collect());
    Class::Leaf(Some(invites[usize::from(n) % 8]))
}

#[test]
fn leaves_that_come_with_a_new_identity_for_each_message_get_no_more_than_others() {
    let long = syn(6_390);
    for invites in [1, 7] {
        let mut load = Load::new();
        let (mut admitted, mut heard) = (0, [0; 2]);
        for n in 0..4_500_u16 {
            // 150 in a second.
            let now = Duration::from_micros(u64::from(n) * 6_667);
            let is_admitted = load.admit(addr(n), leaf(1 + n % invites), &long, now);
            admitted += u32::from(is_admitted && n >= 1_500);
            if n % 150 == 0 {
                for (honest, heard) in (0..).zip(&mut heard) {
                    let is_heard = load.admit(addr(9_000 + honest), leaf(honest), &syn(500), now);
                    *heard += u32::from(is_heard);
                }
            }
        }
        // At most one and a half seconds of work, 26 ms each, in each of 20 seconds. The holder of another
        // invite is always heard, and one of the same invite but for a round.
        assert!((900..1_200).contains(&admitted), "{invites}: {admitted}");
        let [of_another, of_same] = heard;
        assert_eq!(of_another, 30, "{invites}");
        assert!(of_same >= 29, "{invites}: {of_same}");
    }
}

#[test]
fn a_leaf_that_causes_little_is_heard_beside_any_number_of_greedy_ones_with_its_invite() {
    for greedy in [1, 2, 5, 40, 200] {
        let (mut load, ask, mut heard) = (Load::new(), syn(0), 0);
        for tick in 0..1_000_u32 {
            let now = TICK * tick;
            for n in 0..greedy {
                while load.admit(addr(n), leaf(0), &ask, now) {
                    load.note_answer(addr(n), leaf(0), 60_000, now);
                }
            }
            // At first, all that may wait is taken at once.
            if tick % 50 == 0 && tick >= 100 {
                heard += u32::from(load.admit(addr(9_999), leaf(0), &syn(500), now));
            }
        }
        // Some have to be sent again in the next round.
        assert!((16..=18).contains(&heard), "{greedy}: {heard}");
    }
}

#[test]
fn a_leaf_may_cause_as_much_at_once_as_a_core_member_and_half_of_what_leaves_may_later() {
    let (mut load, ask) = (Load::new(), syn(0));
    let mut answered = [0, 0];
    for tick in 0..500_u32 {
        let now = TICK * tick;
        while load.admit(addr(1), leaf(0), &ask, now) {
            load.note_answer(addr(1), leaf(0), 60_000, now);
            answered[usize::from(tick > 0)] += 1;
        }
    }
    let [at_once, later] = answered;
    assert!((250..270).contains(&at_once), "{at_once}");
    assert!((6_500..8_500).contains(&later), "{later}");
}

/// Lets so many leaves with one invite send a message with `members` in each second, and returns the largest number of
/// messages of one in a row that were refused.
fn longest_refusal(leaves: u16, members: u64, are_cores_busy: bool) -> u32 {
    let (mut load, mut rng) = (Load::new(), fastrand::Rng::with_seed(1));
    // Each at its own moment of every second, give or take a few milliseconds.
    let mut due = vec![Vec::new(); 46_000];
    for n in 0..leaves {
        due[rng.usize(0..1_000)].push(n);
    }
    let mut refused = vec![0; leaves.into()];
    let mut longest = 0;
    let (of_leaf, of_core) = (syn(members), syn(3_000));
    for millis in 0..45_000 {
        let now = Duration::from_millis(millis);
        if are_cores_busy && millis % 10 == 0 {
            for n in 0..8 {
                load.admit(addr(9_000 + n), Class::Core, &of_core, now);
            }
        }
        if millis % 1_000 == 0 {
            load.forget_idle(now);
        }
        let place = usize::try_from(millis).unwrap();
        for n in std::mem::take(&mut due[place]) {
            // The last ones are in the second after the end.
            let next = (place + rng.usize(996..1_005)).min(due.len() - 1);
            due[next].push(n);
            let refused = &mut refused[usize::from(n)];
            if load.admit(addr(n), leaf(0), &of_leaf, now) {
                load.note_answer(addr(n), leaf(0), 9_000, now);
                *refused = 0;
            } else {
                *refused += 1;
            }
            longest = longest.max(*refused);
        }
    }
    longest
}

#[test]
fn of_leaves_that_want_more_than_they_may_have_none_is_refused_for_long() {
    for (leaves, members, are_cores_busy, most) in [
        (256, 300, true, 0),
        (256, 1_000, false, 0),
        (256, 800, true, 8),
        (256, 1_200, true, 9),
        (768, 1_000, false, 8),
        (256, 3_125, false, 8),
        (64, 6_390, false, 5),
    ] {
        let longest = longest_refusal(leaves, members, are_cores_busy);
        assert!(
            longest <= most,
            "{leaves} {members} {are_cores_busy}: {longest}"
        );
        assert!(longest > 0 || most == 0, "they have what they want");
    }
}

#[test]
fn a_changing_load_of_others_makes_nobody_cause_more_work() {
    // Greedy peers, beside others that are so in turns of so many ticks.
    for (greedy, others, period, shares) in [
        (Class::Leaf(None), 2, 1, 1.6),
        (Class::Leaf(None), 2, 2, 1.6),
        (Class::Core, 8, 1, 2.3),
        (Class::Core, 8, 25, 2.3),
    ] {
        let (mut load, ask) = (Load::new(), syn(0));
        let mut answered = 0;
        for tick in 0..500_u32 {
            let now = TICK * tick;
            let are_busy = tick / period % 2 == 0;
            let others = (0..others).filter(|_| are_busy);
            let peers = others.map(|n| (n, Class::Core));
            for (n, class) in peers.chain((100..103).map(|n| (n, greedy))) {
                while load.admit(addr(n), class, &ask, now) {
                    load.note_answer(addr(n), class, 60_000, now);
                    answered += u32::from(class == greedy);
                }
            }
        }
        // In ten seconds, and what may wait at the end.
        let done = f64::from(answered) * 0.96 / 1000.0;
        assert!(done < 10.0 * shares + 1.5, "{greedy:?} {period}: {done}");
    }
}

/// Returns how many answers of 60 kB each 256 leaves, and each of `cores` core members, get in a second, each of which
/// asks for `asks` of them.
fn answers_beside_leaves(cores: u16, asks: u64) -> [u32; 2] {
    let (mut load, ask) = (Load::new(), syn(0));
    let mut answered = [0, 0];
    for hundredth in 0..500_u64 {
        let now = Duration::from_millis(hundredth * 10);
        let leaves = (0..256).map(|n| (1_000 + n, leaf(n)));
        let cores = (0..cores).map(|n| (n, Class::Core));
        for (peer, class) in leaves.chain(cores) {
            for _ in 0..asks {
                if load.admit(addr(peer), class, &ask, now) {
                    load.note_answer(addr(peer), class, 60_000, now);
                    answered[usize::from(class == Class::Core)] += u32::from(hundredth >= 400);
                }
            }
        }
    }
    answered
}

#[test]
fn leaves_together_take_what_core_members_leave_but_neither_all_nor_nothing() {
    // About 1 ms is counted for each answer: leaves alone get three quarters of 2 s.
    let [leaves, _] = answers_beside_leaves(0, 1);
    assert!((1_350..1_750).contains(&leaves), "{leaves}");
    // Core members get all that they ask for: 800 answers, 100 each.
    let [leaves, cores] = answers_beside_leaves(8, 1);
    assert_eq!(cores, 800);
    assert!((1_100..1_350).contains(&leaves), "{leaves}");
    // One may cause as much work as if there were no leaves, and so may 20.
    let [_, alone] = answers_beside_leaves(1, 16);
    assert!((1_000..1_150).contains(&alone), "{alone}");
    let [leaves, cores] = answers_beside_leaves(20, 16);
    assert!((1_900..2_300).contains(&cores), "{cores}");
    assert!((450..650).contains(&leaves), "{leaves}");
}

#[test]
fn the_end_of_work_is_later_if_others_share_the_time() {
    let mut load = Load::new();
    let long = syn(10_000);
    for peer in 0..8 {
        load.admit(addr(peer), Class::Core, &long, Duration::ZERO);
    }
    assert_eq!(load.idle_from(addr(0)), Duration::from_millis(40));
    // 40 ms each, and two at a time.
    load.admit(addr(8), Class::Core, &syn(0), TICK);
    let end = load.idle_from(addr(0)).as_millis();
    assert!((160..163).contains(&end), "{end}");
    assert_eq!(load.idle_from(addr(99)), Duration::ZERO);
}
