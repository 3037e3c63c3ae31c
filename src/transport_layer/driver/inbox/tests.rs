use std::net::SocketAddr;

use futures::FutureExt as _;

use super::SharedInbox;
use crate::credential::{Identity, Role};
use crate::rt::Instant;
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
    SharedInbox::new(IncomingConfig {
        max_messages_per_peer,
        overflow: OverflowPolicy::Backpressure,
        ..IncomingConfig::default()
    })
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
