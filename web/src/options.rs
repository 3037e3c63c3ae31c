//! From what JavaScript passes to `GossipNode.join` to the library's configuration.
//!
//! What is wrong is named in the error.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use gossip_transport::credential::NetCredential;
use gossip_transport::gossip::GossipConfig;
use gossip_transport::transport_layer::TransportLayerConfig;
use gossip_web_values::Fields;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// The failure detector's prior interval, in gossip intervals: upstream's 5 s at 1 s.
const INITIAL_INTERVAL_ROUNDS: u32 = 5;
/// The failure detector's longest counted interval, in gossip intervals: upstream's 10 s at 1 s.
const MAX_INTERVAL_ROUNDS: u32 = 10;
/// The longest wait between dials, in gossip intervals: a restarted member is back soon.
const MAX_BACKOFF_ROUNDS: u32 = 10;

#[wasm_bindgen]
extern "C" {
    /// The interface of that name in `types.rs`.
    #[wasm_bindgen(typescript_type = "JoinOptions")]
    pub type JoinOptions;
}

/// What the options say.
pub(crate) struct Options {
    pub(crate) credential: NetCredential,
    pub(crate) transport_layer: TransportLayerConfig,
    pub(crate) gossip: GossipConfig,
}

impl Options {
    /// Reads `options`.
    ///
    /// # Errors
    ///
    /// Names the field that is missing or wrong.
    pub(crate) fn read(options: &JsValue) -> anyhow::Result<Self> {
        let fields = Fields::of(options, "join")?;
        let cluster = fields.text("cluster")?.context("cluster is missing")?;
        let id = fields.text("id")?.context("id is missing")?;
        ensure!(!id.is_empty(), "id is empty");
        let seeds = fields.texts("seeds")?.context("seeds is missing")?;
        ensure!(
            !seeds.is_empty(),
            "seeds is empty: a browser cannot be the first member, so name a native one"
        );

        let credential = gossip_web_values::credential(fields)?;
        let interval = interval(fields)?;

        let mut transport_layer = TransportLayerConfig::default();
        transport_layer.backoff_max = interval
            .saturating_mul(MAX_BACKOFF_ROUNDS)
            .clamp(transport_layer.backoff_min, transport_layer.backoff_max);
        let mut gossip = GossipConfig::new(cluster, id);
        gossip.seeds = seeds;
        gossip.gossip_interval = interval;
        gossip.failure_detector.initial_interval = interval.saturating_mul(INITIAL_INTERVAL_ROUNDS);
        gossip.failure_detector.max_interval = interval.saturating_mul(MAX_INTERVAL_ROUNDS);
        gossip.initial_key_values = fields.entries("keyValues")?;
        Ok(Self {
            credential,
            transport_layer,
            gossip,
        })
    }
}

fn interval(fields: Fields<'_>) -> anyhow::Result<Duration> {
    let Some(millis) = fields.number("gossipIntervalMs")? else {
        return Ok(Duration::from_secs(1));
    };
    ensure!(
        (10.0..=3_600_000.0).contains(&millis),
        "gossipIntervalMs has to lie between 10 and 3,600,000"
    );
    Ok(Duration::from_secs_f64(millis / 1000.0))
}
