//! Keys and secrets: read from options, and made.

use anyhow::{Context as _, bail};
use gossip_transport::credential::{ClusterSecret, Identity, NetCredential, Trust};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::Fields;

/// A fresh secret key in its printed form, for the option `secretKey`. Keep it where the node
/// should keep its identity: `sessionStorage` for one tab, say.
#[wasm_bindgen(js_name = generateSecretKey)]
pub fn generate_secret_key() -> String {
    // The key is the same whomever its owner trusts.
    NetCredential::generate(Trust::keys([]))
        .to_secret_text()
        .to_string()
}

/// A fresh cluster secret in its printed form, for the option `secret`.
#[wasm_bindgen(js_name = generateClusterSecret)]
pub fn generate_cluster_secret() -> String {
    ClusterSecret::generate().to_text()
}

/// The options `secretKey` (default: a fresh key), `secret`, `trust` and `trustAnyone`.
///
/// # Errors
///
/// Names the field that is wrong, or says that whom to trust is missing or contradictory.
pub fn credential(fields: Fields<'_>) -> anyhow::Result<NetCredential> {
    let trust = trust(fields)?;
    Ok(match fields.text("secretKey")? {
        Some(key) => NetCredential::from_secret_text(&key, trust).context("secretKey")?,
        None => NetCredential::generate(trust),
    })
}

fn trust(fields: Fields<'_>) -> anyhow::Result<Trust> {
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
