//! The quotas of an invite: how much its holders may use.
//!
//! Nothing is counted here. Invariant: every combination of values is valid; 0 allows none.

/// How much the holders of an invite may use. What an invite does not say has the default of the member that
/// judges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Quotas {
    pub(super) max_keys: Option<u32>,
    pub(super) max_bytes: Option<u32>,
    pub(super) max_changes_per_second: Option<u32>,
    pub(super) max_connections: Option<u32>,
}

impl Quotas {
    /// Default number of keys of one holder: several times what a page sets.
    pub const DEFAULT_MAX_KEYS: u32 = 64;
    /// Default size of the keys and values of one holder, in bytes: it fits into one datagram of a V0 node several times.
    pub const DEFAULT_MAX_BYTES: u32 = 16 << 10;
    /// Default number of changes per second: enough to show a moving cursor. Rumours leave at most 50 times per second.
    pub const DEFAULT_MAX_CHANGES_PER_SECOND: u32 = 20;
    /// Default number of connections of all holders: a quarter of those that a socket has by default.
    pub const DEFAULT_MAX_CONNECTIONS: u32 = 256;

    /// Returns the largest number of keys of one holder, without those that it has deleted. Default 64.
    pub fn max_keys(&self) -> u32 {
        self.max_keys.unwrap_or(Self::DEFAULT_MAX_KEYS)
    }
    /// Returns the largest size of the keys and values of one holder, in bytes, counting 64 more for each key as
    /// the limits of members do. Default 16 KiB.
    pub fn max_bytes(&self) -> u32 {
        self.max_bytes.unwrap_or(Self::DEFAULT_MAX_BYTES)
    }
    /// Returns the largest number of keys that one holder may set or delete in a second. Default 20.
    pub fn max_changes_per_second(&self) -> u32 {
        self.max_changes_per_second
            .unwrap_or(Self::DEFAULT_MAX_CHANGES_PER_SECOND)
    }
    /// Returns the largest number of connections that all holders together have to a member at a time. Default 256.
    pub fn max_connections(&self) -> u32 {
        self.max_connections
            .unwrap_or(Self::DEFAULT_MAX_CONNECTIONS)
    }

    /// Sets [`max_keys`](Self::max_keys).
    #[must_use]
    pub fn with_max_keys(mut self, keys: u32) -> Self {
        self.max_keys = Some(keys);
        self
    }
    /// Sets [`max_bytes`](Self::max_bytes).
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: u32) -> Self {
        self.max_bytes = Some(bytes);
        self
    }
    /// Sets [`max_changes_per_second`](Self::max_changes_per_second).
    #[must_use]
    pub fn with_max_changes_per_second(mut self, changes: u32) -> Self {
        self.max_changes_per_second = Some(changes);
        self
    }
    /// Sets [`max_connections`](Self::max_connections).
    #[must_use]
    pub fn with_max_connections(mut self, connections: u32) -> Self {
        self.max_connections = Some(connections);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(quotas: Quotas) -> [u32; 4] {
        [
            quotas.max_keys(),
            quotas.max_bytes(),
            quotas.max_changes_per_second(),
            quotas.max_connections(),
        ]
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let quotas = Quotas::default();
        assert_eq!(values(quotas), [64, 16_384, 20, 256]);
        assert_eq!(values(quotas.with_max_keys(0)), [0, 16_384, 20, 256]);
        let quotas = quotas
            .with_max_keys(1)
            .with_max_bytes(2)
            .with_max_changes_per_second(3)
            .with_max_connections(4);
        assert_eq!(values(quotas), [1, 2, 3, 4]);
    }
}
