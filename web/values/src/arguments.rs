//! The arguments of methods that JavaScript calls.
//!
//! A method takes each of them as a [`JsValue`] and reads it here. Given an argument of another type,
//! the glue of wasm-bindgen does not check it: it takes the length of a number for a string's, and
//! reads memory out of bounds. Invariant: a value that is not of the expected type is a `TypeError` that
//! names the argument, and what is returned is a copy, which JavaScript cannot change.

use js_sys::{ArrayBuffer, Reflect, TypeError, Uint8Array};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};

#[wasm_bindgen]
extern "C" {
    /// A `DataView`, whose constructor is the only one that takes nothing but buffers.
    #[wasm_bindgen(js_name = DataView)]
    type Buffer;

    #[wasm_bindgen(constructor, catch, js_class = "DataView")]
    fn new(buffer: &JsValue) -> Result<Buffer, JsValue>;

    /// A `Uint8Array` whose constructor may fail.
    #[wasm_bindgen(js_name = Uint8Array)]
    type View;

    #[wasm_bindgen(constructor, catch, js_class = "Uint8Array")]
    fn new(buffer: &JsValue, offset: &JsValue, len: &JsValue) -> Result<View, JsValue>;
}

/// Reads the string `name`.
///
/// # Errors
///
/// Fails with a `TypeError` if the value is not a string.
pub fn text(value: &JsValue, name: &str) -> Result<String, TypeError> {
    let expected = || TypeError::new(&format!("{name} must be a string"));
    value.as_string().ok_or_else(expected)
}

/// Copies the bytes of the buffer, typed array or `DataView` `name`.
///
/// # Errors
///
/// Fails with a `TypeError` if the value is none of these, or if its bytes were transferred elsewhere.
pub fn bytes(value: &JsValue, name: &str) -> Result<Vec<u8>, TypeError> {
    let expected = || {
        TypeError::new(&format!(
            "{name} must be an ArrayBuffer, a typed array or a DataView, and not be detached"
        ))
    };
    view(value).map(|view| view.to_vec()).ok_or_else(expected)
}

/// Returns a view on the bytes of a buffer or of another view.
fn view(value: &JsValue) -> Option<Uint8Array> {
    let view = if ArrayBuffer::is_view(value) {
        let field = |name| Reflect::get(value, &JsValue::from_str(name)).ok();
        View::new(
            &field("buffer")?,
            &field("byteOffset")?,
            &field("byteLength")?,
        )
    } else {
        Buffer::new(value).ok()?;
        View::new(value, &JsValue::UNDEFINED, &JsValue::UNDEFINED)
    };
    Some(view.ok()?.unchecked_into())
}
