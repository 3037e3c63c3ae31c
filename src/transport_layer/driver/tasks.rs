//! Sets of background tasks.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;

use crate::rt::sync::Mutex;
use crate::rt::{Executor, MaybeSend, Task};

/// Background tasks that end by themselves, or all together when the set is closed. Each has a tag.
///
/// Once [`close`](Self::close) has returned, no task of the set exists and none can be started.
///
/// A task must never drop the handle of another task: two tasks that did so to each other would
/// both wait for ever. It may drop its own handle, which happens when it ends.
#[derive(Debug)]
pub(super) struct TaskSet<G> {
    /// Callers of the socket start tasks too, and may be on a thread outside of the runtime.
    executor: Executor,
    tasks: Arc<Mutex<Tasks<G>>>,
}

#[derive(Debug)]
struct Tasks<G> {
    next: u64,
    closed: bool,
    /// In the order of their ids, which is that of their start.
    running: Vec<Running<G>>,
}

#[derive(Debug)]
struct Running<G> {
    id: u64,
    tag: G,
    task: Task,
}

impl<G> TaskSet<G> {
    /// Creates a set whose tasks run on the executor of the caller.
    ///
    /// # Panics
    ///
    /// Panics natively outside of a tokio runtime.
    pub(super) fn new() -> Self {
        Self {
            executor: Executor::current(),
            tasks: Arc::new(Mutex::new(Tasks {
                next: 0,
                closed: false,
                running: Vec::new(),
            })),
        }
    }
}

/// Removes a task from the list when its future is dropped, finished or not.
struct Entry<G> {
    id: u64,
    tasks: Arc<Mutex<Tasks<G>>>,
}

impl<G> Drop for Entry<G> {
    fn drop(&mut self) {
        let task = {
            let running = &mut self.tasks.lock().running;
            let index = running.binary_search_by_key(&self.id, |running| running.id);
            index.ok().map(|index| running.remove(index).task)
        };
        // Outside the lock, because dropping a handle can run code.
        drop(task);
    }
}

impl<G: Copy + MaybeSend + 'static> TaskSet<G> {
    /// Starts `future`, from any thread. A closed set drops it.
    pub(super) fn spawn(&self, tag: G, future: impl Future<Output = ()> + MaybeSend + 'static) {
        let mut tasks = self.tasks.lock();
        if tasks.closed {
            drop(tasks);
            return;
        }
        tasks.next += 1;
        let id = tasks.next;
        let entry = Entry {
            id,
            tasks: Arc::clone(&self.tasks),
        };
        let (task, unstarted) = Task::new(future.map(move |()| drop(entry)));
        // Before it starts, so that a task which ends at once finds itself in the list.
        tasks.running.push(Running { id, tag, task });
        drop(tasks);
        unstarted.start_on(&self.executor);
    }

    /// If `max` or more tasks run, removes and returns the one that `choose` picks from the tags,
    /// oldest first. The caller ends that task by dropping it, and must not be that task itself.
    pub(super) fn take_excess(
        &self,
        max: usize,
        choose: impl FnOnce(&[G]) -> Option<usize>,
    ) -> Option<Task> {
        let mut tasks = self.tasks.lock();
        if tasks.running.len() < max {
            return None;
        }
        let tags: Vec<_> = tasks.running.iter().map(|running| running.tag).collect();
        let index = choose(&tags).filter(|index| *index < tags.len())?;
        Some(tasks.running.remove(index).task)
    }

    /// Ends every task before it returns.
    pub(super) fn close(&self) {
        let running = {
            let mut tasks = self.tasks.lock();
            tasks.closed = true;
            std::mem::take(&mut tasks.running)
        };
        drop(running);
    }
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use std::future::pending;

    use futures::channel::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_task_that_is_chosen_ends_only_if_there_are_too_many_and_the_rest_stay_in_order() {
        let set = TaskSet::new();
        let spawn = |tag: u8| set.spawn(tag, pending());
        let take = |max, expected: &[u8], index| {
            let taken = set.take_excess(max, |tags| {
                assert_eq!(tags, expected);
                index
            });
            taken.is_some()
        };
        (0..4).for_each(spawn);
        assert!(set.take_excess(5, |_| unreachable!()).is_none());
        assert!(take(4, &[0, 1, 2, 3], Some(0)));
        assert!(take(2, &[1, 2, 3], Some(1)));
        (4..6).for_each(spawn);
        for none in [None, Some(4)] {
            assert!(!take(4, &[1, 3, 4, 5], none));
        }
        assert!(take(1, &[1, 3, 4, 5], Some(3)));
        assert!(!take(4, &[], None));
    }

    #[test]
    fn a_task_of_a_runtime_that_was_shut_down_is_dropped_and_blocks_nothing() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let set = runtime.block_on(async { TaskSet::new() });
        drop(runtime);
        let (dropped, drops) = std::sync::mpsc::channel::<()>();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            set.spawn((), async move {
                pending::<()>().await;
                drop(dropped);
            });
            done.send(set.tasks.lock().running.len()).unwrap();
        });
        let left = is_done.recv_timeout(std::time::Duration::from_secs(10));
        assert_eq!(left, Ok(0));
        assert!(
            drops
                .try_recv()
                .is_err_and(|error| error == std::sync::mpsc::TryRecvError::Disconnected)
        );
    }

    #[tokio::test]
    async fn a_task_that_ends_leaves_the_set_also_after_another_one_was_taken_out() {
        let set = TaskSet::new();
        let mut ends = Vec::new();
        for tag in 0..4_u8 {
            let (end, ended) = oneshot::channel::<()>();
            set.spawn(tag, ended.map(drop));
            ends.push(end);
        }
        drop(set.take_excess(4, |_| Some(0)));
        for (end, left) in ends.into_iter().skip(1).zip([2, 1, 0]) {
            drop(end);
            while set.tasks.lock().running.len() > left {
                tokio::task::yield_now().await;
            }
        }
    }
}
