//! Tasks and time on the event loop of a browser, in a window and in a worker alike.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gloo_timers::callback::Timeout;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::{MessageChannel, MessagePort};

pub use web_time::Instant;

/// Requires [`Send`] natively and nothing in a browser, which has one thread.
pub trait MaybeSend {}
impl<T: ?Sized> MaybeSend for T {}

/// Requires [`Sync`] natively and nothing in a browser, which has one thread.
pub trait MaybeSync {}
impl<T: ?Sized> MaybeSync for T {}

/// A boxed future. It is `Send` natively and not in a browser.
pub type BoxFuture<'a, T> = futures::future::LocalBoxFuture<'a, T>;

/// Returns a map of `entries`. Of several with the same key, the last one counts.
///
/// It inserts them one by one: collecting would sort them first, which takes more wasm.
pub(crate) fn map<K: Ord, V>(entries: Vec<(K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(entries);
    map
}

/// Returns a set of `values`.
///
/// It inserts them one by one, for the same reason.
pub(crate) fn set<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(values);
    set
}

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

#[derive(Default)]
struct Fired {
    fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Fired {
    fn fire(&self) {
        self.fired.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some((_, fired)) = &self.timer {
                if !fired.fired.get() {
                    *fired.waker.borrow_mut() = Some(cx.waker().clone());
                    return Poll::Pending;
                }
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

/// Waits for one turn of the event loop, so that the browser can run what is due. It takes
/// microseconds, whereas browsers delay nested timers of zero to four milliseconds.
pub(crate) fn turn() -> impl Future<Output = ()> {
    let mut turned = None;
    std::future::poll_fn(move |cx| match &turned {
        None => {
            let fired = Rc::<Fired>::default();
            *fired.waker.borrow_mut() = Some(cx.waker().clone());
            turned = Some(Rc::clone(&fired));
            let asked = TURNS.with(|turns| turns.as_ref().is_some_and(|turns| turns.ask(fired)));
            if asked {
                Poll::Pending
            } else {
                // Without message channels (in no known browser) the wait ends at once.
                Poll::Ready(())
            }
        }
        Some(fired) if fired.fired.get() => Poll::Ready(()),
        Some(fired) => {
            *fired.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        }
    })
}

thread_local!(static TURNS: Option<Turns> = Turns::new());

/// A message channel from the page to itself. Each message is a task of the event loop.
struct Turns {
    port: MessagePort,
    waiting: Rc<RefCell<Vec<Rc<Fired>>>>,
    /// Keeps the handler of the other port alive.
    _on_message: Closure<dyn FnMut()>,
}

impl Turns {
    fn new() -> Option<Self> {
        let channel = MessageChannel::new().ok()?;
        let waiting = Rc::<RefCell<Vec<Rc<Fired>>>>::default();
        let turned = Rc::clone(&waiting);
        let on_message = Closure::new(move || {
            for fired in turned.take() {
                fired.fire();
            }
        });
        let port = channel.port1();
        let listening = channel.port2();
        listening.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        Some(Self {
            port,
            waiting,
            _on_message: on_message,
        })
    }

    fn ask(&self, fired: Rc<Fired>) -> bool {
        let is_first = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.push(fired);
            waiting.len() == 1
        };
        // One message serves all waiting tasks.
        !is_first || self.port.post_message(&JsValue::NULL).is_ok()
    }
}

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
