//! Encodes and decodes chitchat's messages. The floor is one copy of the bytes.

use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;
use gossip_benches::typed::{ack, syn};
use gossip_transport::Message as _;
use gossip_transport::message::{ChitchatMessage, ProtocolVersion};

fn main() {
    divan::main();
}

const MESSAGES: [&str; 3] = [
    "Syn of 100 nodes, V0",
    "Syn of 100 nodes, V1",
    "Ack of 50 keys",
];

fn message(name: &str) -> ChitchatMessage {
    match name {
        "Syn of 100 nodes, V0" => syn(ProtocolVersion::V0, 100),
        "Syn of 100 nodes, V1" => syn(ProtocolVersion::V1, 100),
        _ => ack(50),
    }
}

fn encoded(name: &str) -> Bytes {
    message(name).into_bytes().expect("shorter than the limit")
}

#[divan::bench(args = MESSAGES)]
fn encode(bencher: Bencher<'_, '_>, name: &str) {
    bencher
        .with_inputs(|| message(name))
        .counter(BytesCount::new(encoded(name).len()))
        .bench_local_values(|message| message.into_bytes());
}

#[divan::bench(args = MESSAGES)]
fn decode(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = encoded(name);
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| ChitchatMessage::decode(bytes.clone()));
}

#[divan::bench(args = MESSAGES)]
fn copy(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = encoded(name);
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| Bytes::copy_from_slice(&bytes));
}
