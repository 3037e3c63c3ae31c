//! Tasks and time on the event loop of a browser, in a window and in a worker alike.
//!
//! Invariant: no waker is called or dropped while a cell is borrowed, since either may run the task at
//! once.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use gloo_timers::callback::Timeout;
use js_sys::Function;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::{EventTarget, MessageChannel, MessagePort};

pub use web_time::Instant;

/// Requires [`Send`] natively and nothing in a browser, which has one thread.
pub trait MaybeSend {}
impl<T: ?Sized> MaybeSend for T {}

/// Requires [`Sync`] natively and nothing in a browser, which has one thread.
pub trait MaybeSync {}
impl<T: ?Sized> MaybeSync for T {}

/// A boxed future. It is `Send` natively and not in a browser.
pub type BoxFuture<'a, T> = futures::future::LocalBoxFuture<'a, T>;

/// Completes after `duration`. Cancel-safe. In a hidden tab, timers may fire as rarely as once a
/// minute.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> + MaybeSend {
    Sleep {
        left: duration,
        timer: None,
    }
}

/// The longest time for which a browser sets a timer, in milliseconds. A longer one would fire at
/// once.
const LONGEST_TIMER_MS: u32 = i32::MAX as u32;

/// A timer that is set when it is first polled.
///
/// The future of gloo-timers is not used because it wakes its task when it is dropped while it waits.
/// A loop that creates a new timer at each wake would never end.
struct Sleep {
    left: Duration,
    timer: Option<(Timeout, Rc<Fired>)>,
}

#[derive(Debug, Default)]
struct Fired {
    fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Fired {
    fn fire(&self) {
        self.fired.set(true);
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.fired.get() {
            return Poll::Ready(());
        }
        let former = self.waker.replace(Some(cx.waker().clone()));
        drop(former);
        Poll::Pending
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some((_, fired)) = &self.timer {
                ready!(fired.poll(cx));
                self.timer = None;
            }
            if self.left.is_zero() {
                return Poll::Ready(());
            }
            // Rounded up: a timer may be late, but not early.
            let millis = self.left.as_nanos().div_ceil(1_000_000);
            let millis = u32::try_from(millis)
                .unwrap_or(u32::MAX)
                .min(LONGEST_TIMER_MS);
            self.left = self
                .left
                .saturating_sub(Duration::from_millis(millis.into()));
            let fired = Rc::<Fired>::default();
            let on_time = Rc::clone(&fired);
            let timeout = Timeout::new(millis, move || on_time.fire());
            self.timer = Some((timeout, fired));
        }
    }
}

/// Turns of the event loop, in each of which the browser can run what is due. A turn takes microseconds,
/// whereas browsers delay nested timers of zero to four milliseconds.
///
/// It is a message channel from the page to itself, of which each message is a task of the event loop. Drop
/// it when no turn is needed for long: in Node.js, an open channel keeps the process alive.
#[derive(Debug)]
pub(crate) struct EventLoopTurns(Option<Channel>);

#[derive(Debug)]
struct Channel {
    port: MessagePort,
    listening: MessagePort,
    turned: Rc<Fired>,
    /// Keeps the handler of `listening` alive.
    _on_message: Closure<dyn FnMut()>,
}

impl EventLoopTurns {
    pub(crate) fn new() -> Self {
        // Without message channels (in no known browser) no turn is waited for.
        Self(MessageChannel::new().ok().map(|channel| {
            let turned = Rc::<Fired>::default();
            let on_message = Closure::new({
                let turned = Rc::clone(&turned);
                move || turned.fire()
            });
            let listening = channel.port2();
            listening.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
            Channel {
                port: channel.port1(),
                listening,
                turned,
                _on_message: on_message,
            }
        }))
    }

    /// Waits for one turn. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        let Some(Channel { port, turned, .. }) = &self.0 else {
            return;
        };
        turned.fired.set(false);
        if port.post_message(&JsValue::NULL).is_ok() {
            poll_fn(|cx| turned.poll(cx)).await;
        }
    }
}

/// Waits until the browser has had a turn of the event loop, in which it can run what is due. Cancel-safe.
/// Unlike a timer, it is not delayed in a hidden page.
pub async fn next_turn() {
    EventLoopTurns::new().next().await;
}

impl Drop for Channel {
    fn drop(&mut self) {
        // A message may still be on its way.
        self.listening.set_onmessage(None);
        // Closes the other port as well.
        self.listening.close();
    }
}

/// The events after which a page may have slept, or have another network. A worker gets the first one
/// only.
const WAKING_EVENTS: [&str; 4] = ["online", "visibilitychange", "pageshow", "resume"];

/// The time between two looks at the clock.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A look that comes this much too late, by the clock on the wall, comes after a sleep. Timers of hidden
/// pages are late by up to a second even if the page is awake.
const SLEPT: Duration = Duration::from_secs(2);

/// The times at which the machine or the page wakes up.
///
/// It notices events, and the clock on the wall: while a machine sleeps, that clock goes on, and the one
/// of [`Instant`] may not; while a page is frozen, both do, but timers are late.
#[derive(Debug)]
pub(crate) struct Wakings {
    /// The window or worker, if it has events.
    target: Option<EventTarget>,
    listener: Closure<dyn FnMut()>,
    event: Rc<Fired>,
}

impl Wakings {
    /// Starts to watch.
    #[expect(clippy::unnecessary_wraps, reason = "natively there is none")]
    pub(crate) fn new() -> Option<Self> {
        let event = Rc::<Fired>::default();
        let listener = Closure::new({
            let event = Rc::clone(&event);
            move || event.fire()
        });
        let target = js_sys::global().dyn_into::<EventTarget>().ok();
        let wakings = Self {
            target,
            listener,
            event,
        };
        wakings.each_event(EventTarget::add_event_listener_with_callback);
        Some(wakings)
    }

    /// Waits until the page has woken up since the last call. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        loop {
            let began = unix_time();
            let mut look = pin!(sleep(LOOK_INTERVAL));
            poll_fn(|cx| match self.event.poll(cx) {
                Poll::Pending => look.as_mut().poll(cx),
                ready => ready,
            })
            .await;
            let passed = unix_time().saturating_sub(began);
            if self.event.fired.take() || passed >= LOOK_INTERVAL + SLEPT {
                return;
            }
        }
    }

    fn each_event(&self, call: fn(&EventTarget, &str, &Function) -> Result<(), JsValue>) {
        for event in WAKING_EVENTS {
            if let Some(target) = &self.target {
                // Fails for no event.
                let _ = call(target, event, self.listener.as_ref().unchecked_ref());
            }
        }
    }
}

impl Drop for Wakings {
    fn drop(&mut self) {
        self.each_event(EventTarget::remove_event_listener_with_callback);
    }
}

/// Whether the module's memory is shared with workers. The browser then takes no view of it where the
/// content must not change meanwhile, such as data to send.
pub(crate) const SHARED_MEMORY: bool = cfg!(target_feature = "atomics");

/// Returns the time since 1970-01-01 UTC by the clock of the machine, or zero if that is set to an
/// earlier time.
pub fn unix_time() -> Duration {
    web_time::SystemTime::now()
        .duration_since(web_time::SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// The event loop of the browser, which is the same everywhere. Starts tasks there.
#[derive(Debug, Clone)]
pub(crate) struct Executor(());

impl Executor {
    /// Returns the event loop.
    pub(crate) fn current() -> Self {
        Self(())
    }

    #[expect(
        clippy::unused_self,
        reason = "natively there are several executors to choose from"
    )]
    #[expect(clippy::disallowed_methods, reason = "the module that owns spawning")]
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        wasm_bindgen_futures::spawn_local(future);
    }
}
