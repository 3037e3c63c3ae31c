//! What every `NetTransport` has to do, run over each of them.

mod suite;

use std::net::SocketAddr;

use gossip_transport::memory::{MemoryNetwork, MemoryTransport};
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::TcpTransport;

use crate::support::ANY_PORT;

/// Gives each test two hosts of a network of its own.
trait Fixture {
    type Transport: NetTransport;
    fn hosts() -> (Self::Transport, Self::Transport);
    /// Where the first host listens.
    fn bind_addr() -> SocketAddr;
    /// An address where nobody listens, in the same network.
    fn dead_addr() -> SocketAddr;
}

struct Memory;

impl Fixture for Memory {
    type Transport = MemoryTransport;

    fn hosts() -> (MemoryTransport, MemoryTransport) {
        let network = MemoryNetwork::new(1);
        let host = |last| network.host([10, 0, 0, last].into());
        (host(1), host(2))
    }

    fn bind_addr() -> SocketAddr {
        ([10, 0, 0, 1], 0).into()
    }

    fn dead_addr() -> SocketAddr {
        ([10, 0, 0, 1], 9).into()
    }
}

struct Tcp;

impl Fixture for Tcp {
    type Transport = TcpTransport;

    fn hosts() -> (TcpTransport, TcpTransport) {
        (TcpTransport::default(), TcpTransport::default())
    }

    fn bind_addr() -> SocketAddr {
        ANY_PORT
    }

    fn dead_addr() -> SocketAddr {
        // Bound and dropped: free a moment ago, and not handed out again at once.
        let socket = std::net::TcpListener::bind(ANY_PORT).unwrap();
        socket.local_addr().unwrap()
    }
}

macro_rules! conforms {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::suite::$name::<super::Memory>().await; })*
        }
        mod tcp {
            $(#[tokio::test] async fn $name() { super::suite::$name::<super::Tcp>().await; })*
        }
    };
}

conforms!(
    port_zero_gives_a_real_port,
    a_taken_address_is_an_error,
    a_dropped_listener_frees_its_address_at_once,
    messages_arrive_whole_and_in_order_both_ways,
    a_batch_of_thousands_arrives_in_order,
    both_sides_know_who_the_other_is,
    the_first_common_protocol_is_agreed_on,
    no_common_protocol_is_refused,
    another_secret_is_refused,
    an_untrusted_dialler_is_refused,
    an_untrusted_acceptor_is_refused,
    a_goodbye_arrives_with_its_code,
    everyone_who_waits_learns_of_the_end,
    a_vanished_peer_is_an_error_and_not_an_end,
    several_at_a_time_arrive_in_order_and_then_the_end,
    a_cancelled_recv_loses_nothing,
    a_request_that_is_not_answered_does_not_hold_up_the_next,
    a_dial_where_nobody_listens_fails,
    an_address_that_cannot_be_dialled_is_said_to_be_so,
    an_abandoned_dial_leaves_nothing_behind,
    a_keepalive_ends_the_silence_without_a_message,
    an_oversized_message_is_refused_and_the_connection_goes_on,
    a_peer_that_does_not_read_makes_the_sender_wait,
);
