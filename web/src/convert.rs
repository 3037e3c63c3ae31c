//! Conversion of the participant's values to JavaScript's.

use gossip_transport::gossip::{Liveness, Member, SeedStatus};
use gossip_web_values::{Object, millis};
use js_sys::Array;
use wasm_bindgen::JsValue;

/// Returns an array of `Member`, as `types.rs` declares it.
pub(crate) fn members(members: &[Member]) -> JsValue {
    members.iter().map(member).collect::<Array>().into()
}

/// Returns an array of `Seed`, as `types.rs` declares it.
pub(crate) fn seeds(seeds: &[SeedStatus]) -> JsValue {
    seeds.iter().map(seed).collect::<Array>().into()
}

fn seed(seed: &SeedStatus) -> JsValue {
    let mut object = Object::new()
        .text("seed", &seed.name)
        .text("state", seed.state.as_str())
        .count("failures", seed.failures.into());
    if let Some(wait) = seed.next_dial {
        object = object.count("nextDialMs", millis(wait));
    }
    if let Some(cause) = &seed.cause {
        object = object
            .text("error", &cause.to_string())
            .text("code", cause.code());
    } else if let Some(error) = &seed.error {
        object = object.text("error", &format!("{error:#}"));
    }
    object.into_js()
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
        .text("addr", &member.id.addr().to_string())
        .flag("live", member.liveness.is_live())
        .text("liveness", member.liveness.as_str())
        .flag("superseded", member.superseded)
        .flag("self", member.liveness == Liveness::Myself)
        .count("heartbeat", member.heartbeat)
        .value("keys", &keys.into_js())
        .into_js()
}
