//! [`Denial`]: why a part of a message was not applied, and how often.
//!
//! Plain values. Invariant: every kind has a name of its own, which metrics use.

/// Why a part of a message was not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Denial {
    /// A later heartbeat of a member that the sender may not change.
    Heartbeat,
    /// A member that was unknown and that the sender may not add.
    NewMember,
    /// Changes, deletions or a reset of a member that the sender may not change.
    Changes,
    /// A later heartbeat or version of the receiver itself than it has.
    Receiver,
    /// A leaf's own member, while the claims of its invite are not known.
    Claims,
    /// A name of a leaf that does not begin with the prefix of the invite, that is longer than 256 bytes, or that a core
    /// member has.
    Name,
    /// A generation that lies in the future, or that is the seventh of the same leaf in a minute.
    Generation,
    /// A heartbeat or version of a leaf, or of a member that is reached over UDP, that is not below 2^53.
    Version,
    /// A key that is reserved for core members.
    ReservedKey,
    /// More keys than the invite allows.
    Keys,
    /// More bytes than the invite allows.
    Bytes,
    /// More changes in a second than the invite allows.
    Rate,
    /// A leaf for which there is no room, since leaves may be no more than three quarters of all members.
    Room,
    /// A leaf that was not mentioned to members over UDP, since those have heard of enough members.
    Hidden,
}

impl Denial {
    /// All kinds.
    pub const ALL: [Self; 14] = [
        Self::Heartbeat,
        Self::NewMember,
        Self::Changes,
        Self::Receiver,
        Self::Claims,
        Self::Name,
        Self::Generation,
        Self::Version,
        Self::ReservedKey,
        Self::Keys,
        Self::Bytes,
        Self::Rate,
        Self::Room,
        Self::Hidden,
    ];

    /// Returns a name for metrics and logs, in lower-case letters and underscores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::NewMember => "new_member",
            Self::Changes => "changes",
            Self::Receiver => "receiver",
            Self::Claims => "claims",
            Self::Name => "name",
            Self::Generation => "generation",
            Self::Version => "version",
            Self::ReservedKey => "reserved_key",
            Self::Keys => "keys",
            Self::Bytes => "bytes",
            Self::Rate => "rate",
            Self::Room => "room",
            Self::Hidden => "hidden",
        }
    }
}

/// The number of parts of messages that were not applied, for each [`Denial`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DenialCounts([u64; Denial::ALL.len()]);

impl DenialCounts {
    /// Returns the number of parts that were not applied for this reason.
    pub fn count(&self, denial: Denial) -> u64 {
        self.0.get(denial as usize).copied().unwrap_or_default()
    }

    /// Returns each kind with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Denial, u64)> + '_ {
        Denial::ALL.into_iter().map(|kind| (kind, self.count(kind)))
    }

    /// Returns the number of all kinds together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(in crate::gossip::engine) fn add(&mut self, denial: Denial, count: usize) {
        if let Some(counter) = self.0.get_mut(denial as usize) {
            *counter = counter.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_kind_has_a_name_and_a_counter_of_its_own() {
        let names: BTreeSet<_> = Denial::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), Denial::ALL.len());
        let mut counts = DenialCounts::default();
        for (kind, times) in Denial::ALL.into_iter().zip(1..) {
            counts.add(kind, times);
        }
        let counted: Vec<_> = counts.iter().map(|(_, count)| count).collect();
        assert_eq!(counted, (1..=14).collect::<Vec<_>>());
        assert_eq!(counts.total(), 105);
    }
}
