//! A second implementation of the encoding, after upstream's description and with the compressor of
//! the C library. It finds mistakes that the crate's own encoder and decoder have in common.

use std::net::IpAddr;

use gossip_transport::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, ProtocolVersion,
};

/// Encodes a message as upstream does: blocks are split at 16,384 bytes, and compressed if that makes
/// them shorter.
pub(crate) fn bytes_of(message: &ChitchatMessage) -> Vec<u8> {
    let version = match message.version() {
        ProtocolVersion::V0 => 0,
        ProtocolVersion::V1 => 1,
    };
    let mut out = vec![0x53, 0xb0, version];
    match message {
        ChitchatMessage::Syn {
            cluster_id, digest, ..
        } => {
            out.push(0);
            out.extend(digest_bytes(digest, version));
            put_str(&mut out, cluster_id);
        }
        ChitchatMessage::SynAck { digest, delta, .. } => {
            out.push(1);
            out.extend(digest_bytes(digest, version));
            out.extend(stream(&delta_contents(delta)));
        }
        ChitchatMessage::Ack { delta, .. } => {
            out.push(2);
            out.extend(stream(&delta_contents(delta)));
        }
        ChitchatMessage::BadCluster { .. } => out.push(3),
    }
    out
}

pub(crate) fn digest_bytes(digest: &Digest, version: u8) -> Vec<u8> {
    let mut entries = Vec::new();
    for (id, node) in &digest.node_digests {
        put_id(&mut entries, id);
        for number in [node.heartbeat, node.last_gc_version, node.max_version] {
            entries.extend(number.to_le_bytes());
        }
    }
    if version == 0 {
        let count = u16::try_from(digest.node_digests.len()).unwrap();
        [&count.to_le_bytes()[..], &entries].concat()
    } else {
        stream(&entries)
    }
}

/// Returns the operations of a delta, before they are split into blocks.
pub(crate) fn delta_contents(delta: &Delta) -> Vec<u8> {
    let mut out = Vec::new();
    for node in &delta.node_deltas {
        out.push(0);
        put_id(&mut out, &node.chitchat_id);
        out.extend(node.last_gc_version.to_le_bytes());
        out.extend(node.from_version_excluded.to_le_bytes());
        let mut reached = 0;
        for change in &node.key_values {
            out.push(1);
            put_str(&mut out, &change.key);
            put_str(&mut out, &change.value);
            out.extend(change.version.to_le_bytes());
            out.push(match change.status {
                DeletionStatus::Set => 0,
                DeletionStatus::Deleted => 1,
                DeletionStatus::DeleteAfterTtl => 2,
            });
            reached = change.version;
        }
        if node.max_version > reached {
            out.push(2);
            out.extend(node.max_version.to_le_bytes());
        }
    }
    out
}

pub(crate) fn stream(contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in contents.chunks(16_384) {
        let mut room = vec![0; block.len()];
        match zstd::bulk::compress_to_buffer(block, &mut room, 0) {
            Ok(len) => put_block(&mut out, 1, &room[..len]),
            Err(_) => put_block(&mut out, 2, block),
        }
    }
    out.push(0);
    out
}

pub(crate) fn put_block(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend(u16::try_from(bytes.len()).unwrap().to_le_bytes());
    out.extend(bytes);
}

/// Decodes a stream with the C library. Returns the contents of its blocks, and the bytes after it.
pub(crate) fn read_stream(mut bytes: &[u8]) -> (Vec<Vec<u8>>, &[u8]) {
    let mut blocks = Vec::new();
    loop {
        let tag = bytes[0];
        if tag == 0 {
            return (blocks, &bytes[1..]);
        }
        let len = usize::from(u16::from_le_bytes([bytes[1], bytes[2]]));
        let block = &bytes[3..3 + len];
        blocks.push(match tag {
            1 => zstd::bulk::decompress(block, 65_535).unwrap(),
            2 => block.to_vec(),
            other => panic!("block tag {other}"),
        });
        bytes = &bytes[3 + len..];
    }
}

pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
    out.extend(text.as_bytes());
}

pub(crate) fn put_id(out: &mut Vec<u8>, id: &ChitchatId) {
    put_str(out, &id.node_id);
    out.extend(id.generation_id.to_le_bytes());
    match id.gossip_advertise_addr.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
    out.extend(id.gossip_advertise_addr.port().to_le_bytes());
}
