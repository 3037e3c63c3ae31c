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
use gossip_web_values::arguments;
use js_sys::{ArrayBuffer, Error, Reflect, TypeError, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

async fn open(options: &str) -> Result<TransportSocket, TypeError> {
    let options = js_sys::JSON::parse(options).unwrap();
    TransportSocket::open(options.unchecked_into()).await
}

fn text(error: impl Into<JsValue>) -> String {
    let error = error.into().dyn_into::<Error>().unwrap();
    error.message().into()
}

async fn send(
    socket: &TransportSocket,
    to: impl Into<JsValue>,
    data: impl Into<JsValue>,
) -> Result<(), JsValue> {
    let sent = socket.send(&to.into(), &data.into());
    JsFuture::from(sent).await.map(drop)
}

fn js(code: &str) -> JsValue {
    js_sys::eval(code).unwrap()
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
    let data = Uint8Array::new_from_slice(&[1, 2]);
    // Browsers refuse to dial port 1, so the message stays in the queue.
    send(&socket, "127.0.0.1:1", data.clone()).await.unwrap();
    let stats = JsValue::from(socket.stats().unwrap());
    let total = field(&stats, "total");
    assert_eq!(field(&total, "submitted"), 1.0);

    socket.close().await.unwrap();
    socket.close().await.unwrap();
    assert!(socket.recv().await.unwrap().is_undefined());
    assert!(text(socket.stats().map(drop).unwrap_err()).contains("closed"));
    let error = send(&socket, "127.0.0.1:1", data).await;
    assert!(text(error.unwrap_err()).contains("closed"));
}

#[wasm_bindgen_test]
async fn an_address_that_is_none_and_data_that_is_no_buffer_are_type_errors_that_name_them() {
    let socket = open(r#"{"trustAnyone":true}"#).await.unwrap();
    let data = Uint8Array::new_from_slice(&[1, 2]);
    let to = "127.0.0.1:1";
    let is_named = |thrown: JsValue, named: &str| {
        let error = thrown.dyn_into::<TypeError>().unwrap();
        let text = String::from(error.message());
        assert!(text.starts_with(named), "{text}");
    };
    for bad in [
        "undefined",
        "null",
        "5",
        "true",
        "({})",
        "new Date()",
        "'nowhere'",
        "'http://node.example:7946'",
        "'node.example:99999'",
    ] {
        is_named(
            send(&socket, js(bad), data.clone()).await.unwrap_err(),
            "to",
        );
    }
    for bad in [
        "undefined",
        "null",
        "5",
        "true",
        "'text'",
        "[1, 2]",
        "({ byteLength: 8 })",
        "Object.create(ArrayBuffer.prototype)",
        "Object.create(Uint8Array.prototype)",
        "Object.defineProperty(new Uint8Array(8), 'byteLength', { value: 9 })",
        "Object.defineProperty(new Uint8Array(8), 'buffer', { value: 8 })",
        // Their buffer is too short by now.
        "(() => { const b = new ArrayBuffer(8, { maxByteLength: 8 }); const v = new Uint8Array(b, 4); b.resize(2); return v; })()",
        "(() => { const b = new ArrayBuffer(8, { maxByteLength: 8 }); const v = new DataView(b, 4, 4); b.resize(2); return v; })()",
        // Their bytes belong to the copies.
        "(() => { const b = new ArrayBuffer(8); structuredClone(b, { transfer: [b] }); return b; })()",
        "(() => { const v = new DataView(new ArrayBuffer(8)); structuredClone(v.buffer, { transfer: [v.buffer] }); return v; })()",
    ] {
        is_named(send(&socket, to, js(bad)).await.unwrap_err(), "data");
    }
    let total = field(&JsValue::from(socket.stats().unwrap()), "total");
    assert_eq!(field(&total, "submitted"), 0.0);
}

#[wasm_bindgen_test]
async fn data_that_is_too_long_is_a_type_error_before_it_takes_memory() {
    let socket = open(r#"{"trustAnyone":true}"#).await.unwrap();
    // The second length is more than a module can have, and the low 32 bits of the third are 8.
    for len in ["2 ** 24 + 1", "2 ** 31", "2 ** 32 + 8"] {
        let Ok(data) = js_sys::eval(&format!("new ArrayBuffer({len})")) else {
            // The browser has no room for it.
            continue;
        };
        let len = js_sys::eval(len).unwrap().as_f64().unwrap();
        let error = send(&socket, "127.0.0.1:1", data).await.unwrap_err();
        let error = text(error.dyn_into::<TypeError>().unwrap());
        assert!(
            error.starts_with(&format!("data has {len} bytes")),
            "{error}"
        );
    }
    let total = field(&JsValue::from(socket.stats().unwrap()), "total");
    assert_eq!(field(&total, "submitted"), 0.0);
}

#[wasm_bindgen_test]
async fn freeing_a_socket_ends_a_wait_for_a_message() {
    let socket = JsValue::from(open(r#"{"trustAnyone":true}"#).await.unwrap());
    let call = |method: &str| {
        let method = field(&socket, method).dyn_into::<js_sys::Function>();
        method.unwrap().call0(&socket)
    };
    let waits = [call("recv").unwrap(), call("recv").unwrap()];
    call("free").unwrap();
    for wait in waits {
        let received = JsFuture::from(wait.unchecked_into::<js_sys::Promise>()).await;
        assert!(received.unwrap().is_undefined());
    }
}

#[wasm_bindgen_test]
fn the_bytes_of_buffers_and_of_all_views_are_read_in_memory_order() {
    let whole: Vec<u8> = (1..=8).collect();
    let buffer = Uint8Array::new_from_slice(&whole).buffer();
    assert_eq!(arguments::bytes(&buffer, "data").unwrap(), whole);
    let make = |class: &str, arguments: &str| {
        let make = format!("return new {class}(buffer{arguments})");
        let make = js_sys::Function::new_with_args("buffer", &make);
        make.call1(&JsValue::UNDEFINED, &buffer).unwrap()
    };
    for class in [
        "Int8Array",
        "Uint8Array",
        "Uint8ClampedArray",
        "Int16Array",
        "Uint16Array",
        "Int32Array",
        "Uint32Array",
        "Float32Array",
        "Float64Array",
        "BigInt64Array",
        "BigUint64Array",
        "DataView",
    ] {
        let all = arguments::bytes(&make(class, ""), "data").unwrap();
        assert_eq!(all, whole, "{class}");
        let none = arguments::bytes(&make(class, ", 8, 0"), "data").unwrap();
        assert!(none.is_empty(), "{class}");
    }
    let part = arguments::bytes(&make("Uint16Array", ", 2, 2"), "data").unwrap();
    assert_eq!(part, [3, 4, 5, 6]);
    let empty = arguments::bytes(&ArrayBuffer::new(0), "data").unwrap();
    assert!(empty.is_empty());
}

#[wasm_bindgen_test]
async fn data_may_be_changed_once_send_has_returned() {
    let socket = open(r#"{"trustAnyone":true}"#).await.unwrap();
    let data = js("(globalThis.growing = new ArrayBuffer(4, { maxByteLength: 64 }))");
    // Addresses of this network are for documentation: the dial fails later, or never.
    let sent = socket.send(&"192.0.2.1:7000".into(), &data);
    js("globalThis.growing.resize(64)");
    JsFuture::from(sent).await.unwrap();
    let total = field(&JsValue::from(socket.stats().unwrap()), "total");
    assert_eq!(field(&total, "submitted"), 1.0);
    assert_eq!(field(&total, "queuedBytes"), 4.0);
}
