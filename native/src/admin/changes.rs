//! What has changed between two looks at the members.
//!
//! Compares versions and not values, so that a watch holds the names of keys and no values. Invariant:
//! applied in order, the events lead from the first look to the last.

use std::collections::BTreeMap;

use gossip_transport::gossip::Member;
use gossip_transport::message::{ChitchatId, Version};

use super::items::{Deleted, Entry, Event, State, Subject};
use crate::member_status::MemberStatus;

/// The members as they were at the last look.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<ChitchatId, KnownMember>);

#[derive(Debug)]
struct KnownMember {
    live: bool,
    left: bool,
    superseded: bool,
    /// The version of each key. A member's versions rise with each change.
    versions: BTreeMap<String, Version>,
}

/// A member as it is now.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    id: ChitchatId,
    status: MemberStatus,
    versions: BTreeMap<String, Version>,
}

impl From<Member> for Seen {
    fn from(member: Member) -> Self {
        let keys = member.key_values.iter();
        Self {
            id: member.id.clone(),
            versions: keys
                .map(|(key, value)| (key.clone(), value.version))
                .collect(),
            status: member.into(),
        }
    }
}

impl Known {
    /// Returns what has changed about a member since the last look.
    pub(super) fn update(&mut self, seen: Seen) -> Vec<Event> {
        let Seen {
            id,
            status,
            versions,
        } = seen;
        let now = KnownMember {
            live: status.live,
            left: status.left,
            superseded: status.superseded,
            versions,
        };
        let events = match self.0.get(&id) {
            None => vec![Event::Member(status)],
            Some(before) => before.changes(&now, status, &Subject::from(&id)),
        };
        self.0.insert(id, now);
        events
    }

    /// Forgets the members that `is_known` does not know any more, and returns that.
    pub(super) fn forget_unless(&mut self, is_known: impl Fn(&ChitchatId) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        self.0.retain(|id, _| {
            let stays = is_known(id);
            if !stays {
                events.push(Event::Forgotten(id.into()));
            }
            stays
        });
        events
    }
}

impl KnownMember {
    fn changes(&self, now: &Self, mut status: MemberStatus, member: &Subject) -> Vec<Event> {
        let mut events = Vec::new();
        let state = |of: &Self| (of.live, of.left, of.superseded);
        if state(self) != state(now) {
            events.push(Event::State(State {
                member: member.clone(),
                live: now.live,
                left: now.left,
                superseded: now.superseded,
            }));
        }
        for (key, version) in &now.versions {
            if self.versions.get(key) == Some(version) {
                continue;
            }
            if let Some((key, value)) = status.keys.remove_entry(key) {
                events.push(Event::Set(Entry {
                    member: member.clone(),
                    live: now.live,
                    key,
                    value,
                }));
            }
        }
        let gone = self
            .versions
            .keys()
            .filter(|key| !now.versions.contains_key(*key));
        events.extend(gone.map(|key| {
            Event::Delete(Deleted {
                member: member.clone(),
                key: key.clone(),
            })
        }));
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(keys: &[(&str, &str, Version)]) -> Seen {
        let id = ChitchatId::new("a", 7, ([127, 0, 0, 1], 1).into());
        let entries = keys.iter();
        Seen {
            status: MemberStatus {
                id: "a".to_owned(),
                generation: 7,
                addr: id.addr(),
                live: true,
                left: false,
                superseded: false,
                myself: false,
                heartbeat: 1,
                keys: entries
                    .clone()
                    .map(|(key, value, _)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
            },
            versions: entries
                .map(|(key, _, version)| ((*key).to_owned(), *version))
                .collect(),
            id,
        }
    }

    fn set(seen: &Seen, key: &str, value: &str) -> Event {
        Event::Set(Entry {
            member: (&seen.id).into(),
            live: seen.status.live,
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }

    #[test]
    fn each_change_of_a_member_and_its_keys_is_reported_once() {
        let mut known = Known::default();
        let first = seen(&[("x", "1", 1), ("y", "2", 2)]);
        assert_eq!(
            known.update(first.clone()),
            [Event::Member(first.status.clone())]
        );
        assert_eq!(known.update(first), []);

        let second = seen(&[("x", "1", 1), ("y", "3", 3), ("z", "", 4)]);
        assert_eq!(
            known.update(second.clone()),
            [set(&second, "y", "3"), set(&second, "z", "")]
        );
        // Set to another value and back in between.
        let third = seen(&[("x", "1", 6), ("y", "3", 3)]);
        let member = Subject::from(&third.id);
        let gone = Deleted {
            member: member.clone(),
            key: "z".to_owned(),
        };
        assert_eq!(
            known.update(third.clone()),
            [set(&third, "x", "1"), Event::Delete(gone)]
        );

        let mut dead = third;
        dead.status.live = false;
        let state = |left, superseded| {
            Event::State(State {
                member: member.clone(),
                live: false,
                left,
                superseded,
            })
        };
        assert_eq!(known.update(dead.clone()), [state(false, false)]);
        dead.status.left = true;
        assert_eq!(known.update(dead.clone()), [state(true, false)]);
        dead.status.superseded = true;
        dead.status.heartbeat = 9;
        assert_eq!(known.update(dead.clone()), [state(true, true)]);
        assert_eq!(known.update(dead), []);

        assert_eq!(known.forget_unless(|_| true), []);
        let forgotten = known.forget_unless(|_| false);
        assert_eq!(forgotten, [Event::Forgotten(member.clone())]);
        assert_eq!(known.forget_unless(|_| false), []);
    }

    #[test]
    fn an_event_is_a_flat_object_that_names_its_kind() {
        let event = set(&seen(&[]), "color", "red");
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(
            text,
            r#"{"event":"set","id":"a","generation":7,"addr":"127.0.0.1:1","live":true,"key":"color","value":"red"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        let current = serde_json::to_string(&Event::Current {}).unwrap();
        assert_eq!(current, r#"{"event":"current"}"#);
    }
}
