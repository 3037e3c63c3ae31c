//! From the library's values to JavaScript's.
//!
//! Plain objects, built field by field: with this few shapes that is smaller in the module than a
//! serializer.

use gossip_transport::gossip::{Liveness, Member};
use gossip_transport::transport_layer::{
    ConnectionInfo, Direction, DropCounts, PeerState, PeerStats, SocketStats,
};
use js_sys::{Array, Reflect};
use wasm_bindgen::{JsError, JsValue};

/// An error with its causes, as JavaScript's `Error`.
pub(crate) fn error(error: &anyhow::Error) -> JsError {
    JsError::new(&format!("{error:#}"))
}

/// An array of `Member`.
pub(crate) fn members(members: &[Member]) -> JsValue {
    members.iter().map(member).collect::<Array>().into()
}

/// A `Stats`.
pub(crate) fn stats(stats: &SocketStats) -> JsValue {
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
}

fn member(member: &Member) -> JsValue {
    let keys = member
        .key_values
        .iter()
        .fold(Object::without_prototype(), |keys, (key, value)| {
            keys.text(key, &value.value)
        });
    Object::new()
        .text("id", &member.id.node_id)
        .text("generation", &member.id.generation_id.to_string())
        .text("addr", &member.id.gossip_advertise_addr.to_string())
        .flag("live", member.liveness != Liveness::Dead)
        .flag("self", member.liveness == Liveness::Myself)
        .count("heartbeat", member.heartbeat)
        .value("keys", &keys.into_js())
        .into_js()
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

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A plain object in the making.
struct Object(js_sys::Object);

impl Object {
    fn new() -> Self {
        Self(js_sys::Object::new())
    }

    /// For names that come from the network: `__proto__` is a name like any other there.
    fn without_prototype() -> Self {
        Self(js_sys::Object::create(&JsValue::NULL.into()))
    }

    fn value(self, name: &str, value: &JsValue) -> Self {
        // Fails on a frozen object only, and this one is ours.
        let _ = Reflect::set(&self.0, &JsValue::from_str(name), value);
        self
    }

    fn text(self, name: &str, text: &str) -> Self {
        self.value(name, &JsValue::from_str(text))
    }

    fn flag(self, name: &str, flag: bool) -> Self {
        self.value(name, &JsValue::from_bool(flag))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "JavaScript's numbers; exact up to 2^53"
    )]
    fn count(self, name: &str, count: u64) -> Self {
        self.value(name, &JsValue::from_f64(count as f64))
    }

    fn into_js(self) -> JsValue {
        self.0.into()
    }
}
