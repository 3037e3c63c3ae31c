//! The options of `GossipNode`'s methods, converted to the library's configuration.
//!
//! An error names the option that is missing or invalid.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use gossip_transport::credential::NetCredential;
use gossip_transport::gossip::{DialPolicy, GossipConfig, seeds_from_https};
use gossip_transport::transport_layer::TransportLayerConfig;
use gossip_transport::websocket::is_https;
use gossip_web_values::Fields;
use js_sys::{Function, Number, Object, Reflect};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::AbortSignal;

#[wasm_bindgen]
extern "C" {
    /// The options of `GossipNode.join`, declared for TypeScript in `types.rs`.
    #[wasm_bindgen(typescript_type = "JoinOptions")]
    pub type JoinOptions;
}

/// The configuration that the options describe.
pub(crate) struct Options {
    pub(crate) credential: NetCredential,
    pub(crate) renew_invite: Option<Function>,
    pub(crate) transport_layer: TransportLayerConfig,
    pub(crate) gossip: GossipConfig,
}

impl Options {
    /// Reads `options`.
    ///
    /// # Errors
    ///
    /// Fails with the name of the field that is missing or invalid.
    pub(crate) fn read(options: &JsValue) -> anyhow::Result<Self> {
        let fields = Fields::of(options, "join")?;
        // First, since an invite has what is missing otherwise.
        let credential = gossip_web_values::credential(fields)?;
        let invite = credential.trust().held_invite();
        let invite = invite.as_deref();
        let of_invite = || invite.map(|invite| invite.cluster_id().to_owned());
        let cluster = fields.text("cluster")?.or_else(of_invite);
        let cluster = cluster.context("cluster is missing")?;
        let id = fields.text("id")?.context("id is missing")?;
        ensure!(!id.is_empty(), "id is empty");
        let seeds = fields.texts("seeds")?;
        ensure!(
            seeds.as_ref().is_none_or(|seeds| !seeds.is_empty()),
            "seeds is empty: a browser cannot be the first member, so at least one native member is needed"
        );
        let of_invite = || invite.map(|invite| invite.seeds().to_vec());
        let seeds = seeds.or_else(of_invite).context("seeds is missing")?;
        ensure!(
            !seeds.is_empty(),
            "seeds is missing: the invite names no member to contact first"
        );
        let seeds = match is_https() {
            true => seeds_from_https(seeds),
            false => seeds,
        };
        let renew_invite = fields.instance("renewInvite", "Function")?;
        ensure!(
            renew_invite.is_none() || invite.is_some(),
            "renewInvite needs an invite"
        );
        let interval = interval(fields)?;

        let gossip = GossipConfig::new(cluster, id).with_interval(interval);
        let mut gossip = gossip.with_dial(DialPolicy::SeedsOnly);
        gossip.seeds = seeds;
        gossip.initial_key_values = fields.entries("keyValues")?;
        Ok(Self {
            credential,
            renew_invite,
            transport_layer: TransportLayerConfig::default().with_interval(interval),
            gossip,
        })
    }
}

/// Reads the signal in the options of `connected`, which may be missing.
///
/// # Errors
///
/// Fails with the name of the field that is invalid.
pub(crate) fn signal(options: &JsValue) -> anyhow::Result<Option<AbortSignal>> {
    if options.is_undefined() || options.is_null() {
        return Ok(None);
    }
    ensure!(
        !options.is_instance_of::<AbortSignal>(),
        "connected needs an object of options: pass {{ signal }}"
    );
    let fields = Fields::of(options, "connected")?;
    let signal: Option<AbortSignal> = fields.instance("signal", "AbortSignal")?;
    // An object that only inherits from the class throws when it is asked.
    if let Some(signal) = &signal {
        Reflect::get(signal, &JsValue::from_str("aborted"))
            .ok()
            .context("signal must be of the class AbortSignal")?;
    }
    Ok(signal)
}

fn interval(fields: Fields<'_>) -> anyhow::Result<Duration> {
    let Some(millis) = fields.number("gossipIntervalMs")? else {
        return Ok(GossipConfig::DEFAULT_INTERVAL);
    };
    let least = GossipConfig::MIN_RECOMMENDED_INTERVAL.as_millis();
    let most = GossipConfig::MAX_RECOMMENDED_INTERVAL.as_millis();
    ensure!(
        (least as f64..=most as f64).contains(&millis),
        "gossipIntervalMs is {}, but must be between {least} and {most}",
        // The browser writes the number: to format one takes 7 KB of wasm.
        String::from(Object::from(Number::from(millis)).to_string())
    );
    Ok(Duration::from_secs_f64(millis / 1000.0))
}
