//! Accepts connections to the admin port, and decides which one gives way when there are too many.
//!
//! What is done on a connection is elsewhere. Invariant: there are never more connections than the
//! limit, and one that waits for a request keeps no other out.

use std::time::Duration;

use gossip_transport::rt::{self, Task};

use super::port::{Access, Peer, Port, Stream};
use super::session::{Activity, Session, refuse};
use crate::node::Node;
use crate::revocations::Revocations;
use crate::trust_files::TrustFiles;

/// The largest number of connections. Each subcommand takes one.
const MAX_CONNECTIONS: usize = 8;
/// The descriptors that the port and its connections take, one that is told to come back included.
pub(crate) const DESCRIPTORS: usize = MAX_CONNECTIONS + 2;
/// The wait before accepting again when the system is short of resources.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// Serves `port` until the returned task is dropped, which ends its connections and removes its file.
pub(crate) fn serve(
    port: Port,
    node: Node,
    trust_files: TrustFiles,
    revocations: Revocations,
) -> Task {
    let server = Server {
        access: port.access(),
        port,
        node,
        trust_files,
        revocations,
        connections: Vec::new(),
        refusal: None,
        failures: 0,
    };
    Task::spawn(server.run())
}

struct Server {
    port: Port,
    access: Access,
    node: Node,
    trust_files: TrustFiles,
    revocations: Revocations,
    connections: Vec<Connection>,
    /// Tells the latest connection that there was no room for it.
    refusal: Option<Task>,
    failures: u64,
}

struct Connection {
    activity: Activity,
    task: Task,
}

impl Server {
    async fn run(mut self) {
        loop {
            match self.port.accept().await {
                Ok((stream, peer)) => self.start(stream, peer),
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    if self.failures.is_power_of_two() {
                        let failures = self.failures;
                        tracing::warn!(%error, failures, "cannot accept an admin connection, retrying");
                    }
                    self.forget_ended();
                    rt::sleep(SHORTAGE_PAUSE).await;
                }
            }
        }
    }

    fn start(&mut self, stream: Box<dyn Stream>, peer: Peer) {
        if !self.make_room() {
            tracing::warn!("refused an admin connection, there are too many");
            self.refusal = Some(Task::spawn(refuse(stream, MAX_CONNECTIONS)));
            return;
        }
        let activity = Activity::default();
        let session = Session {
            node: self.node.clone(),
            trust_files: self.trust_files.clone(),
            revocations: self.revocations.clone(),
            access: self.access.clone(),
            peer,
            activity: activity.clone(),
        };
        self.connections.push(Connection {
            activity,
            task: Task::spawn(session.run(stream)),
        });
    }

    /// Returns whether there is room for one more connection. Ends the oldest one that waits for a
    /// request if that makes room.
    fn make_room(&mut self) -> bool {
        self.forget_ended();
        if self.connections.len() < MAX_CONNECTIONS {
            return true;
        }
        let mut open = self.connections.iter();
        let Some(idle) = open.position(|connection| connection.activity.is_idle()) else {
            return false;
        };
        drop(self.connections.remove(idle));
        true
    }

    fn forget_ended(&mut self) {
        self.connections
            .retain(|connection| !connection.task.is_finished());
    }
}
