//! Keys and secrets: reading them from options, and generating them.

use anyhow::{Context as _, bail, ensure};
use gossip_transport::credential::{ClusterSecret, Identity, NetCredential, Trust};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::Fields;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** The peers to trust, and this side's key. Give `invite`, `secret`, `trust`, the last two, or `trustAnyone`. */
export interface CredentialOptions {
    /**
     * An invite to the cluster, as a word that begins with `gossip-invite-`. `null` is the same as none, and an empty
     * word is an error, since a link without an invite yields either. Members that prove to know the secret of
     * its cluster are trusted, and let this side change what the invite allows. For pages of strangers: unlike
     * `secret`, it expires, and can be revoked. Not together with `secret`, `trust` or `trustAnyone`.
     */
    invite?: string;
    /** The cluster's secret. Peers that know it are trusted. */
    secret?: string;
    /** Identities to trust. With `secret`, a peer must satisfy both. */
    trust?: string[];
    /** Trusts every peer. For demonstrations; not together with `secret` or `trust`. */
    trustAnyone?: boolean;
    /**
     * This side's secret key, from `generateSecretKey()`. Default: a new key, lost with the page. Peers
     * refuse a second connection with the same key while the first is alive.
     */
    secretKey?: string;
}
"#;

/// Returns a new secret key in its printed form, for the option `secretKey`.
///
/// A page that stores its key is the same peer after a reload. Only one page may use a key at a time:
/// `identity.js` of the live page stores one, and makes sure of that.
#[wasm_bindgen(js_name = generateSecretKey)]
pub fn generate_secret_key() -> String {
    // Only the key is used; it does not depend on the trusted peers.
    NetCredential::generate(Trust::keys([]))
        .to_secret_text()
        .to_string()
}

/// Returns a new cluster secret in its printed form, for the option `secret`.
#[wasm_bindgen(js_name = generateClusterSecret)]
pub fn generate_cluster_secret() -> String {
    ClusterSecret::generate().to_text()
}

/// Reads the options `secretKey` (default: a new key), `invite`, `secret`, `trust` and `trustAnyone`.
///
/// # Errors
///
/// Fails with the name of the invalid field, or if the fields for trust are missing or contradict
/// each other.
pub fn credential(fields: Fields<'_>) -> anyhow::Result<NetCredential> {
    let trust = trust(fields)?;
    Ok(match fields.text("secretKey")? {
        Some(key) => NetCredential::from_secret_text(&key, trust).context("secretKey")?,
        None => NetCredential::generate(trust),
    })
}

fn trust(fields: Fields<'_>) -> anyhow::Result<Trust> {
    if let Some(word) = fields.text("invite")? {
        ensure!(!word.is_empty(), no_invite("empty"));
        let invite = word.parse().context("invite")?;
        let others = fields.text("secret")?.is_some() || fields.texts("trust")?.is_some();
        ensure!(
            !others && !fields.flag("trustAnyone")?,
            "invite contradicts secret, trust and trustAnyone: its holder trusts the members of its cluster"
        );
        return Ok(Trust::invite(invite));
    }
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
        (None, None, false) => bail!(no_invite(fields.absence("invite"))),
        (_, _, true) => bail!("trustAnyone contradicts secret and trust"),
    })
}

/// Returns the error of a side that trusts nobody, whose invite has this value. Most often a page takes the invite from
/// its link, and was opened without it.
fn no_invite(value: &str) -> String {
    format!(
        "invite is {value}, so no peer is trusted: if it comes from a link, the link has no invite; open the complete \
         link. Otherwise give invite, secret, trust, the last two, or trustAnyone: true"
    )
}
