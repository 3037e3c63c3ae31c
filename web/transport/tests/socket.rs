//! The transport for JavaScript in a browser, without a peer.

#![cfg(target_family = "wasm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use gossip_web_transport::{TransportSocket, generate_secret_key};
use js_sys::Reflect;
use wasm_bindgen::{JsCast as _, JsError, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

async fn open(options: &str) -> Result<TransportSocket, JsError> {
    let options = js_sys::JSON::parse(options).unwrap();
    TransportSocket::open(options.unchecked_into()).await
}

fn text(error: JsError) -> String {
    let error = JsValue::from(error).dyn_into::<js_sys::Error>().unwrap();
    error.message().into()
}

fn field(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap()
}

#[wasm_bindgen_test]
async fn an_invalid_option_is_named_in_the_error() {
    let long = format!(r#"{{"trustAnyone":true,"protocol":"{}"}}"#, "x".repeat(256));
    for (options, named) in [
        ("1", "open needs an object"),
        ("{}", "no peer is trusted"),
        (r#"{"trustAnyone":true,"protocol":7}"#, "protocol"),
        (r#"{"trustAnyone":true,"protocol":""}"#, "protocol"),
        (long.as_str(), "protocol"),
        (r#"{"trustAnyone":true,"secretKey":"!"}"#, "secretKey"),
    ] {
        let error = text(open(options).await.map(drop).unwrap_err());
        assert!(error.contains(named), "{options}: {error}");
    }
}

#[wasm_bindgen_test]
async fn the_same_key_yields_the_same_identity() {
    let options = format!(
        r#"{{"trustAnyone":true,"secretKey":"{}"}}"#,
        generate_secret_key()
    );
    let (one, other) = (open(&options).await.unwrap(), open(&options).await.unwrap());
    assert_eq!(one.identity(), other.identity());
    assert_eq!(one.identity().len(), 52);
}

#[wasm_bindgen_test]
async fn submitted_messages_are_counted_and_a_closed_socket_refuses_all_calls() {
    let socket = open(r#"{"trustAnyone":true}"#).await.unwrap();
    let error = socket.send("nowhere".into(), vec![1]).await;
    assert!(text(error.unwrap_err()).contains("port"));

    // Browsers refuse to dial port 1, so the message stays in the queue.
    socket.send("127.0.0.1:1".into(), vec![1, 2]).await.unwrap();
    let stats = JsValue::from(socket.stats().unwrap());
    let total = field(&stats, "total");
    assert_eq!(field(&total, "submitted"), 1.0);

    socket.close().await;
    socket.close().await;
    assert!(JsValue::from(socket.recv().await).is_undefined());
    assert!(text(socket.stats().map(drop).unwrap_err()).contains("closed"));
    let error = socket.send("127.0.0.1:1".into(), vec![1]).await;
    assert!(text(error.unwrap_err()).contains("closed"));
}
