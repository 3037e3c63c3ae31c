//! Conversion of the participant's values to JavaScript's.

use gossip_transport::gossip::{Liveness, Member};
use gossip_web_values::Object;
use js_sys::Array;
use wasm_bindgen::JsValue;

/// Returns an array of `Member`, as `types.rs` declares it.
pub(crate) fn members(members: &[Member]) -> JsValue {
    members.iter().map(member).collect::<Array>().into()
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
