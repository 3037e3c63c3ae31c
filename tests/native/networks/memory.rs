//! The faults and limits of the network in memory, in virtual time.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::memory::{
    DialFault, Faults, MemoryConfig, MemoryConnection, MemoryListener, MemoryNetwork,
};
use gossip_transport::net::{
    Alpn, CloseReason, ConnectError, NetConnection as _, NetIncomingRequest as _, NetListener as _,
    NetTransport as _,
};
use tokio::time::Instant;

use crate::support::anyone;

const ALPN: Alpn = Alpn::from_static(b"memory-test/1");
/// Long enough to show that something never happens. It is virtual time and takes none.
const AN_HOUR: Duration = Duration::from_secs(3600);

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

/// Panics if `future` completes.
async fn never<T: Future>(future: T) {
    let outcome = tokio::time::timeout(AN_HOUR, future).await;
    assert!(outcome.is_err(), "the future should not have completed");
}

async fn listen(network: &MemoryNetwork, host: u8) -> MemoryListener {
    let transport = network.host(ip(host));
    let addr = SocketAddr::new(ip(host), 0);
    let listener = transport.create_listener(addr, &[ALPN], &anyone()).await;
    listener.unwrap()
}

async fn dial(
    network: &MemoryNetwork,
    from: u8,
    to: SocketAddr,
) -> anyhow::Result<MemoryConnection> {
    let transport = network.host(ip(from));
    transport.connect(to, &[ALPN], &anyone()).await
}

/// Connects host 2 to host 1. Returns the end of the dialler first.
async fn meet(network: &MemoryNetwork) -> (MemoryConnection, MemoryConnection) {
    let listener = listen(network, 1).await;
    let accepting = async { listener.accept().await.unwrap().accept().await.unwrap() };
    let (dialled, accepted) = tokio::join!(dial(network, 2, listener.local_addr()), accepting);
    (dialled.unwrap(), accepted)
}

fn numbered(i: u32) -> Bytes {
    Bytes::copy_from_slice(&i.to_be_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_message_is_delayed_by_the_delay_of_its_direction() {
    let network = MemoryNetwork::new(1);
    let (a, b) = meet(&network).await;
    let delay = Duration::from_millis(250);
    network.set_faults(ip(2), ip(1), Faults::delayed(delay));

    let began = Instant::now();
    a.send(numbered(1)).await.unwrap();
    a.send(numbered(2)).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO, "sending must not wait");
    assert_eq!(b.recv().await.unwrap().unwrap(), numbered(1));
    assert_eq!(b.recv().await.unwrap().unwrap(), numbered(2));
    let took = began.elapsed();
    assert!(took >= delay && took < delay * 2, "{took:?}");

    let began = Instant::now();
    b.send(numbered(3)).await.unwrap();
    assert_eq!(a.recv().await.unwrap().unwrap(), numbered(3));
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "the other direction must have no delay"
    );
}

/// Sends 1,000 messages over a lossy link and returns those that arrive.
async fn survivors(seed: u64) -> Vec<Bytes> {
    let network = MemoryNetwork::new(seed);
    let (a, b) = meet(&network).await;
    network.set_faults(ip(2), ip(1), Faults::lossy(0.3));
    for i in 0..1000 {
        a.send(numbered(i)).await.unwrap();
    }
    network.heal();
    a.send(Bytes::from_static(b"end")).await.unwrap();
    let mut survivors = Vec::new();
    loop {
        match b.recv().await.unwrap().unwrap() {
            end if end == "end" => return survivors,
            message => survivors.push(message),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_lost_depend_on_the_seed_only() {
    let first = survivors(7).await;
    assert!((600..800).contains(&first.len()), "{} of 1000", first.len());
    assert!(first.is_sorted());
    assert_eq!(survivors(7).await, first);
    assert_ne!(survivors(8).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_direction_delivers_nothing_until_the_fault_is_lifted() {
    let network = MemoryNetwork::new(1);
    let (a, b) = meet(&network).await;
    network.set_faults(ip(2), ip(1), Faults::stalled());
    a.send(numbered(1)).await.unwrap();
    never(b.recv()).await;
    b.send(numbered(2)).await.unwrap();
    assert_eq!(
        a.recv().await.unwrap().unwrap(),
        numbered(2),
        "the other direction must deliver"
    );

    let lifting = async {
        tokio::time::sleep(AN_HOUR).await;
        network.heal();
    };
    let (received, ()) = tokio::join!(b.recv(), lifting);
    assert_eq!(received.unwrap().unwrap(), numbered(1));
}

#[tokio::test(start_paused = true)]
async fn a_sender_waits_while_too_many_messages_or_bytes_are_in_transit() {
    let config = MemoryConfig::default()
        .with_pipe_messages(10)
        .with_pipe_bytes(1000);
    let network = MemoryNetwork::with_config(1, config);
    let (a, b) = meet(&network).await;

    for i in 0..10 {
        a.send(numbered(i)).await.unwrap();
    }
    never(a.send(numbered(99))).await;
    for i in 0..10 {
        assert_eq!(b.recv().await.unwrap().unwrap(), numbered(i));
    }

    let large = Bytes::from(vec![0; 600]);
    a.send(large.clone()).await.unwrap();
    never(a.send(large.clone())).await;
    let (sent, received) = tokio::join!(a.send(large.clone()), b.recv());
    sent.unwrap();
    assert_eq!(received.unwrap().unwrap(), large);

    b.recv().await.unwrap();
    let huge = Bytes::from(vec![0; 5000]);
    a.send(huge)
        .await
        .expect("one message may be longer than the limit");
}

#[tokio::test(start_paused = true)]
async fn dials_are_ignored_left_unanswered_or_refused_as_configured() {
    let network = MemoryNetwork::new(1);
    let listener = listen(&network, 1).await;
    let to = listener.local_addr();
    let fault = |fault| network.set_faults(ip(2), ip(1), Faults::dialing(fault));

    fault(DialFault::Ignored);
    never(dial(&network, 2, to)).await;
    fault(DialFault::HandshakeUnanswered);
    never(dial(&network, 2, to)).await;
    fault(DialFault::Refused);
    let error = dial(&network, 2, to).await.expect_err("refused");
    assert!(
        matches!(error.downcast_ref(), Some(ConnectError::Io { .. })),
        "{error:#}"
    );

    // An ignored dial proceeds once the fault is lifted.
    fault(DialFault::Ignored);
    let healing = async {
        tokio::time::sleep(AN_HOUR).await;
        network.heal();
    };
    let accepting = async { listener.accept().await.unwrap().accept().await };
    let (dialled, accepted, ()) = tokio::join!(dial(&network, 2, to), accepting, healing);
    dialled.unwrap();
    accepted.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_partition_cuts_both_directions_and_no_other_host() {
    let network = MemoryNetwork::new(1);
    let (a, b) = meet(&network).await;
    let bystander = listen(&network, 3).await;
    network.partition(&[ip(1)], &[ip(2)]);

    a.send(numbered(1)).await.unwrap();
    b.send(numbered(2)).await.unwrap();
    never(async { tokio::select!(_ = a.recv() => (), _ = b.recv() => ()) }).await;
    never(dial(&network, 2, SocketAddr::new(ip(1), 7000))).await;
    let accepting = async { bystander.accept().await.unwrap().accept().await };
    let (dialled, _) = tokio::join!(dial(&network, 2, bystander.local_addr()), accepting);
    dialled.unwrap();

    network.heal();
    assert_eq!(b.recv().await.unwrap().unwrap(), numbered(1));
    assert_eq!(a.recv().await.unwrap().unwrap(), numbered(2));
}

#[tokio::test(start_paused = true)]
async fn breaking_a_connection_does_not_affect_the_next_one() {
    let network = MemoryNetwork::new(1);
    let (a, b) = meet(&network).await;
    let breaking = async { network.break_connections(ip(1), ip(2)) };
    let (a_got, b_got, ()) = tokio::join!(a.recv(), b.recv(), breaking);
    assert!(a_got.is_err() && b_got.is_err());
    assert!(a.send(numbered(1)).await.is_err());
    for end in [a, b] {
        let reason = end.watch_close().await;
        assert!(matches!(reason, CloseReason::Lost(_)), "{reason}");
    }
    meet(&network).await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_dials_take_no_place_in_the_backlog() {
    let network = MemoryNetwork::new(1);
    let listener = listen(&network, 1).await;
    for _ in 0..3000 {
        let dialling = dial(&network, 2, listener.local_addr());
        assert!(
            tokio::time::timeout(Duration::ZERO, dialling)
                .await
                .is_err()
        );
    }
    let mut dialling = std::pin::pin!(dial(&network, 2, listener.local_addr()));
    let accepted = async {
        loop {
            let request = listener.accept().await.unwrap();
            if let Ok(connection) = request.accept().await {
                break connection;
            }
        }
    };
    let (dialled, _) = tokio::join!(&mut dialling, accepted);
    dialled.unwrap();
}
