//! The capabilities of the page or worker around this code.
//!
//! It works without a `window`. It asks the environment and decides nothing about addresses.

use wasm_bindgen::JsValue;

/// Returns whether the page was loaded over TLS. Such a page may open `ws://` URLs only to its own
/// machine.
pub fn is_https() -> bool {
    origin().is_some_and(|origin| origin.starts_with("https://"))
}

/// Returns whether there is a class `WebSocket`.
pub(super) fn has_websocket() -> bool {
    js_sys::Reflect::has(&js_sys::global(), &JsValue::from_str("WebSocket")).unwrap_or(false)
}

/// Returns the page's origin, `https://host:port`. A worker has the origin of the page that started
/// it.
fn origin() -> Option<String> {
    let origin = js_sys::Reflect::get(&js_sys::global(), &JsValue::from_str("origin"));
    origin.ok()?.as_string()
}
