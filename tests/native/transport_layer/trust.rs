//! Secrets and keys that change while sockets are connected, over TCP: which connections end, when, and that no
//! message is lost with those that are replaced.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::credential::{Grounds, Keyring, Refusal};
use gossip_transport::memory::{Faults, MemoryNetwork};
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{
    OverflowPolicy, TransportLayerConfig, TransportLayerSocket, TransportLayerTransport,
};
use gossip_transport::{ClusterSecret, NetCredential, Trust};
use tokio::time::Instant;

use crate::support::layer::{
    check_sums, config, configured, ip, ms, number, numbered, secs, until,
};
use crate::support::log::Log;
use crate::support::tab::{Tab, tab_at};
use crate::support::{ANY_PORT, soon};

type Socket = TransportLayerSocket<TcpTransport, Bytes>;

/// The time within which a change has taken effect.
const EFFECT: Duration = Duration::from_secs(2);

fn secret(n: u8) -> ClusterSecret {
    ClusterSecret::from_bytes(&[n; 32]).unwrap()
}

fn ring(secrets: &[u8]) -> Keyring {
    Keyring::new(secrets.iter().map(|n| secret(*n))).unwrap()
}

fn by(n: u8) -> Grounds {
    Grounds::Secret(secret(n).id())
}

async fn open(trust: &Trust, config: TransportLayerConfig) -> Socket {
    let credential = NetCredential::generate(trust.clone());
    let network = TcpTransport::default();
    let transport = TransportLayerTransport::with_config(network, credential, config);
    transport.open(ANY_PORT).await.unwrap()
}

/// A member and what it trusts.
struct Member {
    trust: Trust,
    socket: Socket,
}

impl Member {
    async fn new(secrets: &[u8]) -> Self {
        let trust = Trust::secrets(ring(secrets));
        let socket = open(&trust, config()).await;
        Self { trust, socket }
    }

    /// Sends a message to `to`, which receives it.
    async fn reach(&self, to: &Self) {
        let message = numbered(7, 8);
        self.socket
            .send(to.socket.local_addr(), message)
            .await
            .unwrap();
        let (from, _) = soon(to.socket.recv()).await.unwrap();
        assert_eq!(from, self.socket.local_addr());
    }

    fn grounds(&self) -> Vec<Grounds> {
        let connections = self.socket.stats().connections;
        connections.iter().map(|c| c.grounds).collect()
    }
}

async fn connected(dialler: &[u8], acceptor: &[u8]) -> (Member, Member) {
    let (dialler, acceptor) = (Member::new(dialler).await, Member::new(acceptor).await);
    dialler.reach(&acceptor).await;
    (dialler, acceptor)
}

#[tokio::test]
async fn a_connection_of_a_removed_secret_ends_in_two_seconds_and_no_other_comes() {
    for acceptor_removes in [true, false] {
        let (a, b) = connected(&[1], &[1]).await;
        let remover = if acceptor_removes { &b } else { &a };
        let start = Instant::now();
        remover.trust.set_keyring(secret(2));
        for member in [&a, &b] {
            until(&member.socket, |s| s.connections.is_empty()).await;
        }
        assert!(start.elapsed() < EFFECT, "{:?}", start.elapsed());
        a.socket
            .send(b.socket.local_addr(), numbered(0, 8))
            .await
            .unwrap();
        until(&a.socket, |s| s.dials_failed > 0).await;
        assert!(a.grounds().is_empty() && b.grounds().is_empty());
        assert_eq!(
            a.socket.stats().total.queued,
            1,
            "it waits for a dial that succeeds"
        );
    }
}

#[tokio::test]
async fn a_connection_moves_to_the_new_secret_while_both_sides_know_the_old_one() {
    let (a, b) = connected(&[1], &[1]).await;
    for member in [&a, &b] {
        member.trust.set_keyring(ring(&[1, 2]));
    }
    a.reach(&b).await;
    assert_eq!(a.grounds(), [by(1)]);
    // The side that has accepted it waits for the other one.
    b.trust.set_keyring(ring(&[2, 1]));
    a.reach(&b).await;
    assert_eq!(b.grounds(), [by(1)]);
    a.trust.set_keyring(ring(&[2, 1]));
    for member in [&a, &b] {
        until(&member.socket, |s| {
            s.connections.len() == 1 && s.connections[0].grounds == by(2)
        })
        .await;
    }
    for member in [&a, &b] {
        member.trust.set_keyring(ring(&[2]));
    }
    a.reach(&b).await;
    b.reach(&a).await;
    assert_eq!(
        a.socket.stats().dials,
        2,
        "removing the old secret ends nothing"
    );
    assert_eq!(a.socket.stats().naming, Default::default());
}

#[tokio::test]
async fn a_side_that_cannot_wait_for_the_dialler_dials_by_itself() {
    // The dialler knows the new secret, and still dials with the old one.
    let (a, b) = connected(&[1, 2], &[1, 2]).await;
    let start = Instant::now();
    b.trust.set_keyring(secret(2));
    until(&b.socket, |s| s.connections.is_empty()).await;
    assert!(start.elapsed() < EFFECT, "{:?}", start.elapsed());
    b.reach(&a).await;
    assert_eq!(b.grounds(), [by(2)]);
    a.reach(&b).await;
}

#[tokio::test]
async fn a_tab_that_nobody_can_dial_moves_to_the_new_secret() {
    let node = Member::new(&[1]).await;
    let trust = Trust::secrets(ring(&[1]));
    let tab: TransportLayerSocket<Tab<TcpTransport>, Bytes> = tab_at(
        TcpTransport::default(),
        &NetCredential::generate(trust.clone()),
    )
    .await;
    tab.send(node.socket.local_addr(), numbered(1, 8))
        .await
        .unwrap();
    let (from, _) = soon(node.socket.recv()).await.unwrap();
    for step in [&[1, 2][..], &[2, 1], &[2]] {
        for trust in [&node.trust, &trust] {
            trust.set_keyring(ring(step));
        }
        until(&node.socket, |s| {
            s.connections.len() == 1 && s.connections[0].grounds == by(step[0])
        })
        .await;
        node.socket.send(from, numbered(2, 8)).await.unwrap();
        soon(tab.recv()).await.unwrap();
    }
    assert_eq!(node.socket.stats().total.dropped.total(), 0);
}

#[tokio::test]
async fn the_connections_of_a_key_that_is_removed_or_refused_end_at_once() {
    let refused = Arc::new(std::sync::Mutex::new(None));
    let check = Arc::clone(&refused);
    let base = Trust::keys([]);
    let trust = base.clone().refusing(move |_| *check.lock().unwrap());
    let hub = open(&trust, config()).await;
    let spokes = [(); 2].map(|()| Trust::keys([hub.local_identity()]));
    let spokes = [
        open(&spokes[0], config()).await,
        open(&spokes[1], config()).await,
    ];
    let all = spokes.each_ref().map(|spoke| spoke.local_identity());
    let connect = async || {
        for spoke in &spokes {
            spoke.send(hub.local_addr(), numbered(0, 8)).await.unwrap();
            soon(hub.recv()).await.unwrap();
        }
    };
    assert!(base.set_keys(all));
    connect().await;
    let start = Instant::now();
    base.set_keys([all[0]]);
    let stats = until(&hub, |s| s.connections.len() == 1).await;
    assert_eq!(stats.connections[0].remote_identity, all[0]);
    assert!(start.elapsed() < EFFECT);
    // What it sends before it has noticed is lost with the connection.
    until(&spokes[1], |s| s.connections.is_empty()).await;
    spokes[1]
        .send(hub.local_addr(), numbered(0, 8))
        .await
        .unwrap();
    until(&spokes[1], |s| s.dials_failed > 0).await;
    base.set_keys(all);
    soon(hub.recv()).await.unwrap();
    *refused.lock().unwrap() = Some(Refusal::Revoked);
    assert_eq!(
        hub.stats().connections.len(),
        2,
        "nobody has said that it has changed"
    );
    trust.check_again();
    until(&hub, |s| s.connections.is_empty()).await;
}

#[tokio::test]
async fn a_connection_whose_secret_is_removed_during_its_handshake_ends_as_well() {
    let (first, second) = (Trust::secret(secret(1)), Trust::secret(secret(1)));
    let changed = first.clone();
    // The check runs once the peer has proved its identity, when the secret of the handshake is chosen already.
    let first = first.refusing(move |_| {
        changed.set_keyring(secret(2));
        None
    });
    for (dialler, acceptor) in [(&first, &second), (&second, &first)] {
        let (dialler, acceptor) = (
            open(dialler, config()).await,
            open(acceptor, config()).await,
        );
        let start = Instant::now();
        let to = acceptor.local_addr();
        dialler.send(to, numbered(0, 8)).await.unwrap();
        let connected = until(&dialler, |s| s.connections.len() == 1).await;
        assert_eq!(connected.connections[0].grounds, by(1));
        for socket in [&dialler, &acceptor] {
            until(socket, |s| s.connections.is_empty()).await;
        }
        assert!(start.elapsed() < EFFECT, "{:?}", start.elapsed());
        first.set_keyring(secret(1));
    }
}

#[tokio::test]
async fn an_equal_keyring_closes_nothing_and_one_that_flips_settles() {
    let (a, b) = connected(&[1, 2], &[1, 2]).await;
    for _ in 0..1000 {
        a.trust.set_keyring(ring(&[1, 2]));
        a.trust.set_keys([b.socket.local_identity()]);
    }
    a.reach(&b).await;
    assert_eq!((a.socket.stats().dials, b.grounds()), (1, vec![by(1)]));
    for n in 0..1000 {
        a.trust
            .set_keyring(ring(if n % 2 == 0 { &[2, 1] } else { &[1, 2] }));
        b.trust
            .set_keyring(ring(if n % 3 == 0 { &[2] } else { &[1, 2] }));
        a.reach(&b).await;
        b.reach(&a).await;
    }
    for member in [&a, &b] {
        member.trust.set_keyring(ring(&[2]));
    }
    for member in [&a, &b] {
        until(&member.socket, |s| {
            s.connections.len() == 1 && s.connections[0].grounds == by(2)
        })
        .await;
    }
    let dials = a.socket.stats().dials + b.socket.stats().dials;
    assert!(dials < 300, "{dials} dials");
}

#[tokio::test]
async fn no_secret_is_logged_when_secrets_change() {
    let log = Log::collect("gossip_transport=trace");
    let (a, b) = connected(&[1], &[1]).await;
    for step in [&[1, 2][..], &[2, 1], &[2], &[3]] {
        for member in [&a, &b] {
            member.trust.set_keyring(ring(step));
        }
        until(&a.socket, |s| {
            s.connections.iter().all(|c| c.grounds == by(step[0]))
        })
        .await;
    }
    let log = log.take();
    assert!(log.contains("the trust has changed"), "{log}");
    for n in 1..=3 {
        let text = secret(n).to_text();
        assert!(!log.contains(&text["gossip-secret-".len()..]), "{log}");
        assert!(!log.contains(&format!("{n}, {n}, {n}")), "{log}");
    }
}

/// What a member has received, by sender.
type Received = HashMap<SocketAddr, Vec<u64>>;

/// Receives until the socket is closed.
async fn receive_all<T: NetTransport>(socket: Arc<TransportLayerSocket<T, Bytes>>) -> Received {
    let mut received = Received::new();
    while let Ok((from, message)) = socket.recv().await {
        received.entry(from).or_default().push(number(&message));
    }
    received
}

/// When a secret is removed.
#[derive(Clone, Copy, PartialEq)]
enum Removal {
    /// While connections with it are still being replaced.
    Early,
    /// When no connection uses it any more.
    Last,
}

/// Has sockets send messages to each other all the time, while each of many secrets is added, used and removed
/// everywhere, at other times by each member.
async fn replace_over_and_over<T: NetTransport>(
    places: impl IntoIterator<Item = (T, SocketAddr)>,
    removal: Removal,
    secrets: u8,
) {
    let config = || {
        configured(|c| {
            c.outgoing.overflow = OverflowPolicy::Backpressure;
            c.incoming.overflow = OverflowPolicy::Backpressure;
            c.incoming.max_messages_per_peer = 50;
        })
    };
    let (mut trusts, mut sockets) = (Vec::new(), Vec::new());
    for (network, addr) in places {
        let trust = Trust::secret(secret(0));
        let credential = NetCredential::generate(trust.clone());
        let transport = TransportLayerTransport::with_config(network, credential, config());
        sockets.push(Arc::new(transport.open(addr).await.unwrap()));
        trusts.push(trust);
    }
    let addrs: Vec<_> = sockets.iter().map(|s| s.local_addr()).collect();
    let receivers = sockets
        .iter()
        .map(|s| tokio::spawn(receive_all(Arc::clone(s))));
    let receivers: Vec<_> = receivers.collect();
    let is_over = Arc::new(tokio::sync::Notify::new());
    let mut senders = Vec::new();
    for socket in &sockets {
        for to in addrs.iter().filter(|to| **to != socket.local_addr()) {
            let (socket, to, is_over) = (Arc::clone(socket), *to, Arc::clone(&is_over));
            senders.push(tokio::spawn(async move {
                let mut over = std::pin::pin!(is_over.notified());
                over.as_mut().enable();
                let mut rng = fastrand::Rng::new();
                let mut count = 0;
                while futures::poll!(over.as_mut()).is_pending() {
                    let len = if rng.u8(..32) == 0 { 200_000 } else { 100 };
                    socket.send(to, numbered(count, len)).await.unwrap();
                    count += 1;
                    if rng.u8(..16) == 0 {
                        tokio::time::sleep(ms(rng.u64(..4))).await;
                    }
                }
                (socket.local_addr(), to, count)
            }));
        }
    }
    let others = sockets.len() - 1;
    for new in 1..=secrets {
        let old = new - 1;
        let all_are_new = async || {
            for socket in &sockets {
                until(socket, |s| {
                    let mut connections = s.connections.iter();
                    connections.all(|c| c.grounds == by(new)) && s.connections.len() >= others
                })
                .await;
            }
        };
        for step in [&[old, new][..], &[new, old], &[new]] {
            if removal == Removal::Last && *step == [new] {
                all_are_new().await;
            }
            let mut order: Vec<_> = trusts.iter().collect();
            fastrand::shuffle(&mut order);
            for trust in order {
                trust.set_keyring(ring(step));
                tokio::time::sleep(ms(fastrand::u64(..5))).await;
            }
        }
        all_are_new().await;
    }
    is_over.notify_waiters();
    let mut sent = HashMap::new();
    for sender in senders {
        let (from, to, count) = soon(sender).await.unwrap();
        sent.insert((from, to), count);
    }
    for socket in &sockets {
        until(socket, |s| s.total.queued == 0).await;
    }
    let all: u64 = sent.values().sum();
    crate::support::until("all messages", async || {
        let delivered = sockets.iter().map(|s| s.stats().total.delivered);
        delivered.sum::<u64>() == all
    })
    .await;
    for socket in &sockets {
        check_sums(&socket.stats());
        assert_eq!(socket.stats().total.dropped.total(), 0);
        soon(socket.shutdown(secs(5))).await;
    }
    for (to, receiver) in addrs.iter().zip(receivers) {
        for (from, numbers) in soon(receiver).await.unwrap() {
            let expected: Vec<u64> = (0..sent[&(from, *to)]).collect();
            assert!(
                numbers == expected,
                "{from} to {to}: {} of {}",
                numbers.len(),
                expected.len()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_arrives_once_and_in_order_while_secrets_are_replaced_over_and_over() {
    let places = [(); 4].map(|()| (TcpTransport::default(), ANY_PORT));
    replace_over_and_over(places, Removal::Last, 30).await;
}

/// In virtual time, in which a machine that is too busy to say goodbye within two seconds loses nothing.
#[tokio::test(start_paused = true)]
async fn no_message_is_lost_if_a_secret_is_removed_while_connections_are_being_replaced() {
    let network = MemoryNetwork::new(1);
    let hosts = [1, 2, 3, 4].map(ip);
    for (n, one) in hosts.iter().enumerate() {
        for other in &hosts[..n] {
            network.set_faults_between(*one, *other, Faults::delayed(ms(1)));
        }
    }
    let places = hosts.map(|host| (network.host(host), (host, 7000).into()));
    replace_over_and_over(places, Removal::Early, 10).await;
}
