//! Silence: when it ends a connection, and when it does not.

use std::time::Duration;

use gossip_transport::memory::Faults;
use gossip_transport::transport_layer::TransportLayerConfig;
use tokio::time::{Instant, advance, sleep};

use crate::support::layer::{Socket, World, addr, configured, ip, numbered, secs, until};
use crate::support::soon;

/// Returns a configuration whose connections end by silence only.
fn patient() -> TransportLayerConfig {
    configured(|c| c.idle_timeout = secs(100_000))
}

async fn connected(world: &World) -> (Socket, Socket) {
    let (a, b) = (
        world.open(1, patient()).await,
        world.open(2, patient()).await,
    );
    a.send(addr(2), numbered(0, 8)).await.unwrap();
    soon(b.recv()).await.unwrap();
    (a, b)
}

#[tokio::test(start_paused = true)]
async fn a_tab_that_wakes_keeps_the_connection_of_a_peer_that_is_alive() {
    let world = World::new();
    let (a, b) = connected(&world).await;
    for freeze in [secs(91), secs(200), secs(3600)] {
        // All timers fire late, and what the peer sent is read only after they have fired.
        advance(freeze).await;
        sleep(secs(10)).await;
        for socket in [&a, &b] {
            let connections = socket.stats().connections;
            assert_eq!(connections.len(), 1, "after a freeze of {freeze:?}");
            assert!(connections[0].silence < secs(15), "{connections:?}");
        }
    }
    assert_eq!(a.stats().dials + b.stats().dials, 1);
}

#[tokio::test(start_paused = true)]
async fn a_tab_that_wakes_soon_closes_the_connection_of_a_peer_that_is_gone() {
    let world = World::new();
    let (a, _b) = connected(&world).await;
    world
        .network
        .set_faults_between(ip(1), ip(2), Faults::stalled());
    advance(secs(3600)).await;
    let woken = Instant::now();
    until(&a, |s| s.connections.is_empty()).await;
    assert!(woken.elapsed() < secs(5), "{:?}", woken.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_connection_of_a_silent_peer_is_closed_after_the_silence_timeout() {
    let world = World::new();
    for timeout in [secs(30), secs(60)] {
        let a = world.open(1, patient().with_silence_timeout(timeout)).await;
        let b = world.open(2, patient()).await;
        a.send(addr(2), numbered(0, 8)).await.unwrap();
        soon(b.recv()).await.unwrap();
        let silent = Instant::now();
        world
            .network
            .set_faults_between(ip(1), ip(2), Faults::stalled());
        until(&a, |s| s.connections.is_empty()).await;
        let after = silent.elapsed();
        assert!(after <= timeout + secs(1), "{after:?} of {timeout:?}");
        assert!(after > timeout - Duration::from_secs(16), "{after:?}");
        world
            .network
            .set_faults_between(ip(1), ip(2), Faults::default());
    }
}
