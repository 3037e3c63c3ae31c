//! The fields of an options object that JavaScript passes.
//!
//! Each field is read by its own call, so that an error names the invalid one. Reading one can run code, of
//! getters and proxies. Invariant: an exception of that code is an error, too. Otherwise it would end the task
//! that reads the field, whose promise would never settle.

use anyhow::{Context as _, ensure};
use js_sys::{Array, Reflect, Symbol};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

#[wasm_bindgen]
extern "C" {
    /// `Array.isArray`, which fails for a revoked proxy.
    #[wasm_bindgen(catch, js_namespace = Array, js_name = isArray)]
    fn is_array(value: &JsValue) -> Result<bool, JsValue>;

    /// `Object.entries`, which fails if a getter does.
    #[wasm_bindgen(catch, js_namespace = Object, js_name = entries)]
    fn object_entries(object: &JsValue) -> Result<Array, JsValue>;
}

/// The fields of an object. `undefined` and `null` count as missing.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(&'a JsValue);

impl<'a> Fields<'a> {
    /// Returns the fields of `options`, the argument of `method`.
    ///
    /// # Errors
    ///
    /// Fails if `options` is not an object.
    pub fn of(options: &'a JsValue, method: &str) -> anyhow::Result<Self> {
        ensure!(options.is_object(), "{method} needs an object of options");
        Ok(Self(options))
    }

    fn value(&self, name: &str) -> anyhow::Result<Option<JsValue>> {
        let value = Reflect::get(self.0, &JsValue::from_str(name)).ok();
        let value =
            value.with_context(|| format!("{name} cannot be read: its getter has failed"))?;
        Ok(Some(value).filter(|value| !value.is_undefined() && !value.is_null()))
    }

    /// Returns a string, or `None` if the field is missing.
    ///
    /// # Errors
    ///
    /// Fails if the field has another type. The error names the field.
    pub fn text(&self, name: &str) -> anyhow::Result<Option<String>> {
        self.value(name)?
            .map(|value| {
                value
                    .as_string()
                    .with_context(|| format!("{name} must be a string"))
            })
            .transpose()
    }

    /// Returns an array of strings, or `None` if the field is missing.
    ///
    /// # Errors
    ///
    /// Fails if the field has another type. The error names the field.
    pub fn texts(&self, name: &str) -> anyhow::Result<Option<Vec<String>>> {
        let expected = || format!("{name} must be an array of strings");
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        let texts = texts_of(&value);
        texts.map(Some).with_context(expected)
    }

    /// Returns a number, or `None` if the field is missing.
    ///
    /// # Errors
    ///
    /// Fails if the field has another type. The error names the field.
    pub fn number(&self, name: &str) -> anyhow::Result<Option<f64>> {
        self.value(name)?
            .map(|value| {
                value
                    .as_f64()
                    .with_context(|| format!("{name} must be a number"))
            })
            .transpose()
    }

    /// Returns a boolean, or `false` if the field is missing.
    ///
    /// # Errors
    ///
    /// Fails if the field has another type. The error names the field.
    pub fn flag(&self, name: &str) -> anyhow::Result<bool> {
        match self.value(name)? {
            Some(value) => value
                .as_bool()
                .with_context(|| format!("{name} must be true or false")),
            None => Ok(false),
        }
    }

    /// Returns an instance of a class, or `None` if the field is missing.
    ///
    /// # Errors
    ///
    /// Fails if the field has another type. The error names the field and `class`.
    pub fn instance<T: JsCast>(&self, name: &str, class: &str) -> anyhow::Result<Option<T>> {
        self.value(name)?
            .map(|value| {
                let value = value.dyn_into().ok();
                value.with_context(|| format!("{name} must be of the class {class}"))
            })
            .transpose()
    }

    /// Returns the keys and values of an object of strings, or nothing if the field is missing.
    ///
    /// # Errors
    ///
    /// Fails if the field has another type. The error names the field.
    pub fn entries(&self, name: &str) -> anyhow::Result<Vec<(String, String)>> {
        let expected = || format!("{name} must be an object of strings");
        let Some(value) = self.value(name)? else {
            return Ok(Vec::new());
        };
        entries_of(&value).with_context(expected)
    }
}

/// Returns the elements of an array of strings.
fn texts_of(value: &JsValue) -> Option<Vec<String>> {
    if !is_array(value).ok()? {
        return None;
    }
    let len = Reflect::get(value, &JsValue::from_str("length")).ok()?;
    let items = (0..len.as_f64()? as u32).map(|index| Reflect::get_u32(value, index).ok());
    items.map(|item| item?.as_string()).collect()
}

/// Returns the keys and values of an object of strings. A `Map` or an array has its contents elsewhere.
fn entries_of(value: &JsValue) -> Option<Vec<(String, String)>> {
    let iterator = value.is_object().then(Symbol::iterator)?;
    if !Reflect::get(value, &iterator).ok()?.is_undefined() {
        return None;
    }
    let entries = object_entries(value).ok()?;
    let entries = entries.iter().map(|entry| {
        let entry = entry.dyn_into::<Array>().ok()?;
        Some((entry.get(0).as_string()?, entry.get(1).as_string()?))
    });
    entries.collect()
}
