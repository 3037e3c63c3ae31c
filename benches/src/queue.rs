//! The bounded queue between two tasks of a stream peer: items are pushed one by one or in
//! batches, and all of them are taken at once.
//!
//! Taking everything under one lock is what makes it cheap: the task that takes pays for a lock
//! and a wake-up once for each batch. Tokio's channel hands over single items, counts each in a
//! semaphore, and costs more than the rest of the floor does at 64 B.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A bounded queue with any number of pushing tasks and one taking task.
#[derive(Debug)]
pub struct Queue<T> {
    state: Mutex<State<T>>,
    limit: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    weight: usize,
    taker: Option<Waker>,
    pushers: Vec<Waker>,
    closed: bool,
}

/// The error of a queue whose other side is gone.
#[derive(Debug, Clone, Copy)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the queue is closed")
    }
}

impl std::error::Error for Closed {}

impl<T> Queue<T> {
    /// Returns an empty queue that accepts items until their weights add up to `limit`.
    pub fn new(limit: usize) -> Self {
        let state = State {
            items: VecDeque::new(),
            weight: 0,
            taker: None,
            pushers: Vec::new(),
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            limit,
        }
    }

    /// Adds `item`, of `weight` bytes. Waits while the queue is full, and fails once it is closed.
    pub async fn push(&self, item: T, weight: usize) -> Result<(), Closed> {
        let mut item = Some(item);
        poll_fn(|cx| {
            self.poll_push(cx, weight, |items| {
                if let Some(item) = item.take() {
                    items.push_back(item);
                }
            })
        })
        .await
    }

    /// Adds all of `batch`, of `weight` bytes together, under one lock. Waits while the queue is
    /// full, and fails once it is closed.
    pub async fn push_all(&self, batch: &mut VecDeque<T>, weight: usize) -> Result<(), Closed> {
        poll_fn(|cx| {
            self.poll_push(cx, weight, |items| {
                if items.is_empty() {
                    mem::swap(items, batch);
                } else {
                    items.append(batch);
                }
            })
        })
        .await
    }

    /// Moves all items into `items`, which must be empty. Waits while the queue is empty, and fails
    /// once it is empty and closed.
    pub async fn take(&self, items: &mut VecDeque<T>) -> Result<(), Closed> {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.items.is_empty() {
                if state.closed {
                    return Poll::Ready(Err(Closed));
                }
                if !state
                    .taker
                    .as_ref()
                    .is_some_and(|w| w.will_wake(cx.waker()))
                {
                    state.taker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            mem::swap(&mut state.items, items);
            state.weight = 0;
            let pushers = mem::take(&mut state.pushers);
            drop(state);
            pushers.into_iter().for_each(Waker::wake);
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Closes the queue. Pushing fails from now on, and taking fails once the queue is empty.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let wakers = mem::take(&mut state.pushers);
        let taker = state.taker.take();
        drop(state);
        wakers.into_iter().chain(taker).for_each(Waker::wake);
    }

    fn poll_push(
        &self,
        cx: &Context<'_>,
        weight: usize,
        add: impl FnOnce(&mut VecDeque<T>),
    ) -> Poll<Result<(), Closed>> {
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(Err(Closed));
        }
        // An item heavier than the limit passes once the queue is empty.
        if state.weight >= self.limit {
            state.pushers.push(cx.waker().clone());
            return Poll::Pending;
        }
        state.weight += weight;
        add(&mut state.items);
        let taker = state.taker.take();
        drop(state);
        if let Some(taker) = taker {
            taker.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_makes_pushing_wait_until_it_is_taken() {
        let queue = Arc::new(Queue::new(2));
        queue.push(1, 1).await.expect("open");
        queue.push(2, 1).await.expect("open");
        let pushing = Arc::clone(&queue);
        let third = tokio::spawn(async move { pushing.push(3, 1).await });
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        let mut items = VecDeque::new();
        queue.take(&mut items).await.expect("open");
        assert_eq!(items, [1, 2]);
        third.await.expect("no panic").expect("open");
        items.clear();
        queue.take(&mut items).await.expect("open");
        assert_eq!(items, [3]);
    }

    #[tokio::test]
    async fn items_that_were_pushed_before_the_end_can_still_be_taken() {
        let queue = Queue::new(10);
        queue
            .push_all(&mut VecDeque::from([1, 2]), 2)
            .await
            .expect("open");
        queue.close();
        assert!(queue.push(3, 1).await.is_err());
        let mut items = VecDeque::new();
        queue.take(&mut items).await.expect("not empty");
        assert_eq!(items, [1, 2]);
        items.clear();
        assert!(queue.take(&mut items).await.is_err());
    }
}
