//! The native nodes that `cargo xtask test` starts for the browser tests.

use std::net::SocketAddr;

use gossip_transport::net::NetTransport as _;
use gossip_transport::websocket::WebSocketTransport;
use gossip_transport::{ClusterSecret, NetCredential, Trust};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// The contents of `node.json`: the addresses and secrets of the native nodes.
pub(super) struct Nodes(serde_json::Value);

impl Nodes {
    /// Fetches `node.json` from the server of this page. Works with and without a `window`.
    pub(super) async fn fetch() -> Self {
        let global = js_sys::global();
        let get = |name: &str| js_sys::Reflect::get(&global, &JsValue::from_str(name)).unwrap();
        let origin = get("origin").as_string().unwrap();
        let url = format!("{origin}/target/browser-test/node.json");
        let fetch: js_sys::Function = get("fetch").unchecked_into();
        let promise: js_sys::Promise = fetch
            .call1(&global, &JsValue::from_str(&url))
            .unwrap()
            .unchecked_into();
        let response: web_sys::Response = JsFuture::from(promise).await.unwrap().unchecked_into();
        assert!(
            response.ok(),
            "{url} is missing: run the tests by `cargo xtask test`"
        );
        let text = JsFuture::from(response.text().unwrap()).await.unwrap();
        Self(serde_json::from_str(&text.as_string().unwrap()).unwrap())
    }

    fn text(&self, pointer: &str) -> &str {
        self.0
            .pointer(pointer)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_else(|| panic!("no {pointer} in node.json"))
    }

    fn addr(&self, pointer: &str) -> SocketAddr {
        self.text(pointer).parse().unwrap()
    }

    /// Returns the address of `tests/browser/echo.rs`, a socket that sends every message back.
    pub(super) fn echo(&self) -> SocketAddr {
        self.addr("/addr")
    }

    /// Returns a credential that the echo accepts.
    pub(super) fn echo_credential(&self) -> NetCredential {
        credential(self.text("/secret"))
    }

    /// Returns the address of a `gossip-node`, a credential that it accepts, and its cluster.
    pub(super) fn gossip(&self) -> (SocketAddr, NetCredential, &str) {
        (
            self.addr("/gossip/addr"),
            credential(self.text("/gossip/secret")),
            self.text("/gossip/cluster"),
        )
    }

    /// Returns the address of `tests/browser/scripted_peer.rs`, which echoes messages over the secure
    /// channel and obeys commands in them.
    pub(super) fn secure(&self) -> SocketAddr {
        self.addr("/scripted/secure")
    }

    /// Returns a credential that the scripted peer accepts.
    pub(super) fn credential(&self) -> NetCredential {
        credential(self.text("/scripted/secret"))
    }

    /// Returns the address of a script of the same peer that has no secure channel.
    pub(super) async fn raw(&self, transport: &WebSocketTransport, script: &str) -> SocketAddr {
        let url = format!("ws://{}/{script}", self.text("/scripted/raw"));
        transport.resolve(&url).await.unwrap()[0]
    }

    /// Returns the address of a port that accepts connections and sends nothing.
    pub(super) fn silent(&self) -> SocketAddr {
        self.addr("/scripted/silent")
    }

    /// Returns an address without a listener: the port of the scripted peer on another loopback
    /// address.
    pub(super) fn dead(&self) -> SocketAddr {
        SocketAddr::new([127, 0, 0, 77].into(), self.secure().port())
    }
}

fn credential(secret: &str) -> NetCredential {
    let secret: ClusterSecret = secret.parse().unwrap();
    NetCredential::generate(Trust::secret(secret))
}
