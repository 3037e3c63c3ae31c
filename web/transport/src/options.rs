//! The options of `TransportSocket.open`, converted to the library's configuration.

use anyhow::Context as _;
use gossip_transport::credential::NetCredential;
use gossip_transport::net::Alpn;
use gossip_transport::transport_layer::TransportLayerConfig;
use gossip_web_values::Fields;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** The options of `TransportSocket.open`. */
export interface SocketOptions extends CredentialOptions {
    /**
     * Name of the protocol that both sides must support, 1 to 255 bytes. Default: the name of the
     * protocol for plain bytes.
     */
    protocol?: string;
}
"#;

#[wasm_bindgen]
extern "C" {
    /// The options of `TransportSocket.open`, declared for TypeScript above.
    #[wasm_bindgen(typescript_type = "SocketOptions")]
    pub type SocketOptions;
}

/// Reads `options`.
///
/// # Errors
///
/// Fails with the name of the field that is missing or invalid.
pub(crate) fn read(options: &JsValue) -> anyhow::Result<(NetCredential, TransportLayerConfig)> {
    let fields = Fields::of(options, "open")?;
    let mut config = TransportLayerConfig::default();
    if let Some(protocol) = fields.text("protocol")? {
        let protocol = Alpn::new(protocol).context("protocol must have 1 to 255 bytes")?;
        config.alpn.push(protocol);
    }
    Ok((gossip_web_values::credential(fields)?, config))
}
