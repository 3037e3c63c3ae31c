//! The end of a page: it is closed, reloaded or left for another one.
//!
//! A worker and Node.js have no such event. Invariant: dropping a [`Closing`] removes its listener.

use std::rc::Weak;

use js_sys::Function;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::prelude::Closure;
use web_sys::{EventTarget, PageTransitionEvent};

/// The event that a page is about to be closed, or may be kept to be shown again.
const EVENT: &str = "pagehide";

/// Calls a function when the page is closed, for as long as it exists.
#[derive(Debug)]
pub(crate) struct Closing {
    target: Option<EventTarget>,
    listener: Closure<dyn FnMut(PageTransitionEvent)>,
}

impl Closing {
    /// Calls `close` with what `of` holds, if that still exists. Not for a page that the browser keeps, whose
    /// connections it may keep as well.
    pub(crate) fn watch<T: 'static>(of: Weak<T>, close: fn(&T)) -> Self {
        let listener = Closure::new(move |event: PageTransitionEvent| {
            if !event.persisted()
                && let Some(of) = of.upgrade()
            {
                close(&of);
            }
        });
        let closing = Self {
            target: js_sys::global().dyn_into().ok(),
            listener,
        };
        closing.call(EventTarget::add_event_listener_with_callback);
        closing
    }

    fn call(&self, call: fn(&EventTarget, &str, &Function) -> Result<(), wasm_bindgen::JsValue>) {
        if let Some(target) = &self.target {
            // Fails for no event.
            let _ = call(target, EVENT, self.listener.as_ref().unchecked_ref());
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.call(EventTarget::remove_event_listener_with_callback);
    }
}
