//! One browser WebSocket: its events, its end and its limits.
//!
//! No other file calls the browser's `WebSocket`. This one knows nothing about handshakes and
//! addresses. Event handlers update a small state on which readers and writers wait. The handlers
//! own that state but not the socket, so there is no reference cycle.
//!
//! Invariants: a closure lives as long as it is attached as a handler; dropping the socket detaches all
//! handlers first and then closes it. No waker is called or dropped while the state is borrowed, since
//! either may run the task at once, which looks at the state.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use js_sys::Uint8Array;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{BinaryType, CloseEvent, Event, MessageEvent, WebSocket};

use super::error::WebSocketError;
use crate::rt;
use crate::secure::MAX_FRAME_LEN;

/// Bytes that an unread frame counts in addition to its length, so that empty frames are bounded as
/// well.
pub(super) const FRAME_OVERHEAD: usize = 64;

/// A close code that we send. A browser accepts only 1000 and 3000 to 4999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// An orderly close.
    Normal = 1000,
    /// More data arrived than was read.
    Overflow = 4000,
    /// The peer sent a message that cannot be a frame.
    NotAFrame = 4001,
}

/// A WebSocket that is opening, is open, or has ended. Dropping it closes it.
pub(super) struct Socket {
    js: WebSocket,
    state: Rc<RefCell<State>>,
    // Keeps the closures alive. They are detached in `drop`.
    _handlers: Handlers,
    _live: Live,
}

struct Handlers {
    open: Closure<dyn FnMut(Event)>,
    message: Closure<dyn FnMut(MessageEvent)>,
    error: Closure<dyn FnMut(Event)>,
    close: Closure<dyn FnMut(CloseEvent)>,
}

struct State {
    phase: Phase,
    unread: VecDeque<BytesMut>,
    unread_bytes: usize,
    max_unread_bytes: usize,
    // The number of frames that have arrived, wrapping.
    arrivals: u64,
    // Whether frames will be read. If not, they are dropped as they arrive.
    has_reader: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Whether the tasks above must be woken once the state is not borrowed.
    wakes: bool,
}

#[derive(Debug, Clone)]
enum Phase {
    Opening,
    Open,
    /// The peer has closed in an orderly way.
    Finished,
    Ended(WebSocketError),
}

impl Socket {
    /// Starts to connect to `url`. `live` counts the sockets that exist.
    ///
    /// # Errors
    ///
    /// Fails with the exception that the browser's constructor throws.
    pub(super) fn new(
        url: &str,
        max_unread_bytes: usize,
        live: &Arc<AtomicUsize>,
    ) -> Result<Self, JsValue> {
        let js = WebSocket::new(url)?;
        js.set_binary_type(BinaryType::Arraybuffer);
        let state = Rc::new(RefCell::new(State {
            phase: Phase::Opening,
            unread: VecDeque::new(),
            unread_bytes: 0,
            max_unread_bytes,
            arrivals: 0,
            has_reader: true,
            reader: None,
            writer: None,
            wakes: false,
        }));
        let handlers = Handlers {
            open: Closure::new({
                let state = Rc::clone(&state);
                move |_| change(&state, State::opened)
            }),
            message: Closure::new({
                let state = Rc::clone(&state);
                move |event| on_message(&state, &event)
            }),
            error: Closure::new({
                let state = Rc::clone(&state);
                move |_| change(&state, |state| state.end(WebSocketError::Broken))
            }),
            close: Closure::new({
                let state = Rc::clone(&state);
                move |event: CloseEvent| change(&state, |state| state.closed(&event))
            }),
        };
        js.set_onopen(Some(handlers.open.as_ref().unchecked_ref()));
        js.set_onmessage(Some(handlers.message.as_ref().unchecked_ref()));
        js.set_onerror(Some(handlers.error.as_ref().unchecked_ref()));
        js.set_onclose(Some(handlers.close.as_ref().unchecked_ref()));
        Ok(Self {
            js,
            state,
            _handlers: handlers,
            _live: Live::new(live),
        })
    }

    /// Completes once the socket is open, or with an error once it cannot become open any more.
    pub(super) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketError>> {
        let state = self.state.borrow_mut();
        match &state.phase {
            Phase::Opening => wait(state, |state| &mut state.writer, cx),
            Phase::Open => Poll::Ready(Ok(())),
            Phase::Finished => Poll::Ready(Err(WebSocketError::Broken)),
            Phase::Ended(error) => Poll::Ready(Err(error.clone())),
        }
    }

    /// Completes with the next frame, or with `None` once the peer has closed in an orderly way.
    /// Frames that arrived before the end are returned first, except after an overflow.
    pub(super) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<BytesMut>, WebSocketError>> {
        let mut state = self.state.borrow_mut();
        if let Some(frame) = state.unread.pop_front() {
            let cost = frame.len().saturating_add(FRAME_OVERHEAD);
            state.unread_bytes = state.unread_bytes.saturating_sub(cost);
            return Poll::Ready(Ok(Some(frame)));
        }
        match &state.phase {
            Phase::Opening | Phase::Open => wait(state, |state| &mut state.reader, cx),
            Phase::Finished => Poll::Ready(Ok(None)),
            Phase::Ended(error) => Poll::Ready(Err(error.clone())),
        }
    }

    /// Completes once a frame has arrived since [`arrivals`](Self::arrivals) returned `seen`, or
    /// with an error once nothing can be sent any more.
    pub(super) fn poll_arrival(
        &self,
        seen: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WebSocketError>> {
        self.check_open()?;
        let state = self.state.borrow_mut();
        if state.arrivals != seen {
            return Poll::Ready(Ok(()));
        }
        wait(state, |state| &mut state.writer, cx)
    }

    /// Returns the number of frames that have arrived, wrapping.
    pub(super) fn arrivals(&self) -> u64 {
        self.state.borrow().arrivals
    }

    /// Fails if nothing can be sent now.
    pub(super) fn check_open(&self) -> Result<(), WebSocketError> {
        match &self.state.borrow().phase {
            // The browser knows of a close before the event arrives, and would silently discard
            // frames that are sent in between.
            Phase::Open if self.js.ready_state() == WebSocket::OPEN => Ok(()),
            Phase::Open | Phase::Opening | Phase::Finished => Err(WebSocketError::NotOpen),
            Phase::Ended(error) => Err(error.clone()),
        }
    }

    /// Passes a frame to the browser. It accepts any amount of data, so check
    /// [`buffered`](Self::buffered) first.
    pub(super) fn send(&self, frame: &[u8]) -> Result<(), WebSocketError> {
        self.check_open()?;
        let sent = if rt::SHARED_MEMORY {
            self.js.send_with_js_u8_array(&Uint8Array::from(frame))
        } else {
            self.js.send_with_u8_array(frame)
        };
        sent.map_err(|thrown| exception("send", &thrown))
    }

    /// Returns the number of bytes that the browser has accepted and not sent yet.
    pub(super) fn buffered(&self) -> u32 {
        self.js.buffered_amount()
    }

    /// Drops the frames that have arrived and all that will arrive.
    pub(super) fn stop_reading(&self) {
        let mut state = self.state.borrow_mut();
        state.has_reader = false;
        state.forget_unread();
    }

    /// Closes the socket in an orderly way and wakes all waiting tasks. The browser first sends
    /// what it has accepted.
    pub(super) fn close(&self) {
        change(&self.state, |state| state.end(WebSocketError::NotOpen));
        close(&self.js, Goodbye::Normal);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.js.set_onopen(None);
        self.js.set_onmessage(None);
        self.js.set_onerror(None);
        self.js.set_onclose(None);
        close(&self.js, Goodbye::Normal);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("Socket")
            .field("phase", &state.phase)
            .field("unread_bytes", &state.unread_bytes)
            .finish_non_exhaustive()
    }
}

impl State {
    fn opened(&mut self) {
        if matches!(self.phase, Phase::Opening) {
            self.phase = Phase::Open;
            self.wakes = true;
        }
    }

    fn closed(&mut self, event: &CloseEvent) {
        match event.code() {
            1000 | 1001 if event.was_clean() && !matches!(self.phase, Phase::Opening) => {
                if matches!(self.phase, Phase::Open) {
                    self.phase = Phase::Finished;
                    self.wakes = true;
                }
            }
            // The close frame of the peer had no code, which is an orderly end as well.
            1005 => {
                if matches!(self.phase, Phase::Open) {
                    self.phase = Phase::Finished;
                    self.wakes = true;
                }
            }
            1006 => self.end(WebSocketError::Broken),
            code => self.end(WebSocketError::Closed {
                code,
                reason: event.reason(),
            }),
        }
    }

    /// Ends the socket with `error`, unless it has ended before. Wakes all waiting tasks.
    fn end(&mut self, error: WebSocketError) {
        if matches!(self.phase, Phase::Opening | Phase::Open) {
            self.phase = Phase::Ended(error);
        }
        self.wakes = true;
    }

    /// Queues a message that has arrived.
    ///
    /// # Errors
    ///
    /// Fails if the message is not a frame or exceeds the limit. The caller must end the socket.
    fn arrived(&mut self, data: &JsValue) -> Result<(), (WebSocketError, Goodbye)> {
        let Some(data) = data.dyn_ref::<js_sys::ArrayBuffer>() else {
            return Err((WebSocketError::NotBinary, Goodbye::NotAFrame));
        };
        let len = usize::try_from(data.byte_length()).unwrap_or(usize::MAX);
        if len > MAX_FRAME_LEN {
            let error = WebSocketError::TooLong {
                len,
                max: MAX_FRAME_LEN,
            };
            return Err((error, Goodbye::NotAFrame));
        }
        let cost = len.saturating_add(FRAME_OVERHEAD);
        let unread_bytes = self.unread_bytes.saturating_add(cost);
        if unread_bytes > self.max_unread_bytes {
            self.forget_unread();
            let error = WebSocketError::Overflow {
                limit: self.max_unread_bytes,
            };
            return Err((error, Goodbye::Overflow));
        }
        let mut frame = BytesMut::zeroed(len);
        Uint8Array::new(data).copy_to(&mut frame);
        self.unread.push_back(frame);
        self.unread_bytes = unread_bytes;
        self.arrivals = self.arrivals.wrapping_add(1);
        self.wakes = true;
        Ok(())
    }

    fn forget_unread(&mut self) {
        self.unread = VecDeque::new();
        self.unread_bytes = 0;
    }
}

/// Changes the state, and then wakes the tasks that must look at it.
fn change(state: &RefCell<State>, change: impl FnOnce(&mut State)) {
    let mut state = state.borrow_mut();
    change(&mut state);
    wake(state);
}

/// Wakes the tasks that must look at the state.
fn wake(mut state: RefMut<'_, State>) {
    if !std::mem::take(&mut state.wakes) {
        return;
    }
    let wakers = [state.reader.take(), state.writer.take()];
    drop(state);
    wakers.into_iter().flatten().for_each(Waker::wake);
}

fn on_message(state: &RefCell<State>, event: &MessageEvent) {
    let mut state = state.borrow_mut();
    if !matches!(state.phase, Phase::Open) || !state.has_reader {
        return;
    }
    if let Err((error, goodbye)) = state.arrived(&event.data()) {
        state.end(error);
        // The socket may have no reader that would notice the error and close it. No event is fired before
        // this returns.
        if let Some(js) = event.target().and_then(|t| t.dyn_into::<WebSocket>().ok()) {
            close(&js, goodbye);
        }
    }
    wake(state);
}

/// Closes a WebSocket, unless it is closing already. One that is still opening is abandoned.
fn close(js: &WebSocket, goodbye: Goodbye) {
    if js.ready_state() >= WebSocket::CLOSING {
        return;
    }
    if let Err(thrown) = js.close_with_code(goodbye as u16) {
        tracing::debug!(
            error = exception_text(&thrown),
            "the browser refused to close a WebSocket"
        );
    }
}

/// Makes the task wait in one of the two places of `state`.
fn wait<R>(
    mut state: RefMut<'_, State>,
    place: impl FnOnce(&mut State) -> &mut Option<Waker>,
    cx: &Context<'_>,
) -> Poll<R> {
    let former = place(&mut state).replace(cx.waker().clone());
    drop(state);
    drop(former);
    Poll::Pending
}

fn exception(call: &'static str, thrown: &JsValue) -> WebSocketError {
    WebSocketError::Exception {
        call,
        message: exception_text(thrown),
    }
}

/// Returns the text of an exception.
pub(super) fn exception_text(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => format!("{thrown:?}"),
    }
}

/// Counts a socket for as long as it exists.
struct Live(Arc<AtomicUsize>);

impl Live {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
