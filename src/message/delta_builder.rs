//! Builds a delta that fits.
//!
//! Knows lengths, not what is worth sending: the caller offers changes in the order in which they
//! matter. Lengths are counted as if nothing could be compressed. Only when that does not suffice,
//! blocks that are full are compressed to see what they really take, as upstream does: a delta
//! that fits as it is costs nothing, and one that catches up takes several times more with it.
//!
//! Invariant: the built delta encodes to at most the limit, a node's keys are sent in the
//! order of their versions without a gap, and no node goes out empty (a Node operation alone can
//! make a receiver forget all that it knew).

use super::delta::{
    SET_MAX_VERSION_LEN, key_value_len, node_len, put_key_value, put_node, put_set_max_version,
};
use super::{
    ChitchatId, DeletionStatus, Delta, EncodeError, KeyValueMutation, MAX_STREAM_LEN, NodeDelta,
    Version, block_stream,
};

/// A delta under construction, of limited encoded length.
///
/// The `try_` functions add something and say `true`, or leave the delta as it is and say `false`.
/// Once something did not fit, nothing fits any more: what comes later may not overtake it.
#[derive(Debug)]
pub struct DeltaBuilder {
    limit: usize,
    /// The operations so far, as they will be cut into blocks.
    contents: Vec<u8>,
    /// How many bytes of `contents`, all of them full blocks, have been compressed to see.
    settled: usize,
    /// What those bytes take, encoded.
    settled_len: usize,
    full: bool,
    delta: Delta,
    /// The node that was begun and that nothing has been said about yet.
    begun: Option<NodeDelta>,
}

impl DeltaBuilder {
    /// An empty delta that may grow to `limit` bytes, encoded. With a limit of zero nothing fits,
    /// though the empty delta takes a byte even so.
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

    /// The shortest limit at which a delta can bring `key` of `chitchat_id`. If the messages that
    /// one sends have less room, the key can never be sent, and holds back every later one.
    pub fn len_bound_alone(chitchat_id: &ChitchatId, key: &str, value: &str) -> usize {
        block_stream::len_bound(node_len(chitchat_id).saturating_add(key_value_len(key, value)))
    }

    /// Begins with the changes of a node, if it has room for the node. Each node may be begun
    /// once. One that nothing is said about afterwards is left out, and takes no room.
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

    /// Says that the node that was begun last has reached `max_version`: for one whose changes
    /// have all been collected. `false` as well if there is no node, or if `max_version` is not
    /// above the versions added before.
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

    /// An upper bound of the encoded length so far, in bytes.
    pub fn encoded_len_bound(&self) -> usize {
        self.len_bound_after(0)
    }

    /// The delta.
    pub fn finish(self) -> Delta {
        self.delta
    }

    fn is_above_last(&self, version: Version) -> bool {
        let last = self.begun.as_ref().or(self.delta.node_deltas.last());
        last.is_some_and(|node_delta| version > node_delta.max_version)
    }

    /// Appends an operation of `len` bytes, after its node if that is new, if both fit. Gives the
    /// node that the operation is about.
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
        // A string too long for its length prefix could never be sent: the delta ends before it.
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
