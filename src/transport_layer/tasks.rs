//! The background tasks of one socket.
//!
//! It only owns them: what they do is told where they are started. Invariant: once
//! [`TaskSet::close`] has returned, no task of the set exists and none can be started.

use std::future::Future;
use std::sync::Arc;

use crate::rt::sync::Mutex;
use crate::rt::{MaybeSend, Task};

/// Tasks that end by themselves, or all together.
///
/// A task never drops another task's handle: two that did it to each other would wait for each
/// other. It may drop its own, which is what happens when it ends.
#[derive(Debug, Default)]
pub(super) struct TaskSet {
    tasks: Arc<Mutex<Tasks>>,
}

#[derive(Debug, Default)]
struct Tasks {
    next: u64,
    closed: bool,
    /// In the order of their ids, which is that of their start.
    running: Vec<(u64, Task)>,
}

impl Tasks {
    fn remove(&mut self, id: u64) -> Option<Task> {
        let index = self.running.binary_search_by_key(&id, |(known, _)| *known);
        index.ok().map(|index| self.running.remove(index).1)
    }
}

/// Takes a task off the list when its future is dropped, finished or not.
struct Entry {
    id: u64,
    tasks: Arc<Mutex<Tasks>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let task = self.tasks.lock().remove(self.id);
        // Outside the lock: dropping a handle can run code.
        drop(task);
    }
}

impl TaskSet {
    /// Starts `future`; a closed set drops it.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + MaybeSend + 'static) {
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
        // Under the lock, so that a task which ends at once finds itself listed.
        let task = Task::spawn(async move {
            let _entry = entry;
            future.await;
        });
        tasks.running.push((id, task));
    }

    /// Takes out the task that was started first if there are `max` or more. The caller must not
    /// be one of them.
    pub(super) fn pop_oldest(&self, max: usize) -> Option<Task> {
        let mut tasks = self.tasks.lock();
        if tasks.running.len() < max {
            return None;
        }
        (!tasks.running.is_empty()).then(|| tasks.running.remove(0).1)
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
