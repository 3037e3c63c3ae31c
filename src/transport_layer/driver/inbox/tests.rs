use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};

use futures::FutureExt as _;

use super::SharedInbox;
use crate::credential::{Identity, Role};
use crate::rt::Instant;
use crate::transport_layer::ClosedError;
use crate::transport_layer::core::{Origin, Source};
use crate::transport_layer::{IncomingConfig, OverflowPolicy};

fn source() -> Source {
    let from: SocketAddr = ([10, 0, 0, 1], 7000).into();
    let origin = Origin {
        identity: Identity::UNPROVED,
        role: Role::Core,
    };
    let at = Instant::now();
    Source { from, origin, at }
}

fn inbox(max_messages_per_peer: usize) -> SharedInbox<usize> {
    let config = IncomingConfig {
        max_messages_per_peer,
        overflow: OverflowPolicy::Backpressure,
        ..IncomingConfig::default()
    };
    SharedInbox::new(config, |_| 0)
}

fn recv(inbox: &SharedInbox<usize>) -> Option<usize> {
    Some(inbox.recv().now_or_never()?.ok()?.1)
}

#[test]
fn a_reader_that_is_dropped_hands_its_turn_on() {
    let inbox = inbox(4);
    inbox.push_many(source(), &mut (0..4).map(|n| (n, 1)).collect());
    let mut first = Box::pin(inbox.push(source(), (4, 1)));
    let mut second = Box::pin(inbox.push(source(), (5, 1)));
    assert!((&mut first).now_or_never().is_none());
    assert!((&mut second).now_or_never().is_none());
    assert_eq!(recv(&inbox), Some(0));
    // The first in line goes first, and a newcomer waits as well.
    assert!((&mut second).now_or_never().is_none());
    let mut newcomer = [(6, 1)].into();
    inbox.push_many(source(), &mut newcomer);
    assert_eq!(newcomer.len(), 1);
    drop(first);
    assert!((&mut second).now_or_never().is_some());
}

#[test]
fn messages_that_were_taken_together_are_returned_in_order_also_to_another_receiver() {
    let inbox = inbox(1000);
    let mut waiting = Box::pin(inbox.recv());
    assert!((&mut waiting).now_or_never().is_none());
    inbox.push_many(source(), &mut (0..300).map(|n| (n, 1)).collect());
    // It takes only one, since another receiver is in line.
    assert_eq!(recv(&inbox), Some(0));
    assert_eq!((&mut waiting).now_or_never().unwrap().unwrap().1, 1);
    drop(waiting);
    assert!((2..300).all(|n| recv(&inbox) == Some(n)));
    assert_eq!(recv(&inbox), None);
    inbox.push_many(source(), &mut (300..400).map(|n| (n, 1)).collect());
    inbox.close();
    assert!((300..400).all(|n| recv(&inbox) == Some(n)));
    assert!(inbox.recv().now_or_never().unwrap().is_err());
}

type Receiving<'a> = Pin<Box<dyn Future<Output = RecvResult> + Send + 'a>>;
type RecvResult = Result<(SocketAddr, usize), ClosedError>;

/// A receiver that counts how often it is woken.
struct Waiting<'a> {
    recv: Receiving<'a>,
    woken: Arc<AtomicUsize>,
}

impl<'a> Waiting<'a> {
    fn new(inbox: &'a SharedInbox<usize>) -> Self {
        let mut waiting = Self {
            recv: Box::pin(inbox.recv()),
            woken: Arc::default(),
        };
        assert_eq!(waiting.poll(), None);
        waiting
    }

    fn poll(&mut self) -> Option<Option<usize>> {
        struct Count(Arc<AtomicUsize>);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let waker = Arc::new(Count(Arc::clone(&self.woken))).into();
        match self.recv.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(received) => Some(received.ok().map(|(_, message)| message)),
            Poll::Pending => None,
        }
    }

    fn is_woken(&self) -> bool {
        self.woken.swap(0, Ordering::Relaxed) > 0
    }
}

#[test]
fn each_receiver_that_waits_is_woken_by_the_one_before_it() {
    let inbox = inbox(1000);
    let [mut first, mut second, third, mut last] = [(); 4].map(|()| Waiting::new(&inbox));
    inbox.push_many(source(), &mut (0..2).map(|n| (n, 1)).collect());
    assert!(first.is_woken() && !second.is_woken());
    assert_eq!(first.poll(), Some(Some(0)));
    assert!(second.is_woken() && !third.is_woken());
    assert_eq!(second.poll(), Some(Some(1)));
    assert!(!third.is_woken() && !last.is_woken());
    inbox.push_many(source(), &mut [(2, 1)].into());
    assert!(third.is_woken());
    // It is dropped before it looks.
    drop(third);
    assert!(last.is_woken());
    assert_eq!(last.poll(), Some(Some(2)));
    let [mut first, mut second] = [(); 2].map(|()| Waiting::new(&inbox));
    inbox.close();
    assert!(first.is_woken() && second.is_woken());
    assert_eq!((first.poll(), second.poll()), (Some(None), Some(None)));
}

#[test]
fn room_is_free_once_the_last_message_in_hand_is_returned() {
    for detailed in [false, true] {
        let inbox = inbox(64);
        inbox.push_many(source(), &mut (0..64).map(|n| (n, 1)).collect());
        // One is returned at once, and four are in hand.
        for n in 0..5 {
            let received = if detailed {
                let received = inbox.recv_detailed().now_or_never();
                received.map(|received| received.unwrap().message)
            } else {
                recv(&inbox)
            };
            assert_eq!(received, Some(n));
        }
        let mut more: VecDeque<_> = (64..70).map(|n| (n, 1)).collect();
        inbox.push_many(source(), &mut more);
        assert_eq!(more.len(), 1);
    }
}

#[test]
fn a_receiver_that_has_waited_takes_several_messages_at_once() {
    let inbox = inbox(1000);
    let mut waiting = Waiting::new(&inbox);
    inbox.push_many(source(), &mut (0..100).map(|n| (n, 1)).collect());
    assert_eq!(waiting.poll(), Some(Some(0)));
    assert!(!inbox.in_hand.lock().is_empty());
}
