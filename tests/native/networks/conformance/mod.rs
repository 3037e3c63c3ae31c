//! The behaviour that every `NetTransport` must have, checked over each of them.
//!
//! `suite` and `handshakes` have one function for each behaviour. `fixtures` has the networks, and says which
//! capabilities each one lacks and why. A behaviour that needs a capability which a network lacks is
//! skipped there: the test prints the capability and the reason, and
//! `only_datagrams_are_excused_from_anything` lists every such case.

mod fixtures;
mod handshakes;
mod meeting;
pub(crate) mod pushed;
mod suite;
mod tls;

use fixtures::{Capability, Fixture};
use handshakes::*;
use suite::*;

/// Declares the behaviours with the capabilities that they need, and the tests of each network.
macro_rules! conforms {
    ($($name:ident: [$($need:ident),*],)*) => {
        /// Every behaviour, with the capabilities that it needs.
        const BEHAVIOURS: &[(&str, &[Capability])] =
            &[$((stringify!($name), &[$(Capability::$need),*])),*];

        conforms!(@network memory fixtures Memory, #[tokio::test] $($name)*);
        conforms!(@network tcp fixtures Tcp, #[tokio::test] $($name)*);
        conforms!(@network tcp_inside_tls tls Tls, #[tokio::test] $($name)*);
        conforms!(@network tcp_pushed pushed PushedStreams, #[tokio::test] $($name)*);
        conforms!(@network udp fixtures Udp, #[tokio::test] $($name)*);
        #[cfg(unix)]
        conforms!(@network custom fixtures Custom, #[tokio::test] $($name)*);
        // On a paused clock the first network always answers within its head start.
        conforms!(@network either_by_the_first fixtures EitherFirst, #[tokio::test(start_paused = true)] $($name)*);
        conforms!(@network either_by_the_second fixtures EitherSecond, #[tokio::test(start_paused = true)] $($name)*);
    };
    (@network $module:ident $place:ident $fixture:ident, #[$test:meta] $($name:ident)*) => {
        mod $module {
            use super::$place::$fixture;

            $(#[$test]
            async fn $name() {
                if let Some(reason) = super::excuse::<$fixture>(stringify!($name)) {
                    println!("skipped: {reason}");
                    return;
                }
                super::$name::<$fixture>().await;
            })*
        }
    };
}

conforms! {
    port_zero_is_replaced_by_a_free_port: [],
    an_address_in_use_cannot_be_bound: [],
    a_dropped_listener_frees_its_address_at_once: [],
    messages_arrive_whole_and_in_order_both_ways: [],
    a_batch_of_thousands_arrives_in_order: [FlowControl],
    both_sides_know_the_identity_and_address_of_the_other: [Authentication],
    the_first_common_protocol_is_negotiated: [Negotiation],
    a_dial_without_a_common_protocol_is_refused: [Negotiation],
    a_dial_with_another_secret_is_refused: [Authentication],
    an_untrusted_dialler_is_refused: [Authentication],
    a_refused_dialler_learns_the_reason: [Authentication],
    an_untrusted_acceptor_is_refused: [Authentication],
    both_sides_learn_the_address_that_the_other_states: [Authentication],
    a_goodbye_arrives_with_its_code: [Goodbye],
    every_waiting_call_ends_when_the_connection_is_closed: [],
    the_peer_sees_the_end_of_a_closed_connection: [Goodbye],
    a_peer_that_vanishes_without_a_goodbye_is_an_error: [Goodbye],
    recv_many_returns_messages_in_order_and_then_the_end: [FlowControl, Goodbye],
    a_cancelled_recv_loses_nothing: [],
    an_unanswered_request_does_not_delay_the_next_one: [Handshake],
    dialling_an_address_without_a_listener_fails: [Handshake],
    an_address_that_cannot_be_dialled_is_reported_as_such: [],
    accepting_an_abandoned_dial_fails: [Handshake],
    a_keepalive_ends_the_silence_without_a_message: [Keepalive],
    a_probe_is_answered_once_the_messages_before_it_are_received: [Keepalive],
    an_oversized_message_is_refused_and_the_connection_goes_on: [],
    a_peer_that_does_not_read_makes_the_sender_wait: [FlowControl],
}

/// Returns the reason why `F` need not have this behaviour, or `None` if it must.
fn excuse<F: Fixture>(behaviour: &str) -> Option<String> {
    let (_, needs) = BEHAVIOURS.iter().find(|(name, _)| *name == behaviour)?;
    let lacking = F::LACKS.iter().find(|(lacks, _)| needs.contains(lacks))?;
    Some(format!("needs {:?}, but {}", lacking.0, lacking.1))
}

#[test]
fn only_datagrams_are_excused_from_anything() {
    fn excused<F: Fixture>() -> Vec<&'static str> {
        let behaviours = BEHAVIOURS.iter().map(|(name, _)| *name);
        behaviours
            .filter(|name| excuse::<F>(name).is_some())
            .collect()
    }
    let none: [&str; 0] = [];
    assert_eq!(excused::<fixtures::Memory>(), none);
    assert_eq!(excused::<fixtures::Tcp>(), none);
    assert_eq!(excused::<tls::Tls>(), none);
    #[cfg(unix)]
    assert_eq!(excused::<fixtures::Custom>(), none);
    assert_eq!(excused::<fixtures::EitherFirst>(), none);
    assert_eq!(excused::<fixtures::EitherSecond>(), none);
    assert_eq!(
        excused::<fixtures::Udp>(),
        [
            "a_batch_of_thousands_arrives_in_order",
            "both_sides_know_the_identity_and_address_of_the_other",
            "the_first_common_protocol_is_negotiated",
            "a_dial_without_a_common_protocol_is_refused",
            "a_dial_with_another_secret_is_refused",
            "an_untrusted_dialler_is_refused",
            "a_refused_dialler_learns_the_reason",
            "an_untrusted_acceptor_is_refused",
            "both_sides_learn_the_address_that_the_other_states",
            "a_goodbye_arrives_with_its_code",
            "the_peer_sees_the_end_of_a_closed_connection",
            "a_peer_that_vanishes_without_a_goodbye_is_an_error",
            "recv_many_returns_messages_in_order_and_then_the_end",
            "an_unanswered_request_does_not_delay_the_next_one",
            "dialling_an_address_without_a_listener_fails",
            "accepting_an_abandoned_dial_fails",
            "a_keepalive_ends_the_silence_without_a_message",
            "a_probe_is_answered_once_the_messages_before_it_are_received",
            "a_peer_that_does_not_read_makes_the_sender_wait",
        ]
    );
}
