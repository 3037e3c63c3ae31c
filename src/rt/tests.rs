use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::channel::oneshot;

use super::{Task, sleep, timeout};

/// Decrements a counter when it is dropped. It stands for what a task owns, such as a port.
struct Owned(Arc<AtomicUsize>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_handle_of_a_task_drops_what_the_task_owns() {
    for _ in 0..1000 {
        let alive = Arc::new(AtomicUsize::new(1));
        let owned = Owned(Arc::clone(&alive));
        let (started, has_started) = oneshot::channel();
        let task = Task::spawn(async move {
            let _owned = owned;
            let _ = started.send(());
            // Busy, so that the drop happens during a poll.
            loop {
                tokio::task::yield_now().await;
            }
        });
        has_started.await.unwrap();
        drop(task);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_task_that_drops_its_own_handle_ends_without_a_deadlock() {
    let alive = Arc::new(AtomicUsize::new(1));
    let owned = Owned(Arc::clone(&alive));
    let (give, take) = oneshot::channel::<Task>();
    let (ended, has_ended) = oneshot::channel::<()>();
    let task = Task::spawn(async move {
        let _owned = owned;
        let _ended = ended;
        drop(take.await);
        std::future::pending::<()>().await;
    });
    give.send(task).unwrap();
    let _ = timeout(Duration::from_secs(10), has_ended).await.unwrap();
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_drops_the_future_that_was_too_slow() {
    let alive = Arc::new(AtomicUsize::new(1));
    let owned = Owned(Arc::clone(&alive));
    let limit = Duration::from_millis(5);
    let waited = timeout(limit, async move {
        let _owned = owned;
        std::future::pending::<()>().await;
    });
    assert_eq!(waited.await.unwrap_err().0, limit);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert!(timeout(limit, sleep(limit / 2)).await.is_ok());
}

#[tokio::test]
async fn a_dropped_task_leaves_nothing_with_the_executor() {
    let alive = Arc::new(AtomicUsize::new(1));
    let owned = Owned(Arc::clone(&alive));
    let task = Task::spawn(async move {
        let _owned = owned;
        std::future::pending::<()>().await;
    });
    tokio::task::yield_now().await;
    let slot = Arc::downgrade(&task.slot);
    assert!(!task.is_finished());
    drop(task);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    tokio::task::yield_now().await;
    assert!(slot.upgrade().is_none());
}

#[tokio::test]
async fn a_task_is_finished_once_it_has_ended_or_panicked() {
    let ended = Task::spawn(async {});
    let panicked = Task::spawn(async { panic!("on purpose") });
    assert!(!ended.is_finished() && !panicked.is_finished());
    tokio::task::yield_now().await;
    assert!(ended.is_finished() && panicked.is_finished());
}
