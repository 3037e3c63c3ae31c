//! A socket's counters as JavaScript values, and their TypeScript declarations.

use std::time::Duration;

use gossip_transport::gossip::DenialCounts;
use gossip_transport::transport_layer::{
    ConnectionInfo, Direction, DropCounts, PeerStats, SocketStats,
};
use js_sys::Array;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};

use crate::Object;

/// Converts a snapshot to a plain object, with what the engine has denied if there is one.
pub fn stats(stats: &SocketStats, denied: Option<&DenialCounts>) -> StatsObject {
    let object = match denied {
        Some(denied) => Object::new().value("denied", &denials(denied)),
        None => Object::new(),
    };
    let peers: Array = stats
        .peers
        .iter()
        .map(|(addr, peer)| counters(peer).text("addr", &addr.to_string()).into_js())
        .collect();
    let connections: Array = stats.connections.iter().map(connection).collect();
    object
        .value("total", &counters(&stats.total).into_js())
        .value("peers", &peers)
        .value("connections", &connections)
        .count("dials", stats.dials)
        .count("dialsFailed", stats.dials_failed)
        .into_js()
        .unchecked_into()
}

fn counters(peer: &PeerStats) -> Object {
    let next_dial = match peer.next_dial {
        Some(wait) => Object::new().count("nextDialMs", millis(wait)),
        None => Object::new(),
    };
    next_dial
        .text("state", peer.state.as_str())
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

fn denials(counts: &DenialCounts) -> JsValue {
    let mut object = Object::new();
    for (denial, count) in counts.iter() {
        object = object.count(denial.as_str(), count);
    }
    object.into_js()
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

/// Returns the whole milliseconds of a time.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** Counts of dropped messages by reason: `overflow`, `expired`, `unroutable` and so on. */
export type Drops = Record<string, number>;

/** Counters of one peer, or of all peers. In every snapshot, `submitted = sent + queued + dropped`. */
export interface Counters {
    /** The state of the connection with the peer. In the total, the best state of all peers. */
    state: "idle" | "backing_off" | "dialing" | "connected";
    /** Milliseconds until the next dial, while `state` is `backing_off`. */
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

/** An open connection. */
export interface Connection {
    /** The address under which the peer is registered: the one at which it can be dialled, if it has one. */
    remoteAddr: string;
    /** The address of this node as the peer sees it. */
    localAddr: string;
    /** The public key that the peer has proved. */
    identity: string;
    direction: "outgoing" | "incoming";
    ageMs: number;
    /** Milliseconds since something was last received from the peer. */
    silenceMs: number;
}

/** A snapshot of the counters and connections. */
export interface Stats {
    total: Counters;
    peers: (Counters & { addr: string })[];
    connections: Connection[];
    dials: number;
    dialsFailed: number;
    /** Parts of gossip messages that were not applied because their sender may not say that, by reason. Of nodes only. */
    denied?: Record<string, number>;
}
"#;

#[wasm_bindgen]
extern "C" {
    /// A snapshot, declared for TypeScript above.
    #[wasm_bindgen(typescript_type = "Stats")]
    pub type StatsObject;
}
