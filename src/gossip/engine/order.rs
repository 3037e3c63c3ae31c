//! Sorting, sets and maps that compile to little wasm.
//!
//! The standard library's sort takes two to six kilobytes of wasm for each type that is sorted, and
//! collecting into a set or map sorts first; `BTreeMap` takes seven kilobytes for each type of
//! value. In a tab that was an eighth of the download, for a few values in each round. These
//! replacements are for such few values; they are not faster.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::net::SocketAddr;

use litemap::LiteMap;

use crate::message::ChitchatId;

/// A map from members to values, as one sorted vector. Lookups are far more frequent than members
/// that come and go.
pub(super) type Members<V> = LiteMap<ChitchatId, V>;

/// The number of members up to which they are added one by one.
const FEW: usize = 2;

/// Calls `met` for each of `others`, together with the value of the same member, if it is known.
/// `others` must be sorted by id: both are walked once, without a search for each.
pub(super) fn meet<'a, V, T>(
    members: &mut Members<V>,
    others: impl Iterator<Item = (&'a ChitchatId, T)>,
    mut met: impl FnMut(&'a ChitchatId, Option<&mut V>, T),
) {
    let mut members = members.iter_mut().peekable();
    for (id, other) in others {
        let member = advance(&mut members, id);
        met(id, member, other);
    }
}

/// Skips the entries of sorted `entries` before `id`, and returns the value of the entry of `id` if there
/// is one. Compares each id once.
pub(super) fn advance<'a, V>(
    entries: &mut Peekable<impl Iterator<Item = (&'a ChitchatId, V)>>,
    id: &ChitchatId,
) -> Option<V> {
    loop {
        let mut order = Ordering::Greater;
        let passed = entries.next_if(|(entry, _)| {
            order = (*entry).cmp(id);
            order != Ordering::Greater
        })?;
        if order == Ordering::Equal {
            return Some(passed.1);
        }
    }
}

/// Adds `others`, which must be sorted by id and not be among `members`. Takes time in proportion to
/// both together: to insert them one by one would move the members behind each.
pub(super) fn insert_all<V>(members: &mut Members<V>, others: Vec<(ChitchatId, V)>) {
    if others.len() <= FEW {
        for (id, value) in others {
            members.insert(id, value);
        }
        return;
    }
    let before = std::mem::take(members).into_tuple_vec();
    let mut all = Vec::with_capacity(before.len().saturating_add(others.len()));
    let mut others = others.into_iter().peekable();
    for member in before {
        while let Some(other) = others.next_if(|(id, _)| *id < member.0) {
            all.push(other);
        }
        all.push(member);
    }
    all.extend(others);
    *members = Members::from_sorted_store_unchecked(all);
}

/// A sort key: ascending, field by field.
pub(super) type Rank = (bool, u64, u64);

/// Returns `values` sorted by `rank`. The sort is stable.
pub(super) fn sorted<T>(values: Vec<T>, rank: impl Fn(&T) -> Rank) -> Vec<T> {
    let mut places: Vec<(Rank, usize)> = values.iter().map(rank).zip(0..).collect();
    places.sort_unstable();
    let mut values: Vec<Option<T>> = values.into_iter().map(Some).collect();
    let taken = places
        .into_iter()
        .map(|(_, place)| values.get_mut(place)?.take());
    taken.flatten().collect()
}

/// Returns a map with an empty place for each of `addrs`.
pub(super) fn places<T>(addrs: BTreeSet<SocketAddr>) -> LiteMap<SocketAddr, Option<T>> {
    addrs.into_iter().map(|addr| (addr, None)).collect()
}

/// Returns a set of `values`. Unlike `collect`, it inserts them one by one.
pub(super) fn set<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(values);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_meets_the_member_of_the_same_id_or_none() {
        let id = |n: u16| ChitchatId::new("a", n.into(), ([127, 0, 0, 1], n).into());
        let mut members = Members::new();
        for n in [1, 3, 4, 9] {
            members.insert(id(n), n);
        }
        let others = [0, 1, 2, 4, 9, 10].map(id);
        let mut pairs = Vec::new();
        meet(&mut members, others.iter().zip(0..), |_, member, other| {
            pairs.push((member.copied(), other));
        });
        let expected = [None, Some(1), None, Some(4), Some(9), None];
        assert_eq!(pairs, expected.into_iter().zip(0..).collect::<Vec<_>>());
    }

    #[test]
    fn members_that_are_added_together_are_found_as_if_they_had_been_added_one_by_one() {
        let id = |n: u16| ChitchatId::new("a", n.into(), ([127, 0, 0, 1], n).into());
        for added in [vec![], vec![0], vec![5], vec![0, 2, 5, 9], vec![7, 8]] {
            let mut members = Members::new();
            for n in [1, 3, 4, 6] {
                members.insert(id(n), n);
            }
            let mut expected = members.clone();
            for n in &added {
                expected.insert(id(*n), *n);
            }
            insert_all(
                &mut members,
                added.into_iter().map(|n| (id(n), n)).collect(),
            );
            assert_eq!(members, expected);
        }
    }

    #[test]
    fn values_of_equal_rank_keep_their_order() {
        let values = vec![(2, 'a'), (1, 'b'), (2, 'c'), (1, 'd')];
        let sorted = sorted(values, |(rank, _)| (false, *rank, 0));
        assert_eq!(sorted, [(1, 'b'), (1, 'd'), (2, 'a'), (2, 'c')]);
    }
}
