//! What the engine tells of its members.

use super::*;

#[test]
fn members_are_listed_in_the_order_of_their_ids_and_as_many_at_a_time_as_their_keys_permit() {
    let mut us = engine(1);
    let key = "k".repeat(100);
    us.set(&key, "v", SECOND).unwrap();
    let listed = digest(&[(id(2), 1), (id(3), 1)]);
    receive(&mut us, syn("cluster", ProtocolVersion::V0, listed), SECOND);
    let version = ProtocolVersion::V0;
    for n in [2, 3] {
        let delta = delta_of(&id(n), &key, 1);
        receive(&mut us, ChitchatMessage::Ack { version, delta }, SECOND);
    }
    let bytes = us.cluster.own_ref().unwrap().bytes();
    let page = |after: Option<u16>, max_bytes| {
        let members = us.members_after(after.map(id).as_ref(), max_bytes);
        let ids = members.into_iter().map(|member| member.id);
        ids.collect::<Vec<_>>()
    };
    for max_bytes in [0, 1, bytes] {
        assert_eq!(page(None, max_bytes), [id(1)]);
        assert_eq!(page(Some(1), max_bytes), [id(2)]);
    }
    assert_eq!(page(None, bytes + 1), [id(1), id(2)]);
    assert_eq!(page(None, usize::MAX), [id(1), id(2), id(3)]);
    assert_eq!(page(Some(3), usize::MAX), []);
}

#[test]
fn all_generations_of_a_name_are_found_by_it_as_they_are_listed() {
    let mut us = engine(1);
    let restarted = ChitchatId {
        generation_id: id(2).generation_id + 1,
        ..id(2)
    };
    let listed = digest(&[(id(2), 1), (id(3), 1), (restarted.clone(), 1)]);
    receive(&mut us, syn("cluster", ProtocolVersion::V0, listed), SECOND);
    let name = id(2).node_id;
    let named = us.members_named(&name);
    let ids: Vec<_> = named.iter().map(|member| member.id.clone()).collect();
    assert_eq!(ids, [id(2), restarted]);
    assert_eq!([named[0].superseded, named[1].superseded], [true, false]);
    let mut all = us.members();
    all.retain(|member| member.id.node_id == name);
    assert_eq!(named, all);
    assert_eq!(us.members_named("nobody"), []);
}

#[test]
fn the_members_that_are_live_are_known_by_their_addresses() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 1);
    assert_eq!(us.live_addrs(), BTreeSet::new());
    assert!(!us.has_live_members());
    beat(&mut us, &id(3), 2, 4);
    assert_eq!(us.live_addrs(), BTreeSet::from([addr(3)]));
    assert!(us.has_live_members());
    let members = us.members().into_iter();
    let expected: Vec<_> = members.map(|member| (member.id, member.liveness)).collect();
    assert_eq!(us.liveness_of_members(), expected);
    let liveness: Vec<_> = expected.into_iter().map(|(_, liveness)| liveness).collect();
    assert_eq!(liveness, [Liveness::Myself, Liveness::Dead, Liveness::Live]);
}

#[test]
fn a_member_is_shown_with_its_verdict_and_the_keys_that_it_has_not_deleted() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 1);
    beat(&mut us, &id(3), 2, 4);
    us.set("k", "v", SECOND * 4).unwrap();
    us.set("gone", "v", SECOND * 4).unwrap();
    us.delete("gone", SECOND * 4).unwrap();
    let members = us.members();
    let verdicts: Vec<_> = members.iter().map(|m| m.liveness.as_str()).collect();
    assert_eq!(verdicts, ["myself", "dead", "live"]);
    let keys = members[0].key_values.iter();
    let keys: Vec<_> = keys
        .map(|(key, value)| (key.as_str(), value.value.as_str()))
        .collect();
    assert_eq!(keys, [("k", "v")]);
}
