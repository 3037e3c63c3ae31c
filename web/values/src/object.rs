//! Plain JavaScript objects, built field by field.

use js_sys::Reflect;
use wasm_bindgen::JsValue;

/// A plain object in the making.
#[derive(Debug)]
pub struct Object(js_sys::Object);

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

impl Object {
    /// Empty.
    pub fn new() -> Self {
        Self(js_sys::Object::new())
    }

    /// For names that come from the network: `__proto__` is a name like any other there.
    pub fn without_prototype() -> Self {
        Self(js_sys::Object::create(&JsValue::NULL.into()))
    }

    /// With a field.
    pub fn value(self, name: &str, value: &JsValue) -> Self {
        // Fails on a frozen object only, and this one is ours.
        let _ = Reflect::set(&self.0, &JsValue::from_str(name), value);
        self
    }

    /// With a string.
    pub fn text(self, name: &str, text: &str) -> Self {
        self.value(name, &JsValue::from_str(text))
    }

    /// With a boolean.
    pub fn flag(self, name: &str, flag: bool) -> Self {
        self.value(name, &JsValue::from_bool(flag))
    }

    /// With a number.
    #[expect(
        clippy::cast_precision_loss,
        reason = "JavaScript's numbers; exact up to 2^53"
    )]
    pub fn count(self, name: &str, count: u64) -> Self {
        self.value(name, &JsValue::from_f64(count as f64))
    }

    /// The finished object.
    pub fn into_js(self) -> JsValue {
        self.0.into()
    }
}
