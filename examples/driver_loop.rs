//! The gossip engine with a loop of your own, over a plain UDP socket.
//!
//! `Participant` drives the engine over the sockets of this crate. Where they do not fit, a loop
//! like this one can replace it: it waits for a message or for the engine's next deadline, passes
//! either to the engine, and performs the outputs. The datagrams are those of the published
//! `chitchat` crate, neither encrypted nor authenticated, so nodes of that crate can be members as
//! well.
//!
//! ```sh
//! cargo run --example driver_loop -- ada 127.0.0.1:7001
//! cargo run --example driver_loop -- bob 127.0.0.1:7002 127.0.0.1:7001
//! ```

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use bytes::Bytes;
use gossip_transport::gossip::{Engine, Event, GossipConfig, Liveness, Output};
use gossip_transport::message::{ChitchatId, ChitchatMessage, MAX_DATAGRAM_LEN};
use gossip_transport::{Identity, Message as _, Role};
use tokio::net::UdpSocket;
use tokio::time::Instant;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(listen)) = (args.next(), args.next()) else {
        bail!("usage: driver_loop NAME ADDRESS [SEED]...");
    };
    let seeds = args.map(|seed| seed.parse()).collect::<Result<_, _>>()?;
    let driver = Driver::bind(&name, listen.parse()?, seeds).await?;
    println!("{name} listens on {}", driver.addr()?);
    driver.run(|line| println!("{line}")).await
}

/// An engine, with the socket and the clock that it lacks.
pub(crate) struct Driver {
    engine: Engine,
    socket: UdpSocket,
    /// The zero of the engine's time.
    start: Instant,
}

impl Driver {
    /// Binds `listen` and starts an engine with one key.
    pub(crate) async fn bind(
        name: &str,
        listen: SocketAddr,
        seeds: Vec<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind(listen).await?;
        // The generation distinguishes the restarts of a member: it must be higher after each.
        let generation = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
        let id = ChitchatId::new(name, generation, socket.local_addr()?);
        let mut config = GossipConfig::new("example", name);
        config.max_message_len = MAX_DATAGRAM_LEN;
        config.validate()?;
        let mut engine = Engine::new(config, id, Duration::ZERO)?;
        engine.set("greeting", &format!("hello from {name}"), Duration::ZERO)?;
        let mut driver = Self {
            engine,
            socket,
            start: Instant::now(),
        };
        driver.handle(Event::Seeds(seeds));
        Ok(driver)
    }

    pub(crate) fn addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Runs until the socket fails. Prints the members whenever something about them has changed.
    pub(crate) async fn run(mut self, mut print: impl FnMut(String)) -> anyhow::Result<()> {
        let mut buffer = vec![0; MAX_DATAGRAM_LEN];
        loop {
            let (due, event) = self.next_deadline();
            let event = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    let (len, from) = received?;
                    match message(&buffer, len, from) {
                        Some(event) => event,
                        None => continue,
                    }
                }
                () = tokio::time::sleep_until(self.start + due) => event,
            };
            if self.handle(event) {
                print(self.members());
            }
        }
    }

    /// Returns the engine's next deadline, and the event that is due then.
    fn next_deadline(&self) -> (Duration, Event) {
        let round = self.engine.next_round();
        match self.engine.next_rumours() {
            Some(rumours) if rumours < round => (rumours, Event::Rumours),
            _ => (round, Event::Round),
        }
    }

    /// Passes `event` to the engine and performs the outputs. Returns whether members have changed.
    fn handle(&mut self, event: Event) -> bool {
        let mut is_changed = false;
        for output in self.engine.handle(event, self.start.elapsed()) {
            match output {
                Output::Send { to, message } => self.send(&[to], message),
                Output::SendToAll { to, message } => self.send(&to, message),
                // Only holders of invites are refused, and nobody has one over plain UDP.
                Output::Refuse { .. } => {}
                Output::MembershipChanged => is_changed = true,
            }
        }
        is_changed
    }

    /// Encodes a message once and sends it to all of `to`.
    fn send(&self, to: &[SocketAddr], message: ChitchatMessage) {
        if let Ok(bytes) = message.into_bytes() {
            for addr in to {
                // A loop must not wait for one peer. A datagram that cannot be sent at once is lost,
                // and the next round makes up for it.
                let _ = self.socket.try_send_to(&bytes, *addr);
            }
        }
    }

    /// Describes all other members.
    fn members(&self) -> String {
        let mut line = String::from("members:");
        let members = self.engine.members().into_iter();
        for member in members.filter(|member| member.liveness != Liveness::Myself) {
            let greeting = member.key_values.get("greeting");
            let greeting = greeting.map_or("nothing yet", |value| &value.value);
            let (name, liveness) = (&member.id.node_id, member.liveness.as_str());
            line += &format!(" {name} is {liveness} and says {greeting:?};");
        }
        line
    }
}

/// Returns the event of a datagram, or `None` if it is not a message.
fn message(buffer: &[u8], len: usize, from: SocketAddr) -> Option<Event> {
    let bytes = Bytes::copy_from_slice(buffer.get(..len)?);
    let message = ChitchatMessage::decode(bytes).ok()?;
    // A datagram proves nothing about its sender.
    let (identity, role) = (Identity::UNPROVED, Role::Core);
    Some(Event::Message {
        from,
        identity,
        role,
        message,
    })
}
