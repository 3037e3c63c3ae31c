//! The gossip protocol of one participant, as a state machine without network, clock or runtime.
//!
//! A driver passes in what has happened as an [`Event`], together with the time, and performs the
//! [`Output`]s that [`Engine::handle`] returns. [`Participant`](super::Participant) is the driver
//! for a socket; tests and simulations drive engines directly. Invariant: the same seed and the
//! same calls produce the same outputs.
//!
//! The protocol is that of the published `chitchat` crate, and members of both kinds share a
//! cluster. Where this engine is stricter, a comment at that place says so.
//!
//! # Protocol
//!
//! Every member holds its own keys and a copy of the keys of all others. The protocol reconciles
//! these copies.
//!
//! - **Round.** Once in every [`gossip_interval`](GossipConfig::gossip_interval), a member raises
//!   its heartbeat, selects a few other members and sends each of them a *Syn*.
//! - **Syn, SynAck, Ack.** A Syn contains the cluster's name and a digest. The receiver replies with
//!   a *SynAck*: its own digest, and a delta with what the sender lacks. The sender applies the
//!   delta and replies with an *Ack*, whose delta contains what the receiver lacks. A Syn of another
//!   cluster is answered with a *BadCluster* instead.
//! - **Digest.** The known members, each with its heartbeat and the version up to which its keys are
//!   known. A member is created by digests only.
//! - **Delta.** Changes of keys, each with a version that the owner of the key assigned. A receiver
//!   applies a delta only if it connects to the version that it knows, so that a state never has
//!   gaps. If a message has no room for all changes, the receiver sends another Syn at once.
//! - **Heartbeats and phi-accrual failure detection.** Digests carry heartbeats from member to
//!   member. A member is found live once its heartbeat has risen twice since it was first heard of,
//!   and dead once it has not risen for much longer than usual (phi, after Hayashibara et al.,
//!   2004). After half of
//!   [`dead_node_grace_period`](FailureDetectorConfig::dead_node_grace_period) a dead member is no
//!   longer mentioned in messages, and after all of it, it is forgotten.
//! - **Tombstones.** A deleted key stays as a tombstone, so that the deletion spreads like any other
//!   change. After
//!   [`marked_for_deletion_grace_period`](GossipConfig::marked_for_deletion_grace_period) it is
//!   removed. A member that missed it until then is sent the whole state again.
//! - **Reserved keys.** Keys whose names begin with `gossip-transport/` are what members of this crate say about the
//!   cluster. Users can neither set nor see them. With a cluster secret ([`Engine::set_secrets`]), a member proves that it
//!   has set such a key itself, and believes others only with that proof.
//! - **Presence.** A member that leaves says so in a reserved key ([`Engine::leave`]), and one that loses the last
//!   connection to a leaf says so for it some seconds later, unless its heartbeat rises. All others show it as
//!   [`Left`](Liveness::Left) at once, treat it as a dead one and soon forget it. A higher heartbeat revives it.
//! - **Rumours.** Changes do not wait for a round: they are pushed at once, as Acks without a
//!   preceding SynAck, to a few live members, which push them on ([`RumourConfig`]). Who sends to whom
//!   follows a fixed pattern in which everyone receives a change equally often; a member that does not
//!   pushes it on at random. Rounds repair what rumours miss.
//! - **Selection.** Three live members in each round; sometimes a dead member, so that the end of a
//!   partition is noticed; sometimes a seed, so that separate groups find each other. Members that
//!   do not answer are selected less often, and one that is connected is always among those selected.
//! - **Connections.** A driver that has connections passes them in ([`Event::Connections`]). Members
//!   that are neither connected nor dialled from here ([`DialPolicy`]) are then left out, and are
//!   live as long as others report them. A new connection starts an exchange at once. While connections
//!   to live members are lost, since there are more members than connections, rounds and rumours use
//!   those that exist, and few members are dialled. Time without
//!   any connection is not counted against members that only a connection reaches, for a while.
//! - **Roles.** What a message changes depends on the role of its sender ([`Event::Message`]), and is decided before
//!   anything of it is noted. Core members may change everything. A leaf changes its own member only, within the limits
//!   of its invite, which the driver passes in with its connection and with the time ([`Event::UnixTime`]). Peers over UDP
//!   change only members that are reached in no other way, and are told of a limited number of leaves
//!   ([`GossipConfig::max_udp_members`]). What is refused is counted ([`Denial`]).
//!
//! # Driver loop
//!
//! A driver waits until a message arrives or the next deadline has passed, calls
//! [`handle`](Engine::handle), and performs the outputs. In this example, the network is a queue and
//! time is virtual:
//!
//! ```
//! use std::collections::{BTreeMap, VecDeque};
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! use gossip_transport::gossip::{Engine, Event, GossipConfig, Liveness, Output};
//! use gossip_transport::message::ChitchatId;
//! use gossip_transport::{Identity, Role};
//!
//! /// Returns the next deadline of an engine, and the event that is due then.
//! fn deadline(engine: &Engine) -> (Duration, Event) {
//!     let round = engine.next_round();
//!     match engine.next_rumours() {
//!         Some(rumours) if rumours < round => (rumours, Event::Rumours),
//!         _ => (round, Event::Round),
//!     }
//! }
//!
//! // Two members. The first knows the address of the second as a seed.
//! let addrs: [SocketAddr; 2] = ["10.0.0.1:7946".parse()?, "10.0.0.2:7946".parse()?];
//! let mut engines = BTreeMap::new();
//! for (name, addr) in ["ada", "bob"].into_iter().zip(addrs) {
//!     let config = GossipConfig::new("cluster", name).with_rng_seed(Some(1));
//!     config.validate()?;
//!     let id = ChitchatId::new(name, 1, addr);
//!     engines.insert(addr, Engine::new(config, id, Duration::ZERO)?);
//! }
//! let ada = engines.get_mut(&addrs[0]).expect("inserted above");
//! ada.handle(Event::Seeds(vec![addrs[1]]), Duration::ZERO);
//! ada.set("colour", "blue", Duration::ZERO)?;
//!
//! let mut network = VecDeque::new();
//! let mut now = Duration::ZERO;
//! while now < Duration::from_secs(5) {
//!     // Wait until a message arrives or the next deadline has passed.
//!     let (addr, event) = if let Some((from, to, message)) = network.pop_front() {
//!         let (identity, role) = (Identity::UNPROVED, Role::Core);
//!         (to, Event::Message { from, identity, role, message })
//!     } else {
//!         let deadlines = engines.iter().map(|(addr, engine)| (*addr, deadline(engine)));
//!         let next = deadlines.min_by_key(|(_, (due, _))| *due);
//!         let (addr, (due, event)) = next.expect("there are two engines");
//!         now = due.max(now);
//!         (addr, event)
//!     };
//!     // Pass it to the engine, and perform the outputs.
//!     let engine = engines.get_mut(&addr).expect("every address has an engine");
//!     for output in engine.handle(event, now) {
//!         match output {
//!             Output::Send { to, message } => network.push_back((addr, to, message)),
//!             Output::SendToAll { to, message } => {
//!                 network.extend(to.into_iter().map(|to| (addr, to, message.clone())));
//!             }
//!             Output::Refuse { to, reason } => println!("{to} is refused: {reason}"),
//!             Output::MembershipChanged => println!("{addr} sees a change at {now:?}"),
//!         }
//!     }
//! }
//!
//! // The seed has found the first member, and has its key.
//! let members = engines[&addrs[1]].members();
//! assert_eq!(&*members[0].id.node_id, "ada");
//! assert_eq!(members[0].liveness, Liveness::Live);
//! assert_eq!(members[0].key_values["colour"].value, "blue");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod catch_up;
mod churn;
mod cluster;
mod config;
mod contacts;
mod cores;
mod denial;
mod entries;
mod event;
mod failure_detector;
mod forgotten;
mod limiter;
mod load;
mod member;
mod node_state;
mod order;
mod own_keys;
mod places;
mod policy;
mod presence;
mod protocol;
mod reserved;
mod routes;
mod rumours;
mod schedule;
mod selection;
mod usage;

pub use config::{DialPolicy, FailureDetectorConfig, GossipConfig, RumourConfig};
pub use denial::{Denial, DenialCounts};
pub use event::{Connection, EngineCounts, Event, Output};
pub use member::{Liveness, Member, MemberValue};
pub use protocol::Engine;
pub(crate) use reserved::ReservedKey;
