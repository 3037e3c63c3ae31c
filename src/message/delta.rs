//! The layout of a delta: a block stream of operations, each of which applies to the node that was
//! named last.
//!
//! Only bytes and their order are checked here; the engine decides what to apply. Invariant, for
//! deltas that are read and for those that are written: each node occurs once, versions rise within
//! a node, and a node's max version is not below one of its keys. Upstream's engine panics on a
//! delta that breaks the last of these.

use std::collections::BTreeSet;

use super::block_stream;
use super::error::{DecodeError, EncodeError};
use super::field::{Sink, put_chitchat_id, put_status, put_str, put_u64, str_len};
use super::id::ChitchatId;
use super::model::{DeletionStatus, Delta, KeyValueMutation, NodeDelta};
use super::node_digests::Version;
use super::reader::Reader;

const TAG_NODE: u8 = 0;
const TAG_KEY_VALUE: u8 = 1;
const TAG_SET_MAX_VERSION: u8 = 2;

/// Length of a SetMaxVersion operation, in bytes: its tag and the version.
pub(super) const SET_MAX_VERSION_LEN: usize = 1 + 8;

/// Returns the length of a Node operation: its tag, the node's id, the last collected version and
/// the version that it starts from.
pub(super) fn node_len(chitchat_id: &ChitchatId) -> usize {
    chitchat_id.encoded_len().saturating_add(1 + 8 + 8)
}

/// Returns the length of a KeyValue operation: its tag, key, value, version and deletion status.
pub(super) fn key_value_len(key: &str, value: &str) -> usize {
    str_len(key)
        .saturating_add(str_len(value))
        .saturating_add(1 + 8 + 1)
}

pub(super) fn put_node(
    sink: &mut impl Sink,
    chitchat_id: &ChitchatId,
    last_gc_version: Version,
    from_version_excluded: Version,
) -> Result<(), EncodeError> {
    sink.put(&[TAG_NODE]);
    put_chitchat_id(sink, chitchat_id)?;
    put_u64(sink, last_gc_version);
    put_u64(sink, from_version_excluded);
    Ok(())
}

pub(super) fn put_key_value(
    sink: &mut impl Sink,
    key: &str,
    value: &str,
    version: Version,
    status: DeletionStatus,
) -> Result<(), EncodeError> {
    sink.put(&[TAG_KEY_VALUE]);
    put_str(sink, key, "a key")?;
    put_str(sink, value, "a value")?;
    put_u64(sink, version);
    put_status(sink, status);
    Ok(())
}

pub(super) fn put_set_max_version(sink: &mut impl Sink, max_version: Version) {
    sink.put(&[TAG_SET_MAX_VERSION]);
    put_u64(sink, max_version);
}

pub(super) fn write(sink: &mut impl Sink, delta: &Delta) -> Result<(), EncodeError> {
    let mut operations = Vec::new();
    let mut named = BTreeSet::new();
    for (index, node_delta) in delta.node_deltas.iter().enumerate() {
        if !named.insert(&node_delta.chitchat_id) {
            return Err(EncodeError::DuplicateNode { index });
        }
        put_node_delta(&mut operations, node_delta)?;
    }
    block_stream::write(sink, &operations, "a delta")
}

fn put_node_delta(sink: &mut impl Sink, node_delta: &NodeDelta) -> Result<(), EncodeError> {
    put_node(
        sink,
        &node_delta.chitchat_id,
        node_delta.last_gc_version,
        node_delta.from_version_excluded,
    )?;
    let mut after = 0;
    for mutation in &node_delta.key_values {
        let version = mutation.version;
        if version <= after {
            return Err(EncodeError::VersionDoesNotRise { version, after });
        }
        after = version;
        put_key_value(
            sink,
            &mutation.key,
            &mutation.value,
            version,
            mutation.status,
        )?;
    }
    let max_version = node_delta.max_version;
    if max_version < after {
        return Err(EncodeError::MaxVersionTooLow { max_version, after });
    }
    // The last key implies its own version as the max version.
    if max_version > after {
        put_set_max_version(sink, max_version);
    }
    Ok(())
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<Delta, DecodeError> {
    let operations = block_stream::read(reader)?;
    let mut operations = Reader::new(&operations);
    let mut node_deltas: Vec<NodeDelta> = Vec::new();
    let mut named = BTreeSet::new();
    while operations.remaining() > 0 {
        let operation = operations.u8("an operation")?;
        match operation {
            TAG_NODE => {
                let node_delta = read_node(&mut operations)?;
                if !named.insert(node_delta.chitchat_id.clone()) {
                    return Err(DecodeError::DuplicateNode {
                        index: node_deltas.len(),
                    });
                }
                node_deltas.push(node_delta);
            }
            TAG_KEY_VALUE => {
                let node_delta = node_deltas
                    .last_mut()
                    .ok_or(DecodeError::OperationBeforeNode { operation })?;
                let mutation = read_key_value(&mut operations)?;
                let (version, after) = (mutation.version, node_delta.max_version);
                if version <= after {
                    return Err(DecodeError::VersionDoesNotRise { version, after });
                }
                node_delta.max_version = version;
                node_delta.key_values.push(mutation);
            }
            TAG_SET_MAX_VERSION => {
                let node_delta = node_deltas
                    .last_mut()
                    .ok_or(DecodeError::OperationBeforeNode { operation })?;
                let max_version = operations.u64("a max version")?;
                let after = node_delta.max_version;
                if max_version < after {
                    return Err(DecodeError::MaxVersionTooLow { max_version, after });
                }
                node_delta.max_version = max_version;
            }
            got => return Err(DecodeError::UnknownOperation { got }),
        }
    }
    Ok(Delta { node_deltas })
}

fn read_node(reader: &mut Reader<'_>) -> Result<NodeDelta, DecodeError> {
    Ok(NodeDelta {
        chitchat_id: reader.chitchat_id()?,
        last_gc_version: reader.u64("a last collected version")?,
        from_version_excluded: reader.u64("a version to start from")?,
        key_values: Vec::new(),
        max_version: 0,
    })
}

fn read_key_value(reader: &mut Reader<'_>) -> Result<KeyValueMutation, DecodeError> {
    Ok(KeyValueMutation {
        key: reader.str("a key")?.to_owned(),
        value: reader.str("a value")?.to_owned(),
        version: reader.u64("a version")?,
        status: reader.status()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_each_operation_is_that_of_its_bytes() {
        for addr in ["127.0.0.1:1", "[::1]:1"] {
            let id = ChitchatId::new("node", 1, addr.parse().unwrap());
            let mut bytes = Vec::new();
            put_chitchat_id(&mut bytes, &id).unwrap();
            assert_eq!(bytes.len(), id.encoded_len());
            bytes.clear();
            put_node(&mut bytes, &id, 1, 2).unwrap();
            assert_eq!(bytes.len(), node_len(&id));
        }
        let mut bytes = Vec::new();
        put_key_value(&mut bytes, "key", "value", 3, DeletionStatus::Set).unwrap();
        assert_eq!(bytes.len(), key_value_len("key", "value"));
        bytes.clear();
        put_set_max_version(&mut bytes, 4);
        assert_eq!(bytes.len(), SET_MAX_VERSION_LEN);
    }

    #[test]
    fn a_max_version_may_be_that_of_the_last_key_and_no_lower_one() {
        let id = ChitchatId::new("node", 1, ([127, 0, 0, 1], 1).into());
        let read_with = |max_version| {
            let mut operations = Vec::new();
            put_node(&mut operations, &id, 0, 0).unwrap();
            put_key_value(&mut operations, "key", "value", 3, DeletionStatus::Set).unwrap();
            put_set_max_version(&mut operations, max_version);
            let mut stream = Vec::new();
            block_stream::write(&mut stream, &operations, "a delta").unwrap();
            read(&mut Reader::new(&stream)).map(|delta| delta.node_deltas[0].max_version)
        };
        for max_version in [3, 4] {
            assert_eq!(read_with(max_version), Ok(max_version));
        }
        let (max_version, after) = (2, 3);
        let too_low = DecodeError::MaxVersionTooLow { max_version, after };
        assert_eq!(read_with(max_version), Err(too_low));
    }
}
