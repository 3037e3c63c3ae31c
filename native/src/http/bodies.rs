//! The bodies of long responses, and what they take in memory together.
//!
//! A body is made when there is room for it, is shared by all requests of the same moment, and counts until
//! its last byte was written. Invariant: the bodies in memory have at most [`MAX_BYTES`] together, unless
//! there is only one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::Bytes;
use gossip_transport::http_service::HttpClient;
use gossip_transport::rt::{self, Instant};

/// The bytes of all bodies in memory together.
const MAX_BYTES: usize = 32 << 20;
/// The age up to which a body that is still in memory serves another request.
const SHARED_FOR: Duration = Duration::from_secs(1);
/// The time for which a request waits for room.
const WAIT_LIMIT: Duration = Duration::from_secs(3);
/// The time between two looks whether there is room.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// A kind of long response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Status,
    Metrics,
}

/// The bodies of a server. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Bodies {
    /// One body is made at a time, since that takes memory, too.
    kinds: Arc<Mutex<[Latest; 2]>>,
    bytes: Arc<AtomicUsize>,
}

/// The latest body of a kind.
#[derive(Debug, Default)]
struct Latest {
    /// The last length, which the next one will have approximately.
    len: usize,
    shared: Option<(Instant, Weak<Body>)>,
}

/// A body in memory.
#[derive(Debug)]
struct Body {
    text: Vec<u8>,
    bytes: Arc<AtomicUsize>,
}

/// A body that one client is sent.
struct Sent<H> {
    body: Arc<Body>,
    _holding: H,
}

/// The reason why a request has no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The bodies in memory take too much.
    Crowded,
    /// The node has left.
    Leaving,
}

impl Bodies {
    /// Returns the body of a response to `client`, which `make` makes if there is none that can be shared.
    /// Waits for room, if there is none.
    pub(super) async fn get(
        &self,
        kind: Kind,
        client: &HttpClient,
        make: impl Fn() -> Option<Vec<u8>>,
    ) -> Result<Bytes, Refusal> {
        let hold = |len| client.hold(len);
        let start = Instant::now();
        loop {
            match self.try_get(kind, hold, Instant::now(), &make) {
                Err(Refusal::Crowded) if start.elapsed() < WAIT_LIMIT => {}
                outcome => return outcome,
            }
            client.end_stalled();
            rt::sleep(LOOK_INTERVAL).await;
        }
    }

    fn try_get<H>(
        &self,
        kind: Kind,
        hold: impl FnOnce(usize) -> H,
        now: Instant,
        make: impl Fn() -> Option<Vec<u8>>,
    ) -> Result<Bytes, Refusal>
    where
        H: Send + 'static,
    {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let [status, metrics] = &mut *kinds;
        let latest = match kind {
            Kind::Status => status,
            Kind::Metrics => metrics,
        };
        if let Some(body) = latest.shared(now) {
            return Ok(send(body, hold));
        }
        if !self.have_room(latest.len) {
            return Err(Refusal::Crowded);
        }
        let text = make().ok_or(Refusal::Leaving)?;
        latest.len = text.len();
        if !self.have_room(text.len()) {
            return Err(Refusal::Crowded);
        }
        let body = Body::new(text, &self.bytes);
        latest.shared = Some((now, Arc::downgrade(&body)));
        Ok(send(body, hold))
    }

    fn have_room(&self, len: usize) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed);
        bytes == 0 || bytes.saturating_add(len) <= MAX_BYTES
    }
}

impl Latest {
    fn shared(&self, now: Instant) -> Option<Arc<Body>> {
        let (since, body) = self.shared.as_ref()?;
        let age = now.saturating_duration_since(*since);
        body.upgrade().filter(|_| age < SHARED_FOR)
    }
}

impl Body {
    fn new(text: Vec<u8>, bytes: &Arc<AtomicUsize>) -> Arc<Self> {
        bytes.fetch_add(text.len(), Ordering::Relaxed);
        Arc::new(Self {
            text,
            bytes: Arc::clone(bytes),
        })
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.text.len(), Ordering::Relaxed);
    }
}

impl<H> AsRef<[u8]> for Sent<H> {
    fn as_ref(&self) -> &[u8] {
        &self.body.text
    }
}

/// Returns the bytes of `body`, which are in memory until the last of them was written.
fn send<H: Send + 'static>(body: Arc<Body>, hold: impl FnOnce(usize) -> H) -> Bytes {
    let holding = hold(body.text.len());
    Bytes::from_owner(Sent {
        body,
        _holding: holding,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_the_same_moment_share_a_body_and_later_ones_do_not() {
        let bodies = Bodies::default();
        let start = Instant::now();
        let held = std::cell::Cell::new(0);
        let get = |kind, len, now| {
            let hold = |len| held.set(held.get() + len);
            let body = bodies.try_get(kind, hold, now, || Some(vec![0; len]));
            body.unwrap()
        };
        let first = get(Kind::Status, 7, start);
        let just_before = start + SHARED_FOR - Duration::from_millis(1);
        assert_eq!(get(Kind::Status, 8, just_before).len(), 7);
        let metrics = get(Kind::Metrics, 9, start);
        assert_eq!((metrics.len(), held.get()), (9, 7 + 7 + 9));
        let later = start + SHARED_FOR;
        assert_eq!(get(Kind::Status, 8, later).len(), 8);
        // A body of which nothing is left is not shared, however young.
        assert_eq!(get(Kind::Status, 10, later).len(), 10);
        drop((first, metrics));
        assert_eq!(bodies.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bodies_have_a_limit_together_and_a_large_one_is_made_if_it_is_alone() {
        let bodies = Bodies::default();
        let start = Instant::now();
        let get = |len, seconds| {
            let now = start + Duration::from_secs(seconds);
            bodies.try_get(Kind::Status, |_| (), now, || Some(vec![0; len]))
        };
        let large = get(MAX_BYTES * 2, 0).unwrap();
        assert_eq!(get(1, 1), Err(Refusal::Crowded));
        drop(large);
        let half = get(MAX_BYTES / 2, 2).unwrap();
        // Longer than it was last time.
        assert_eq!(get(MAX_BYTES / 2 + 1, 3), Err(Refusal::Crowded));
        drop(half);
        let gone = bodies.try_get(Kind::Status, |_| (), start, || None);
        assert_eq!(gone, Err(Refusal::Leaving));
    }
}
