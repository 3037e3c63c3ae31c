//! `AbortSignal`s, with which JavaScript ends a wait.

use js_sys::{Function, Promise};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::AbortSignal;

/// Waits for a signal. Dropping it removes its listener from the signal.
#[derive(Debug)]
pub(crate) struct Abort {
    signal: AbortSignal,
    listener: Option<Function>,
    event: JsFuture,
}

impl Abort {
    pub(crate) fn new(signal: AbortSignal) -> Self {
        let mut listener = None;
        let event = Promise::new(&mut |resolve, _| {
            // Fails for no signal.
            let _ = signal.add_event_listener_with_callback("abort", &resolve);
            if signal.aborted() {
                // There will be no event.
                let _ = resolve.call0(&JsValue::UNDEFINED);
            }
            listener = Some(resolve);
        });
        Self {
            event: JsFuture::from(event),
            signal,
            listener,
        }
    }

    /// Returns the reason once the signal is aborted. Cancel-safe.
    pub(crate) async fn aborted(&mut self) -> JsValue {
        // The promise is never rejected.
        let _ = (&mut self.event).await;
        self.signal.reason()
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            let _ = self
                .signal
                .remove_event_listener_with_callback("abort", listener);
        }
    }
}
