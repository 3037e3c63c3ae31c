//! Our engine and nodes of the published `chitchat` 0.13 in one cluster, over UDP on loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chitchat_013::ChitchatHandle;
use chitchat_013::transport::UdpSocket as UpstreamSocket;
use gossip_transport::gossip::{Engine, Event, Liveness};
use gossip_transport::message::{ChitchatId, ChitchatMessage, Message, ProtocolVersion};
use gossip_transport::{Identity, Role};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::sends;
use crate::support::upstream::{Settings, our_config};
use crate::support::{ANY_PORT, own_cluster, until};

const INTERVAL: Duration = Duration::from_millis(40);
const GRACE: Duration = Duration::from_millis(1500);

async fn upstream(
    name: &str,
    version: ProtocolVersion,
    seed: Option<SocketAddr>,
) -> ChitchatHandle {
    upstream_in(&own_cluster(), name, version, seed).await
}

async fn upstream_in(
    cluster: &str,
    name: &str,
    version: ProtocolVersion,
    seed: Option<SocketAddr>,
) -> ChitchatHandle {
    let socket = UpstreamSocket::open(ANY_PORT).await.unwrap();
    let seeds: Vec<_> = seed.into_iter().collect();
    let mut settings = Settings::new(cluster, name, INTERVAL, &seeds);
    settings.grace = GRACE;
    settings.on(Box::new(socket), version).await
}

/// Our engine on a UDP socket. Dropping it stops it without a last message.
struct Ours {
    engine: Arc<Mutex<Engine>>,
    start: Instant,
    task: JoinHandle<()>,
}

impl Ours {
    async fn start(name: &str, version: ProtocolVersion, seed: SocketAddr) -> Self {
        Self::start_in(&own_cluster(), name, version, Some(seed)).await
    }

    async fn start_in(
        cluster: &str,
        name: &str,
        version: ProtocolVersion,
        seed: Option<SocketAddr>,
    ) -> Self {
        let socket = UdpSocket::bind(ANY_PORT).await.unwrap();
        let id = ChitchatId::new(name, 1, socket.local_addr().unwrap());
        let mut config = our_config(cluster, name, INTERVAL, &[]);
        config.marked_for_deletion_grace_period = GRACE;
        config.protocol_version = version;
        let mut engine = Engine::new(config, id, Duration::ZERO).unwrap();
        engine.handle(Event::Seeds(seed.into_iter().collect()), Duration::ZERO);
        let engine = Arc::new(Mutex::new(engine));
        let start = Instant::now();
        let task = tokio::spawn(drive(Arc::clone(&engine), socket, start));
        Self {
            engine,
            start,
            task,
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Engine, Duration) -> T) -> T {
        f(&mut self.engine.lock().unwrap(), self.start.elapsed())
    }

    fn read(&self, of: &str, key: &str) -> Option<String> {
        let members = self.with(|engine, _| engine.members());
        let member = members.into_iter().find(|m| &*m.id.node_id == of)?;
        Some(member.key_values.get(key)?.value.clone())
    }

    fn live(&self) -> usize {
        let members = self.with(|engine, _| engine.members());
        members
            .iter()
            .filter(|m| m.liveness != Liveness::Dead)
            .count()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn drive(engine: Arc<Mutex<Engine>>, socket: UdpSocket, start: Instant) {
    let mut buffer = vec![0; 65_536];
    loop {
        let due = start + engine.lock().unwrap().next_round();
        let event = tokio::select! {
            () = tokio::time::sleep_until(due) => Event::Round,
            received = socket.recv_from(&mut buffer) => {
                let (len, from) = received.unwrap();
                let bytes = Bytes::copy_from_slice(&buffer[..len]);
                let message = ChitchatMessage::decode(bytes).unwrap();
                let (identity, role) = (Identity::UNPROVED, Role::Core);
                Event::Message { from, identity, role, message }
            }
        };
        let outputs = engine.lock().unwrap().handle(event, start.elapsed());
        for (to, message) in sends(outputs) {
            // The error that the receiver is gone does not matter here.
            let _ = socket.send_to(&message.into_bytes().unwrap(), to).await;
        }
    }
}

async fn upstream_reads(node: &ChitchatHandle, of: &str, key: &str) -> Option<String> {
    node.with_chitchat(|chitchat| {
        let states = chitchat.node_states();
        let (_, state) = states.iter().find(|(id, _)| &*id.node_id == of)?;
        state.get(key).map(str::to_owned)
    })
    .await
}

async fn upstream_live(node: &ChitchatHandle) -> usize {
    node.with_chitchat(|chitchat| chitchat.live_nodes().count())
        .await
}

/// Three members of the published crate and two of ours.
struct Mixed {
    theirs: Vec<ChitchatHandle>,
    ours: Vec<Ours>,
}

impl Mixed {
    async fn start(ours: ProtocolVersion, theirs: ProtocolVersion) -> Self {
        let first = upstream("theirs-0", theirs, None).await;
        let seed = first.chitchat_id().gossip_advertise_addr;
        let mut mixed = Self {
            theirs: vec![first],
            ours: Vec::new(),
        };
        for n in 1..3 {
            let node = upstream(&format!("theirs-{n}"), theirs, Some(seed)).await;
            mixed.theirs.push(node);
        }
        for n in 0..2 {
            mixed
                .ours
                .push(Ours::start(&format!("ours-{n}"), ours, seed).await);
        }
        mixed.all_see_live(5).await;
        mixed
    }

    async fn all_see_live(&self, members: usize) {
        until("all members to see which are live", async || {
            for node in &self.theirs {
                if upstream_live(node).await != members {
                    return false;
                }
            }
            self.ours.iter().all(|node| node.live() == members)
        })
        .await;
    }

    async fn all_read(&self, of: &str, key: &str, value: Option<&str>) {
        until(&format!("{of}'s {key} to be {value:?}"), async || {
            for node in &self.theirs {
                if upstream_reads(node, of, key).await.as_deref() != value {
                    return false;
                }
            }
            self.ours
                .iter()
                .all(|node| node.read(of, key).as_deref() == value)
        })
        .await;
    }
}

async fn keys_travel_both_ways(ours: ProtocolVersion, theirs: ProtocolVersion) {
    let mixed = Mixed::start(ours, theirs).await;

    mixed.ours[0]
        .with(|e, now| e.set("k", "of ours", now))
        .unwrap();
    mixed.all_read("ours-0", "k", Some("of ours")).await;
    mixed.theirs[1]
        .with_chitchat(|chitchat| chitchat.self_node_state().set("k", "of theirs"))
        .await;
    mixed.all_read("theirs-1", "k", Some("of theirs")).await;

    mixed.ours[0].with(|e, now| e.delete("k", now)).unwrap();
    mixed.all_read("ours-0", "k", None).await;
    mixed.theirs[1]
        .with_chitchat(|chitchat| chitchat.self_node_state().delete("k"))
        .await;
    mixed.all_read("theirs-1", "k", None).await;

    let set = mixed.ours[1].with(|e, now| e.set_with_ttl("brief", "yes", now));
    set.unwrap();
    mixed.all_read("ours-1", "brief", Some("yes")).await;
    mixed.all_read("ours-1", "brief", None).await;
    mixed.theirs[2]
        .with_chitchat(|chitchat| chitchat.self_node_state().set_with_ttl("brief", "yes"))
        .await;
    mixed.all_read("theirs-2", "brief", Some("yes")).await;
    mixed.all_read("theirs-2", "brief", None).await;

    // Changes still arrive after the tombstones have been collected.
    mixed.ours[0]
        .with(|e, now| e.set("late", "change", now))
        .unwrap();
    mixed.all_read("ours-0", "late", Some("change")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_travel_both_ways_in_v0() {
    keys_travel_both_ways(ProtocolVersion::V0, ProtocolVersion::V0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_travel_both_ways_in_v1() {
    keys_travel_both_ways(ProtocolVersion::V1, ProtocolVersion::V1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_travel_both_ways_between_v0_and_v1() {
    keys_travel_both_ways(ProtocolVersion::V1, ProtocolVersion::V0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_finds_dead_members_of_the_other() {
    let mut mixed = Mixed::start(ProtocolVersion::V0, ProtocolVersion::V0).await;
    drop(mixed.ours.pop());
    mixed.all_see_live(4).await;
    mixed.theirs.pop().unwrap().shutdown().await.unwrap();
    mixed.all_see_live(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_state_travels_both_ways_in_several_messages() {
    let mixed = Mixed::start(ProtocolVersion::V0, ProtocolVersion::V0).await;
    // Random values hardly compress, so that they take several datagrams.
    let mut rng = fastrand::Rng::with_seed(5);
    let mut noise = || (0..900).map(|_| rng.alphanumeric()).collect::<String>();
    for n in 0..100 {
        let value = noise();
        mixed.ours[0]
            .with(|e, now| e.set(&format!("k{n}"), &value, now))
            .unwrap();
        let value = noise();
        mixed.theirs[0]
            .with_chitchat(|c| c.self_node_state().set(format!("k{n}"), &value))
            .await;
    }
    mixed.ours[0]
        .with(|e, now| e.set("last", "yes", now))
        .unwrap();
    mixed.theirs[0]
        .with_chitchat(|c| c.self_node_state().set("last", "yes"))
        .await;
    mixed.all_read("ours-0", "last", Some("yes")).await;
    mixed.all_read("theirs-0", "last", Some("yes")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rumour_reaches_members_of_the_published_crate_without_a_round() {
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        let mixed = Mixed::start(version, version).await;
        let sender = &mixed.ours[0];
        // Rumours go to the members that the last round has found live.
        let rounds = || sender.with(|engine, _| engine.counts().rounds);
        let before = rounds();
        until("a round", async || rounds() > before + 1).await;
        // It sends and answers nothing any more, so only the rumour can bring the change. The time must
        // not go on in between, or the others would seem to be dead.
        let outputs = sender.with(|engine, now| {
            sender.task.abort();
            engine.set("new", "value", now).unwrap();
            sends(engine.handle(Event::Rumours, now))
        });
        assert_eq!(outputs.len(), 4, "one for each other member: {outputs:?}");
        until("its task to end", async || sender.task.is_finished()).await;
        let socket = UdpSocket::bind(ANY_PORT).await.unwrap();
        for (to, message) in outputs {
            let bytes = message.into_bytes().unwrap();
            socket.send_to(&bytes, to).await.unwrap();
        }
        mixed.all_read("ours-0", "new", Some("value")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_the_published_crate_join_through_a_seed_of_ours() {
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        let ours = Ours::start_in(&own_cluster(), "ours-0", version, None).await;
        let seed = ours.with(|engine, _| engine.id().gossip_advertise_addr);
        ours.with(|e, now| e.set("before", "they came", now))
            .unwrap();
        let mut theirs = Vec::new();
        for n in 0..2 {
            theirs.push(upstream(&format!("theirs-{n}"), version, Some(seed)).await);
        }
        let ours = vec![ours];
        let mixed = Mixed { theirs, ours };
        mixed.all_see_live(3).await;
        mixed.all_read("ours-0", "before", Some("they came")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_refuses_members_of_another_cluster() {
    let version = ProtocolVersion::V0;
    let theirs = upstream("theirs", version, None).await;
    let ours = Ours::start_in(&own_cluster(), "ours", version, None).await;
    let their_addr = theirs.chitchat_id().gossip_advertise_addr;
    let our_addr = ours.with(|engine, _| engine.id().gossip_advertise_addr);
    let foreign = Ours::start_in("other", "foreign", version, Some(their_addr)).await;
    let other = upstream_in("other", "other", version, Some(our_addr)).await;
    // Wait for several refusals, so that a member that is accepted only sometimes is noticed.
    until("refusals", async || {
        ours.with(|engine, _| engine.counts().foreign_syns) > 5
            && foreign.with(|engine, _| engine.counts().rejections) > 5
    })
    .await;
    for node in [&theirs, &other] {
        let known = node.with_chitchat(|chitchat| chitchat.node_states().len());
        assert_eq!(known.await, 1);
    }
    for node in [&ours, &foreign] {
        assert_eq!(node.with(|engine, _| engine.members().len()), 1);
    }
}
