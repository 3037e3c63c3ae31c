//! A socket's counters as JavaScript's values, and what TypeScript calls them.

use std::time::Duration;

use gossip_transport::transport_layer::{
    ConnectionInfo, Direction, DropCounts, PeerState, PeerStats, SocketStats,
};
use js_sys::Array;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};

use crate::Object;

/// A snapshot as a plain object.
pub fn stats(stats: &SocketStats) -> StatsObject {
    let peers: Array = stats
        .peers
        .iter()
        .map(|(addr, peer)| counters(peer).text("addr", &addr.to_string()).into_js())
        .collect();
    let connections: Array = stats.connections.iter().map(connection).collect();
    Object::new()
        .value("total", &counters(&stats.total).into_js())
        .value("peers", &peers)
        .value("connections", &connections)
        .count("dials", stats.dials)
        .count("dialsFailed", stats.dials_failed)
        .into_js()
        .unchecked_into()
}

fn counters(peer: &PeerStats) -> Object {
    let state = match peer.state {
        PeerState::Connected => "connected",
        PeerState::Dialing => "dialing",
        PeerState::BackingOff => "backing_off",
        _ => "idle",
    };
    let next_dial = match peer.next_dial {
        Some(wait) => Object::new().count("nextDialMs", millis(wait)),
        None => Object::new(),
    };
    next_dial
        .text("state", state)
        .count("submitted", peer.submitted)
        .count("sent", peer.sent)
        .count("sentBytes", peer.sent_bytes)
        .count("queued", peer.queued)
        .count("queuedBytes", peer.queued_bytes)
        .value("dropped", &drops(&peer.dropped))
        .count("received", peer.received)
        .count("receivedBytes", peer.received_bytes)
        .count("delivered", peer.delivered)
        .count("incomingQueued", peer.incoming_queued)
        .value("incomingDropped", &drops(&peer.incoming_dropped))
}

fn drops(counts: &DropCounts) -> JsValue {
    counts
        .iter()
        .fold(Object::new(), |object, (reason, count)| {
            object.count(reason.as_str(), count)
        })
        .into_js()
}

fn connection(connection: &ConnectionInfo) -> JsValue {
    let direction = match connection.direction {
        Direction::Outgoing => "outgoing",
        Direction::Incoming => "incoming",
    };
    Object::new()
        .text("remoteAddr", &connection.remote_addr.to_string())
        .text("localAddr", &connection.local_addr.to_string())
        .text("identity", &connection.remote_identity.to_string())
        .text("direction", direction)
        .count("ageMs", millis(connection.age))
        .count("silenceMs", millis(connection.silence))
        .into_js()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** Counts of dropped messages by reason: `overflow`, `expired`, `unroutable` and so on. */
export type Drops = Record<string, number>;

/** Counters; `submitted = sent + queued + dropped`, always. */
export interface Counters {
    /** What is being done about the peer; in a total, the best of all. */
    state: "idle" | "backing_off" | "dialing" | "connected";
    /** While backing off: milliseconds until the next dial. */
    nextDialMs?: number;
    submitted: number;
    sent: number;
    sentBytes: number;
    queued: number;
    queuedBytes: number;
    dropped: Drops;
    received: number;
    receivedBytes: number;
    delivered: number;
    incomingQueued: number;
    incomingDropped: Drops;
}

/** A live connection. */
export interface Connection {
    remoteAddr: string;
    /** This node as the peer sees it. */
    localAddr: string;
    /** The public key that the peer has proved. */
    identity: string;
    direction: "outgoing" | "incoming";
    ageMs: number;
    /** How long nothing has come from the peer. */
    silenceMs: number;
}

/** A snapshot of this node's counters. */
export interface Stats {
    total: Counters;
    peers: (Counters & { addr: string })[];
    connections: Connection[];
    dials: number;
    dialsFailed: number;
}
"#;

#[wasm_bindgen]
extern "C" {
    /// A snapshot of counters: the interface above.
    #[wasm_bindgen(typescript_type = "Stats")]
    pub type StatsObject;
}
