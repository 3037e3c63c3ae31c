//! Sorting, sets and maps, small in wasm.
//!
//! The standard library's sort is two to six kilobytes of wasm for each type that is sorted, and a
//! set or map that is collected sorts first; its tree is seven kilobytes for each type of value. In
//! a tab that was an eighth of the download, for a few values a round.

use std::collections::BTreeSet;

use litemap::LiteMap;

use crate::message::ChitchatId;

/// Members in their order, in one sorted vector: looked up far more often than they come or go.
pub(super) type Members<V> = LiteMap<ChitchatId, V>;

/// Meets each of `others`, which are in the same order, with the member of its id, in one walk
/// instead of a search for each.
pub(super) fn meet<'a, V, T>(
    members: &mut Members<V>,
    others: impl Iterator<Item = (&'a ChitchatId, T)>,
    mut met: impl FnMut(&'a ChitchatId, Option<&mut V>, T),
) {
    let mut members = members.iter_mut().peekable();
    for (id, other) in others {
        while members.next_if(|(member, _)| *member < id).is_some() {}
        let member = members.next_if(|(member, _)| *member == id);
        met(id, member.map(|(_, value)| value), other);
    }
}

/// What decides: ascending, one after the other.
pub(super) type Rank = (bool, u64, u64);

/// Stable.
pub(super) fn sorted<T>(values: Vec<T>, rank: impl Fn(&T) -> Rank) -> Vec<T> {
    let mut places: Vec<(Rank, usize)> = values.iter().map(rank).zip(0..).collect();
    places.sort_unstable();
    let mut values: Vec<Option<T>> = values.into_iter().map(Some).collect();
    let taken = places
        .into_iter()
        .map(|(_, place)| values.get_mut(place)?.take());
    taken.flatten().collect()
}

/// As `collect` does, one by one.
pub(super) fn set<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(values);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_meets_the_member_of_its_id_or_nobody() {
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
        let (met, nobody) = (|n| Some(n), None);
        let expected = [nobody, met(1), nobody, met(4), met(9), nobody];
        assert_eq!(pairs, expected.into_iter().zip(0..).collect::<Vec<_>>());
    }

    #[test]
    fn equals_keep_their_order() {
        let values = vec![(2, 'a'), (1, 'b'), (2, 'c'), (1, 'd')];
        let sorted = sorted(values, |(rank, _)| (false, *rank, 0));
        assert_eq!(sorted, [(1, 'b'), (1, 'd'), (2, 'a'), (2, 'c')]);
    }
}
