//! Builds a delta that fits.
//!
//! Knows lengths, not what is worth sending: the caller offers changes in the order in which they
//! matter. Invariant: the built delta encodes to at most the limit, a node's keys are sent in the
//! order of their versions without a gap, and no node goes out empty (a Node operation alone can
//! make a receiver forget all that it knew).

use super::delta::{SET_MAX_VERSION_LEN, key_value_len, node_len};
use super::field::MAX_STR_LEN;
use super::{
    ChitchatId, DeletionStatus, Delta, KeyValueMutation, MAX_STREAM_LEN, NodeDelta, Version,
    block_stream,
};

/// A delta under construction, of limited encoded length.
///
/// The `try_` functions add something and say `true`, or leave the delta as it is and say `false`.
/// Once something did not fit, nothing fits any more: what comes later may not overtake it.
#[derive(Debug)]
pub struct DeltaBuilder {
    limit: usize,
    contents_len: usize,
    full: bool,
    delta: Delta,
}

impl DeltaBuilder {
    /// An empty delta that may grow to `limit` bytes, encoded. With a limit of zero, nothing fits.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            contents_len: 0,
            full: false,
            delta: Delta::default(),
        }
    }

    /// The shortest limit at which a delta can bring `key` of `chitchat_id`. If the messages that
    /// one sends have less room, the key can never be sent, and holds back every later one.
    pub fn len_bound_alone(chitchat_id: &ChitchatId, key: &str, value: &str) -> usize {
        block_stream::len_bound(node_len(chitchat_id).saturating_add(key_value_len(key, value)))
    }

    /// Begins with the changes of a node. Each node may be begun once.
    #[must_use]
    pub fn try_add_node(
        &mut self,
        chitchat_id: &ChitchatId,
        last_gc_version: Version,
        from_version_excluded: Version,
    ) -> bool {
        if !self.try_grow(node_len(chitchat_id), &[&chitchat_id.node_id]) {
            return false;
        }
        self.delta.node_deltas.push(NodeDelta {
            chitchat_id: chitchat_id.clone(),
            last_gc_version,
            from_version_excluded,
            key_values: Vec::new(),
            max_version: 0,
        });
        true
    }

    /// Adds a change of the node that was begun last. `false` as well if there is none, or if
    /// `version` is not above those added before.
    #[must_use]
    pub fn try_add_key_value(
        &mut self,
        key: &str,
        value: &str,
        version: Version,
        status: DeletionStatus,
    ) -> bool {
        if version <= self.last_version().unwrap_or(Version::MAX)
            || !self.try_grow(key_value_len(key, value), &[key, value])
        {
            return false;
        }
        if let Some(node_delta) = self.delta.node_deltas.last_mut() {
            node_delta.max_version = version;
            node_delta.key_values.push(KeyValueMutation {
                key: key.to_owned(),
                value: value.to_owned(),
                version,
                status,
            });
        }
        true
    }

    /// Says that the node that was begun last has reached `max_version`: for one whose changes
    /// have all been collected. `false` as well if there is no node, or if `max_version` is not
    /// above the versions added before.
    #[must_use]
    pub fn try_set_max_version(&mut self, max_version: Version) -> bool {
        if max_version <= self.last_version().unwrap_or(Version::MAX)
            || !self.try_grow(SET_MAX_VERSION_LEN, &[])
        {
            return false;
        }
        if let Some(node_delta) = self.delta.node_deltas.last_mut() {
            node_delta.max_version = max_version;
        }
        true
    }

    /// An upper bound of the encoded length so far, in bytes.
    pub fn encoded_len_bound(&self) -> usize {
        block_stream::len_bound(self.contents_len)
    }

    /// The delta. A node that nothing was said about is left out.
    pub fn finish(mut self) -> Delta {
        self.delta
            .node_deltas
            .retain(|node_delta| node_delta.max_version > 0);
        self.delta
    }

    fn last_version(&self) -> Option<Version> {
        self.delta
            .node_deltas
            .last()
            .map(|node_delta| node_delta.max_version)
    }

    fn try_grow(&mut self, by: usize, strings: &[&str]) -> bool {
        let contents_len = self.contents_len.saturating_add(by);
        self.full |= contents_len > MAX_STREAM_LEN
            || block_stream::len_bound(contents_len) > self.limit
            || strings.iter().any(|text| text.len() > MAX_STR_LEN);
        if !self.full {
            self.contents_len = contents_len;
        }
        !self.full
    }
}
