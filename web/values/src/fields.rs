//! The fields of an options object that JavaScript passes.
//!
//! Each field is read by its own call, so that an error names the invalid one. Reading one can run code, of
//! getters and proxies. Invariant: an exception of that code is an error, too. Otherwise it would end the task
//! that reads the field, whose promise would never settle.

use anyhow::{Context as _, anyhow, ensure};
use js_sys::{Array, Reflect};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use crate::arguments::string;

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

    /// Returns how a field is missing, as a word of JavaScript: `null` or `undefined`.
    pub(crate) fn absence(&self, name: &str) -> &'static str {
        match Reflect::get(self.0, &JsValue::from_str(name)) {
            Ok(value) if value.is_null() => "null",
            _ => "undefined",
        }
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
            .map(|value| string(&value).map_err(|what| anyhow!("{name} {what}")))
            .transpose()
    }

    /// Returns an array of strings, or `None` if the field is missing.
    ///
    /// # Errors
    ///
    /// Fails if the field has another type. The error names the field.
    pub fn texts(&self, name: &str) -> anyhow::Result<Option<Vec<String>>> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        let texts = texts_of(&value).map_err(|what| anyhow!("{name} {what}"))?;
        Ok(Some(texts))
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
        let Some(value) = self.value(name)? else {
            return Ok(Vec::new());
        };
        entries_of(&value).map_err(|what| anyhow!("{name} {what}"))
    }
}

/// Returns the elements of an array of strings.
///
/// # Errors
///
/// Fails with the rest of a sentence that begins with the name of the field.
fn texts_of(value: &JsValue) -> Result<Vec<String>, String> {
    let expected = || "must be an array of strings".to_owned();
    let is_array = is_array(value).is_ok_and(|is_array| is_array);
    let len = is_array.then(|| Reflect::get(value, &JsValue::from_str("length")).ok());
    let len = len.flatten().and_then(|len| len.as_f64());
    let texts = (0..len.ok_or_else(expected)? as u32).map(|index| {
        let item = Reflect::get_u32(value, index).ok();
        string(&item.filter(JsValue::is_string).ok_or_else(expected)?)
    });
    texts.collect()
}

/// Returns the keys and values of an object of strings.
///
/// # Errors
///
/// Fails with the rest of a sentence that begins with the name of the field.
fn entries_of(value: &JsValue) -> Result<Vec<(String, String)>, String> {
    let expected = || "must be an object of strings".to_owned();
    let entries = is_plain(value).then(|| object_entries(value).ok());
    let entries = entries.flatten().ok_or_else(expected)?;
    let text = |value: JsValue| {
        let value = Some(value).filter(JsValue::is_string);
        string(&value.ok_or_else(expected)?)
    };
    let entries = entries.iter().map(|entry| {
        let entry: Array = entry.dyn_into().map_err(|_| expected())?;
        Ok((text(entry.get(0))?, text(entry.get(1))?))
    });
    entries.collect()
}

/// Returns whether a value is an object whose class is `Object`, of this page or of another, or which has
/// none. A `Map`, a `Promise` or what inherits its fields has its contents elsewhere.
fn is_plain(value: &JsValue) -> bool {
    let class = |value: &JsValue| Reflect::get_prototype_of(value).ok().map(JsValue::from);
    match class(value) {
        Some(class) if class.is_null() => true,
        Some(prototype) => class(&prototype).is_some_and(|class| class.is_null()),
        None => false,
    }
}
