//! From what JavaScript passes to `TransportSocket.open` to the library's configuration.

use anyhow::Context as _;
use gossip_transport::credential::NetCredential;
use gossip_transport::net::Alpn;
use gossip_transport::transport_layer::TransportLayerConfig;
use gossip_web_values::Fields;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** Whom to trust, and what to speak. */
export interface SocketOptions {
    /**
     * Name of the protocol that both sides have to speak, at most 255 bytes. Default: that of
     * plain bytes.
     */
    protocol?: string;
    /** The cluster's secret: whoever knows it is trusted. */
    secret?: string;
    /** Identities to trust. With `secret`, a peer needs both. */
    trust?: string[];
    /** Trusts anyone. For demonstrations; not together with `secret` or `trust`. */
    trustAnyone?: boolean;
    /** This side's key, from `generateSecretKey()`. Default: a new one, lost with the page. */
    secretKey?: string;
}
"#;

#[wasm_bindgen]
extern "C" {
    /// The interface above.
    #[wasm_bindgen(typescript_type = "SocketOptions")]
    pub type SocketOptions;
}

/// What the options say.
///
/// # Errors
///
/// Names the field that is missing or wrong.
pub(crate) fn read(options: &JsValue) -> anyhow::Result<(NetCredential, TransportLayerConfig)> {
    let fields = Fields::of(options, "open")?;
    let mut config = TransportLayerConfig::default();
    if let Some(protocol) = fields.text("protocol")? {
        let protocol = Alpn::new(protocol).context("protocol has to have 1 to 255 bytes")?;
        config.alpn.push(protocol);
    }
    Ok((gossip_web_values::credential(fields)?, config))
}
