//! The arguments of methods that JavaScript calls.
//!
//! A method takes each of them as a [`JsValue`] and reads it here. Given an argument of another type,
//! the glue of wasm-bindgen does not check it: it takes the length of a number for a string's, and
//! reads memory out of bounds. Invariant: a value that is not of the expected type is a `TypeError` that
//! names the argument, and what is returned is a copy, which JavaScript cannot change.

use js_sys::{ArrayBuffer, JsString, Reflect, TypeError, Uint8Array};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};

#[wasm_bindgen]
extern "C" {
    /// A `DataView`, whose constructor is the only one that takes nothing but buffers.
    #[wasm_bindgen(js_name = DataView)]
    type Buffer;

    #[wasm_bindgen(constructor, catch, js_class = "DataView")]
    fn new(buffer: &JsValue) -> Result<Buffer, JsValue>;

    /// A `Uint8Array` whose functions may fail.
    #[wasm_bindgen(js_name = Uint8Array)]
    type View;

    #[wasm_bindgen(constructor, catch, js_class = "Uint8Array")]
    fn new(buffer: &JsValue, offset: &JsValue, len: &JsValue) -> Result<View, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn keys(this: &View) -> Result<JsValue, JsValue>;
}

/// The most bytes of a message, and the most UTF-16 code units of a string. It is the default limit of a
/// message. What is longer is refused before it is copied, since the memory of a module never shrinks.
const MAX_LEN: u32 = 16 << 20;

/// Reads the string `name`.
///
/// # Errors
///
/// Fails with a `TypeError` if the value is not a string, is not well-formed or is too long.
pub fn text(value: &JsValue, name: &str) -> Result<String, TypeError> {
    string(value).map_err(|what| TypeError::new(&format!("{name} {what}")))
}

/// Reads a string.
///
/// # Errors
///
/// Fails with the rest of a sentence that begins with the name of the value.
pub(crate) fn string(value: &JsValue) -> Result<String, String> {
    let expected = || "must be a string".to_owned();
    let len = value.dyn_ref::<JsString>().ok_or_else(expected)?.length();
    if len > MAX_LEN {
        return Err(format!("has {len} characters, the limit is {MAX_LEN}"));
    }
    let text = value.as_string().ok_or_else(expected)?;
    // Half of a surrogate pair has become this character, so that other strings would look the same.
    if text.contains(char::REPLACEMENT_CHARACTER) && JsValue::from_str(&text) != *value {
        return Err("must be well-formed, but has half of a surrogate pair".to_owned());
    }
    Ok(text)
}

/// Copies the bytes of the buffer, typed array or `DataView` `name`.
///
/// # Errors
///
/// Fails with a `TypeError` if the value is none of these, if its bytes were transferred elsewhere, or if
/// they are too many for a message.
pub fn bytes(value: &JsValue, name: &str) -> Result<Vec<u8>, TypeError> {
    let expected = || {
        TypeError::new(&format!(
            "{name} must be an ArrayBuffer, a typed array or a DataView, and not be detached"
        ))
    };
    let view = view(value).ok_or_else(expected)?;
    // The length that the view returns itself has 32 bits.
    let len = field(&view, "byteLength").and_then(|len| len.as_f64());
    // Without fractions, whose formatting would be 10 KB of the module.
    let len = len.ok_or_else(expected)? as u64;
    if len > MAX_LEN.into() {
        let text = format!("{name} has {len} bytes, but a message has at most {MAX_LEN}");
        return Err(TypeError::new(&text));
    }
    Ok(view.to_vec())
}

/// Returns a view on the bytes of a buffer or of another view.
fn view(value: &JsValue) -> Option<Uint8Array> {
    let none = JsValue::UNDEFINED;
    let (buffer, offset, len) = if ArrayBuffer::is_view(value) {
        let field = |name| field(value, name);
        if !value.is_instance_of::<Buffer>() {
            // Fails if a buffer that can be resized is too short by now. The other fields look as if it were
            // empty.
            value.unchecked_ref::<View>().keys().ok()?;
        }
        (field("buffer")?, field("byteOffset")?, field("byteLength")?)
    } else {
        (value.clone(), none.clone(), none)
    };
    Buffer::new(&buffer).ok()?;
    let view = View::new(&buffer, &offset, &len);
    Some(view.ok()?.unchecked_into())
}

fn field(object: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(object, &JsValue::from_str(name)).ok()
}
