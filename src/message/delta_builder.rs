//! Builds a delta that fits into a limited number of bytes.
//!
//! The builder does not decide what is worth sending: the caller adds changes in the order of their
//! importance. Lengths are counted as if nothing could be compressed. Only if that exceeds the limit
//! are full blocks compressed to find their real length, as upstream does. A delta that fits
//! uncompressed therefore costs nothing extra, and a delta for a node that has much to catch up on
//! carries several times more.
//!
//! Invariant: the encoded delta is never longer than the limit, a node's changes are in the order of
//! their versions without a gap, and no node is empty (a Node operation alone can make a receiver
//! forget everything about the node).

use super::block_stream::{self, MAX_STREAM_LEN};
use super::delta::{
    SET_MAX_VERSION_LEN, key_value_len, node_len, put_key_value, put_node, put_set_max_version,
};
use super::error::EncodeError;
use super::id::ChitchatId;
use super::model::{DeletionStatus, Delta, KeyValueMutation, NodeDelta};
use super::node_digests::Version;

/// A builder of deltas with a limited encoded length.
///
/// Each `try_` method adds something and returns `true`, or leaves the delta as it is and returns
/// `false`. After the first addition that does not fit, all further ones are refused, so that a later
/// change never arrives before an earlier one.
#[derive(Debug)]
pub struct DeltaBuilder {
    limit: usize,
    /// The operations so far, before they are split into blocks.
    contents: Vec<u8>,
    /// Number of bytes at the start of `contents` whose encoded length is known. They are full
    /// blocks.
    settled: usize,
    /// The encoded length of those bytes.
    settled_len: usize,
    full: bool,
    delta: Delta,
    /// The node that was begun last, as long as no change of it has been added.
    begun: Option<NodeDelta>,
}

impl DeltaBuilder {
    /// Creates an empty delta that may grow to an encoded length of `limit` bytes. With a limit of
    /// zero nothing can be added, but the empty delta still takes one byte.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            contents: Vec::new(),
            settled: 0,
            settled_len: 0,
            full: false,
            delta: Delta::default(),
            begun: None,
        }
    }

    /// Returns the smallest limit at which a delta can contain this key and value of `chitchat_id`,
    /// in bytes. If messages have less room, the key can never be sent, and holds back all later
    /// changes of its node.
    pub fn len_bound_alone(chitchat_id: &ChitchatId, key: &str, value: &str) -> usize {
        block_stream::len_bound(node_len(chitchat_id).saturating_add(key_value_len(key, value)))
    }

    /// Begins the changes of a node, if there is room for the node. Each node must be begun at most
    /// once. A node to which no change is added afterwards is left out and takes no room.
    #[must_use]
    pub fn try_add_node(
        &mut self,
        chitchat_id: &ChitchatId,
        last_gc_version: Version,
        from_version_excluded: Version,
    ) -> bool {
        self.full = self.full || !self.has_room_for(node_len(chitchat_id));
        if self.full {
            return false;
        }
        self.begun = Some(NodeDelta {
            chitchat_id: chitchat_id.clone(),
            last_gc_version,
            from_version_excluded,
            key_values: Vec::new(),
            max_version: 0,
        });
        true
    }

    /// Adds a change of the node that was begun last. Also returns `false` if no node has been
    /// begun, or if `version` is not above the versions that were added before.
    #[must_use]
    pub fn try_add_key_value(
        &mut self,
        key: &str,
        value: &str,
        version: Version,
        status: DeletionStatus,
    ) -> bool {
        if !self.is_above_last(version) {
            return false;
        }
        let node_delta = self.try_append(key_value_len(key, value), |contents| {
            put_key_value(contents, key, value, version, status)
        });
        let Some(node_delta) = node_delta else {
            return false;
        };
        node_delta.max_version = version;
        node_delta.key_values.push(KeyValueMutation {
            key: key.to_owned(),
            value: value.to_owned(),
            version,
            status,
        });
        true
    }

    /// Adds the max version of the node that was begun last, for a node whose latest changes have
    /// been garbage-collected. Also returns `false` if no node has been begun, or if `max_version`
    /// is not above the versions that were added before.
    #[must_use]
    pub fn try_set_max_version(&mut self, max_version: Version) -> bool {
        if !self.is_above_last(max_version) {
            return false;
        }
        let node_delta = self.try_append(SET_MAX_VERSION_LEN, |contents| {
            put_set_max_version(contents, max_version);
            Ok(())
        });
        let Some(node_delta) = node_delta else {
            return false;
        };
        node_delta.max_version = max_version;
        true
    }

    /// Makes room for more, up to an encoded length of `limit` bytes, also if something did not fit before.
    pub(crate) fn extend_to(&mut self, limit: usize) {
        self.limit = self.limit.max(limit);
        self.full = false;
    }

    /// Returns an upper bound of the encoded length so far, in bytes.
    pub fn encoded_len_bound(&self) -> usize {
        self.len_bound_after(0)
    }

    /// Returns the finished delta.
    pub fn finish(self) -> Delta {
        self.delta
    }

    fn is_above_last(&self, version: Version) -> bool {
        let last = self.begun.as_ref().or(self.delta.node_deltas.last());
        last.is_some_and(|node_delta| version > node_delta.max_version)
    }

    /// Appends an operation of `len` bytes, preceded by its node if the node is new, if both fit.
    /// Returns the node that the operation applies to.
    fn try_append(
        &mut self,
        len: usize,
        put: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Option<&mut NodeDelta> {
        if self.full {
            return None;
        }
        let begun = self.begun.take();
        let node_len = begun
            .as_ref()
            .map_or(0, |begun| node_len(&begun.chitchat_id));
        let len = len.saturating_add(node_len);
        let before = self.contents.len();
        let fits = before.saturating_add(len) <= MAX_STREAM_LEN && self.has_room_for(len);
        // A string that is too long for its length prefix can never be sent, so the delta ends
        // before it.
        self.full = !fits
            || begun
                .as_ref()
                .map_or(Ok(()), |begun| put_begun(&mut self.contents, begun))
                .and_then(|()| put(&mut self.contents))
                .is_err();
        if self.full {
            self.contents.truncate(before);
            return None;
        }
        self.delta.node_deltas.extend(begun);
        self.delta.node_deltas.last_mut()
    }

    fn has_room_for(&mut self, len: usize) -> bool {
        if self.len_bound_after(len) <= self.limit {
            return true;
        }
        for block in block_stream::full_blocks(self.contents.get(self.settled..).unwrap_or(&[])) {
            self.settled = self.settled.saturating_add(block.len());
            self.settled_len = self
                .settled_len
                .saturating_add(block_stream::encoded_block_len(block));
        }
        self.len_bound_after(len) <= self.limit
    }

    fn len_bound_after(&self, len: usize) -> usize {
        let unsettled = self.contents.len().saturating_sub(self.settled);
        block_stream::len_bound(unsettled.saturating_add(len)).saturating_add(self.settled_len)
    }
}

fn put_begun(contents: &mut Vec<u8>, begun: &NodeDelta) -> Result<(), EncodeError> {
    put_node(
        contents,
        &begun.chitchat_id,
        begun.last_gc_version,
        begun.from_version_excluded,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ChitchatId {
        ChitchatId::new(name, 1, ([127, 0, 0, 1], 1).into())
    }

    #[test]
    fn a_node_is_refused_after_a_change_or_a_node_that_does_not_fit() {
        let long = "v".repeat(1000);
        let mut builder = DeltaBuilder::new(200);
        assert!(builder.try_add_node(&id("a"), 0, 0));
        assert!(builder.try_add_key_value("k", "v", 1, DeletionStatus::Set));
        assert!(!builder.try_add_key_value("l", &long, 2, DeletionStatus::Set));
        assert!(!builder.try_add_node(&id("b"), 0, 0), "there is room");
        assert!(!builder.try_add_key_value("l", "v", 2, DeletionStatus::Set));
        assert_eq!(builder.finish().node_deltas.len(), 1);

        let mut builder = DeltaBuilder::new(200);
        assert!(!builder.try_add_node(&id(&long), 0, 0));
        assert!(!builder.try_add_node(&id("b"), 0, 0), "there is room");
        assert_eq!(builder.finish(), Delta::default());
    }
}
