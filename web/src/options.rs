//! From what JavaScript passes to `GossipNode.join` to the library's configuration.
//!
//! Reads every field by hand, so that a wrong one is named in the error.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use gossip_transport::credential::{ClusterSecret, Identity, NetCredential, Trust};
use gossip_transport::gossip::GossipConfig;
use gossip_transport::transport_layer::TransportLayerConfig;
use js_sys::{Array, Object, Reflect};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};

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
        ensure!(options.is_object(), "join needs an object of options");
        let fields = Fields(options);
        let cluster = fields.text("cluster")?.context("cluster is missing")?;
        let id = fields.text("id")?.context("id is missing")?;
        ensure!(!id.is_empty(), "id is empty");
        let seeds = fields.texts("seeds")?.context("seeds is missing")?;
        ensure!(
            !seeds.is_empty(),
            "seeds is empty: a browser cannot be the first member, so name a native one"
        );

        let trust = trust(&fields)?;
        let credential = match fields.text("secretKey")? {
            Some(key) => NetCredential::from_secret_text(&key, trust).context("secretKey")?,
            None => NetCredential::generate(trust),
        };
        let interval = interval(&fields)?;

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

fn trust(fields: &Fields<'_>) -> anyhow::Result<Trust> {
    let secret = match fields.text("secret")? {
        Some(text) => Some(text.trim().parse::<ClusterSecret>().context("secret")?),
        None => None,
    };
    let keys = match fields.texts("trust")? {
        Some(texts) => Some(
            texts
                .iter()
                .map(|text| text.parse())
                .collect::<Result<Vec<Identity>, _>>()
                .context("trust")?,
        ),
        None => None,
    };
    Ok(match (secret, keys, fields.flag("trustAnyone")?) {
        (Some(secret), None, false) => Trust::secret(secret),
        (None, Some(keys), false) => Trust::keys(keys),
        (Some(secret), Some(keys), false) => Trust::keys_and_secret(keys, secret),
        (None, None, true) => Trust::dangerously_anyone(),
        (None, None, false) => {
            bail!("whom to trust? Give secret, trust, both, or trustAnyone: true")
        }
        (_, _, true) => bail!("trustAnyone contradicts secret and trust"),
    })
}

fn interval(fields: &Fields<'_>) -> anyhow::Result<Duration> {
    let Some(millis) = fields.number("gossipIntervalMs")? else {
        return Ok(Duration::from_secs(1));
    };
    ensure!(
        (10.0..=3_600_000.0).contains(&millis),
        "gossipIntervalMs has to lie between 10 and 3,600,000"
    );
    Ok(Duration::from_secs_f64(millis / 1000.0))
}

/// The fields of an object; absent, `undefined` and `null` are the same.
struct Fields<'a>(&'a JsValue);

impl Fields<'_> {
    fn value(&self, name: &str) -> Option<JsValue> {
        Reflect::get(self.0, &JsValue::from_str(name))
            .ok()
            .filter(|value| !value.is_undefined() && !value.is_null())
    }

    fn text(&self, name: &str) -> anyhow::Result<Option<String>> {
        self.value(name)
            .map(|value| {
                value
                    .as_string()
                    .with_context(|| format!("{name} has to be a string"))
            })
            .transpose()
    }

    fn texts(&self, name: &str) -> anyhow::Result<Option<Vec<String>>> {
        let expected = || format!("{name} has to be an array of strings");
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let array = value.dyn_ref::<Array>().with_context(expected)?;
        let texts: Option<Vec<_>> = array.iter().map(|item| item.as_string()).collect();
        texts.map(Some).with_context(expected)
    }

    fn number(&self, name: &str) -> anyhow::Result<Option<f64>> {
        self.value(name)
            .map(|value| {
                value
                    .as_f64()
                    .with_context(|| format!("{name} has to be a number"))
            })
            .transpose()
    }

    fn flag(&self, name: &str) -> anyhow::Result<bool> {
        match self.value(name) {
            Some(value) => value
                .as_bool()
                .with_context(|| format!("{name} has to be true or false")),
            None => Ok(false),
        }
    }

    fn entries(&self, name: &str) -> anyhow::Result<Vec<(String, String)>> {
        let expected = || format!("{name} has to be an object of strings");
        let Some(value) = self.value(name) else {
            return Ok(Vec::new());
        };
        let object = value.dyn_ref::<Object>().with_context(expected)?;
        let entries = Object::entries(object);
        let entries: Option<Vec<_>> = entries
            .iter()
            .map(|entry| {
                let entry = entry.dyn_into::<Array>().ok()?;
                Some((entry.get(0).as_string()?, entry.get(1).as_string()?))
            })
            .collect();
        entries.with_context(expected)
    }
}
