//! Limits how many members a bridge introduces to members that are reached over UDP.
//!
//! A node of the published crate that uses version 0 panics as soon as its digest does not fit into a datagram, which
//! it does with about 1,070 members whose names are short, and with fewer if they are long. Pages come and go, and each
//! of them stays in such a node for a day. So leaves are mentioned to peers over UDP only while there is room, in number
//! and in bytes; core members and those over UDP always are, and count first. Nothing is sent here. Invariant: in each
//! [`WINDOW`], at most as many different leaves are mentioned, and of at most such a length, as the limits leave beside
//! all other members. Those that members over UDP list were mentioned before, by this member before it was started
//! again or by another bridge: they count, too.

use std::time::Duration;

use super::super::cluster::Cluster;
use super::super::cores::Owner;
use super::super::order::Members;
use crate::message::ChitchatId;

/// The time for which a member that was mentioned counts: nodes of the published crate remember a dead member for a
/// day.
const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// The number of gossip intervals after the first digest of a member over UDP in which the others are asked, too.
const INFORMED_INTERVALS: u32 = 3;

/// The length that a digest of all members may have that peers over UDP are told of, in bytes: three quarters of the
/// datagram into which nodes of the published crate put theirs. 500 members with names of up to 45 bytes fit.
const MOST_BYTES: usize = 48 << 10;

/// The leaves that were mentioned to peers over UDP, and those that were not.
#[derive(Debug)]
pub(in crate::gossip::engine) struct Introductions {
    /// The most members that peers over UDP are told of.
    limit: Size,
    leaves: Members<Visibility>,
    /// The members that may be mentioned, sorted by id: this one, those that are no leaves, and leaves for which there is
    /// room. A message that asks for them costs as much as its answer, however many others there are.
    told: Vec<ChitchatId>,
    /// The time of the last choice, and the number of members then.
    chosen: Option<(Duration, usize)>,
    /// The leaves that count, and the room for them at the last choice.
    shown: Size,
    room: Size,
    /// When a member over UDP first listed whom it knows.
    informed: Option<Duration>,
}

/// A number of members, and the length of their entries in a digest.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    members: usize,
    bytes: usize,
}

/// Whether messages to peers over UDP may mention a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visibility {
    /// It was last mentioned then.
    Shown(Duration),
    /// There was no room.
    Hidden,
}

impl Size {
    fn of<'a>(ids: impl Iterator<Item = &'a ChitchatId>) -> Self {
        ids.fold(Self::default(), Self::with)
    }

    /// Returns the size with one more member.
    fn with(self, id: &ChitchatId) -> Self {
        Self {
            members: self.members.saturating_add(1),
            bytes: self.bytes.saturating_add(id.digest_entry_len()),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            members: self.members.saturating_sub(other.members),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    fn half(self) -> Self {
        Self {
            members: self.members / 2,
            bytes: self.bytes / 2,
        }
    }

    fn fits(self, room: Self) -> bool {
        self.members <= room.members && self.bytes <= room.bytes
    }
}

impl Introductions {
    /// Returns a value for a bridge that introduces at most this many members.
    pub(in crate::gossip::engine) fn new(most: usize) -> Self {
        let limit = Size {
            members: most,
            bytes: MOST_BYTES,
        };
        Self {
            limit,
            leaves: Members::new(),
            told: Vec::new(),
            chosen: None,
            shown: Size::default(),
            room: limit,
            informed: None,
        }
    }

    /// Notes which leaves a peer over UDP lists. Whoever lists others than there are takes room of the leaves by it, as
    /// with members over UDP that do not exist, and nothing else.
    pub(in crate::gossip::engine) fn note_listed<'a>(
        &mut self,
        leaves: impl Iterator<Item = &'a ChitchatId>,
        now: Duration,
    ) {
        self.informed = self.informed.or(Some(now));
        for id in leaves {
            if let Some(Visibility::Shown(at)) = self.leaves.get_mut(id) {
                *at = now;
                continue;
            }
            let more = self.shown.with(id);
            if more.fits(self.room) {
                self.shown = more;
                self.leaves.insert(id.clone(), Visibility::Shown(now));
            }
        }
    }

    /// Returns true if it is time to choose again: there are more or fewer members now, who must not wait to be told of,
    /// or a quarter of the gossip `interval` has passed.
    pub(in crate::gossip::engine) fn is_due(
        &self,
        members: usize,
        interval: Duration,
        now: Duration,
    ) -> bool {
        self.chosen
            .is_none_or(|(at, of)| of != members || now.saturating_sub(at) >= interval / 4)
    }

    /// Returns the members that a message to a peer over UDP may mention, sorted by id.
    pub(in crate::gossip::engine) fn told(&self) -> &[ChitchatId] {
        &self.told
    }

    /// Chooses which leaves of `cluster` a message to a peer over UDP may mention. Those in the second half of the room
    /// must be live, so that pages that are loaded and closed at once do not take it. Those that are `gone` are not
    /// mentioned for the first time. Returns the number of leaves that are
    /// hidden from now on and were not before.
    pub(in crate::gossip::engine) fn update(
        &mut self,
        cluster: &Cluster,
        is_live: impl Fn(&ChitchatId) -> bool,
        is_gone: impl Fn(&ChitchatId) -> bool,
        interval: Duration,
        now: Duration,
    ) -> usize {
        self.leaves.retain(|id, visibility| match visibility {
            Visibility::Shown(at) => now.saturating_sub(*at) < WINDOW,
            Visibility::Hidden => cluster.get(id).is_some(),
        });
        let is_leaf = |id: &&ChitchatId| cluster.owner(id) == Owner::Leaf;
        let ids = || cluster.nodes().map(|(id, _)| id);
        let room = self.limit.minus(Size::of(ids().filter(|id| !is_leaf(id))));
        let is_shown = |visibility: &Visibility| matches!(visibility, Visibility::Shown(_));
        // A core member at a key address counts already.
        let counts = |id: &ChitchatId| cluster.get(id).is_none() || is_leaf(&id);
        let shown = self.leaves.iter();
        let shown = shown.filter(|(id, of)| is_shown(of) && counts(id));
        let mut shown = Size::of(shown.map(|(id, _)| id));
        let mut hidden = 0;
        // At first, it is not known whom members over UDP know already.
        let wait = interval.saturating_mul(INFORMED_INTERVALS);
        let is_informed = self
            .informed
            .is_some_and(|at| now >= at.saturating_add(wait));
        let room_for_new = if is_informed { room } else { Size::default() };
        for id in cluster.others().filter(is_leaf) {
            match self.leaves.get_mut(id) {
                Some(Visibility::Shown(at)) => *at = now,
                visibility => {
                    let more = shown.with(id);
                    let has_room = more.fits(room);
                    let may = more.fits(room_for_new)
                        && (is_live(id) || more.fits(room_for_new.half()) && !is_gone(id));
                    if may {
                        shown = more;
                        self.leaves.insert(id.clone(), Visibility::Shown(now));
                    } else if visibility.is_none() && !has_room {
                        hidden += 1;
                        self.leaves.insert(id.clone(), Visibility::Hidden);
                    }
                }
            }
        }
        let told = ids().filter(|id| !is_leaf(id) || self.is_shown(id));
        self.told = told.cloned().collect();
        self.chosen = Some((now, cluster.nodes().len()));
        (self.shown, self.room) = (shown, room);
        hidden
    }

    /// Returns true if a message to a peer over UDP may mention the leaf `id`.
    pub(in crate::gossip::engine) fn is_shown(&self, id: &ChitchatId) -> bool {
        matches!(self.leaves.get(id), Some(Visibility::Shown(_)))
    }
}
