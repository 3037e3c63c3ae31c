//! Plain JavaScript objects, built field by field.

use js_sys::Reflect;
use wasm_bindgen::JsValue;

/// A builder of a plain JavaScript object.
#[derive(Debug)]
pub struct Object(js_sys::Object);

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

impl Object {
    /// Returns an empty object.
    pub fn new() -> Self {
        Self(js_sys::Object::new())
    }

    /// Returns an empty object without a prototype, for field names that come from the network. There,
    /// `__proto__` is an ordinary name.
    pub fn without_prototype() -> Self {
        Self(js_sys::Object::create(&JsValue::NULL.into()))
    }

    /// Adds a field.
    pub fn value(self, name: &str, value: &JsValue) -> Self {
        // Fails only if the object is frozen, which this one is not.
        let _ = Reflect::set(&self.0, &JsValue::from_str(name), value);
        self
    }

    /// Adds a string.
    pub fn text(self, name: &str, text: &str) -> Self {
        self.value(name, &JsValue::from_str(text))
    }

    /// Adds a boolean.
    pub fn flag(self, name: &str, flag: bool) -> Self {
        self.value(name, &JsValue::from_bool(flag))
    }

    /// Adds a number.
    #[expect(
        clippy::cast_precision_loss,
        reason = "JavaScript's numbers; exact up to 2^53"
    )]
    pub fn count(self, name: &str, count: u64) -> Self {
        self.value(name, &JsValue::from_f64(count as f64))
    }

    /// Returns the finished object.
    pub fn into_js(self) -> JsValue {
        self.0.into()
    }
}
