//! The page's console.

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// Prints an error to the console.
pub(crate) fn error(thrown: &JsValue) {
    // If the page has replaced the function by one that throws, it knows.
    let _ = console_error(thrown);
}

#[wasm_bindgen]
extern "C" {
    /// `console.error`, which a page may have replaced.
    #[wasm_bindgen(catch, js_namespace = console, js_name = error)]
    fn console_error(thrown: &JsValue) -> Result<(), JsValue>;
}
