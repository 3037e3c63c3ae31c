//! Measures how much memory decoding takes for the worst messages that a peer can send.
//!
//! The test has a process of its own, since the allocator counts the allocations of all threads.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

#[path = "native/support/messages/mod.rs"]
#[allow(dead_code, reason = "this test uses a part")]
mod messages;

use std::net::SocketAddr;

use bytes::Bytes;
use gossip_transport::message::{ChitchatId, ChitchatMessage, MAX_STREAM_LEN, Message};
use messages::reference::{put_id, put_str, stream};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Decodes `bytes`. Returns the peak of memory that this takes beyond the message itself, and whether
/// the message was accepted.
fn decode(bytes: Vec<u8>) -> (usize, bool) {
    let bytes = Bytes::from(bytes);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let taken = ChitchatMessage::decode(bytes).is_ok();
    (MEMORY.peak_usage() - before, taken)
}

/// Asserts that a message, which takes more than its bytes, counts with the memory that it takes.
fn counts_with_its_memory(what: &str, bytes: Vec<u8>) {
    let (bytes, len) = (Bytes::from(bytes.clone()), bytes.len());
    let before = MEMORY.current_usage();
    let message = ChitchatMessage::decode(bytes).unwrap();
    // It does not count what the allocator adds, which is 16 bytes for most texts.
    let taken = MEMORY.current_usage().saturating_sub(before);
    let counted = message.memory();
    assert!(taken > len, "{what}: {taken} bytes");
    let ratio = counted as f64 / taken as f64;
    assert!((0.75..2.0).contains(&ratio), "{what}: {counted} of {taken}");
}

fn message(version: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    [&[0x53, 0xb0, version, kind], body].concat()
}

fn ack_of_blocks(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for block in blocks {
        messages::reference::put_block(&mut body, 1, block);
    }
    body.push(0);
    message(0, 2, &body)
}

/// The start of a zstd frame: its magic number, no content size, and a window of 2 GiB.
const FRAME_OF_2_GIB: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3];

fn id(generation: u64) -> ChitchatId {
    ChitchatId::new("", generation, SocketAddr::from(([0, 0, 0, 0], 0)))
}

#[test]
fn the_memory_of_decoding_is_bounded_for_every_message() {
    // 16,000 run-length blocks of 128 KiB each, which are 2 GiB in one datagram.
    let mut frame = FRAME_OF_2_GIB.to_vec();
    while frame.len() + 4 < 65_000 {
        frame.extend(&((131_072u32 << 3) | (1 << 1)).to_le_bytes()[..3]);
        frame.push(0);
    }
    let (peak, taken) = decode(ack_of_blocks(&[frame]));
    assert!(!taken && peak < MIB, "run-length blocks: {peak} bytes");

    // One compressed block whose literals claim to repeat a byte 2^20 - 1 times.
    let mut frame = FRAME_OF_2_GIB.to_vec();
    frame.extend([0x2d, 0, 0, 0xfd, 0xff, 0xff, 7, 0]);
    let (peak, taken) = decode(ack_of_blocks(&[frame]));
    assert!(
        !taken && peak < 3 * MIB,
        "run-length literals: {peak} bytes"
    );

    // A window of 2 GiB with an empty block.
    let mut frame = FRAME_OF_2_GIB.to_vec();
    frame.extend([1, 0, 0]);
    let (peak, taken) = decode(ack_of_blocks(&[frame]));
    assert!(taken && peak < 64 * KIB, "a window: {peak} bytes");

    // A content size of 2^63.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0];
    frame.extend((1u64 << 63).to_le_bytes());
    frame.extend([1, 0, 0]);
    let (peak, taken) = decode(ack_of_blocks(&[frame]));
    assert!(!taken && peak < 64 * KIB, "a content size: {peak} bytes");

    // A datagram that expands to 62 MiB in upstream's decoder.
    let full = zstd::bulk::compress(&[0; 65_535], 3).unwrap();
    let (peak, taken) = decode(ack_of_blocks(&vec![full; 1000]));
    assert!(
        !taken && peak < 3 * MAX_STREAM_LEN,
        "full blocks: {peak} bytes"
    );

    // A count of 65,535 nodes, but no node.
    let (peak, taken) = decode(message(0, 0, &[0xff; 64]));
    assert!(!taken && peak < KIB, "a count: {peak} bytes");

    // As many of the shortest entries and operations as a stream can hold.
    let mut entries = Vec::new();
    let mut nodes = Vec::new();
    for generation in 0.. {
        put_id(&mut entries, &id(generation));
        entries.extend([0; 24]);
        if entries.len() + 41 > MAX_STREAM_LEN {
            break;
        }
        if nodes.len() + 34 <= MAX_STREAM_LEN {
            nodes.push(0);
            put_id(&mut nodes, &id(generation));
            nodes.extend([0; 16]);
        }
    }
    let mut syn = stream(&entries);
    put_str(&mut syn, "");
    counts_with_its_memory("entries", message(1, 0, &syn));
    counts_with_its_memory("nodes", message(0, 2, &stream(&nodes)));
    let (peak, taken) = decode(message(1, 0, &syn));
    assert!(taken && peak < 8 * MAX_STREAM_LEN, "entries: {peak} bytes");
    let (peak, taken) = decode(message(0, 2, &stream(&nodes)));
    assert!(taken && peak < 10 * MAX_STREAM_LEN, "nodes: {peak} bytes");

    let mut key_values = vec![0];
    put_id(&mut key_values, &id(0));
    key_values.extend([0; 16]);
    for version in 1u64.. {
        if key_values.len() + 14 > MAX_STREAM_LEN {
            break;
        }
        key_values.extend([1, 0, 0, 0, 0]);
        key_values.extend(version.to_le_bytes());
        key_values.push(0);
    }
    counts_with_its_memory("keys", message(0, 2, &stream(&key_values)));
    let mut texts = vec![0];
    put_id(&mut texts, &id(0));
    texts.extend([0; 16]);
    for version in 1..20_000_u64 {
        texts.push(1);
        put_str(&mut texts, &format!("key-{version}"));
        put_str(&mut texts, &"x".repeat(100));
        texts.extend(version.to_le_bytes());
        texts.push(0);
    }
    counts_with_its_memory("texts", message(0, 2, &stream(&texts)));
    let (peak, taken) = decode(message(0, 2, &stream(&key_values)));
    assert!(taken && peak < 14 * MAX_STREAM_LEN, "keys: {peak} bytes");
}
