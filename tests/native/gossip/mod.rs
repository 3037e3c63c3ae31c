//! The gossip engine alone, in simulation and beside upstream nodes, and participants on sockets.

mod catch_up;
mod common_name;
mod connected;
mod crowded;
mod cut;
mod ended;
mod hostile;
mod leaf_costs;
mod load;
mod many_tabs;
mod page_loads;
mod participant;
mod presence;
mod quotas;
mod restarts;
mod revocations;
mod rotation;
mod rumours;
mod shared_key;
mod simulation;
mod tabs;
mod upstream;

use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::gossip::{Engine, Event, Output};
use gossip_transport::message::ChitchatMessage;
use gossip_transport::{Identity, Role};

/// Returns the event of a message from `from`, which has proved no identity.
fn received(from: SocketAddr, message: ChitchatMessage) -> Event {
    Event::Message {
        from,
        identity: Identity::UNPROVED,
        role: Role::Core,
        message,
    }
}

/// Returns when an engine must be called next, and whether for a round.
fn next_due(engine: &Engine) -> (Duration, bool) {
    let round = (engine.next_round(), true);
    let rumours = engine.next_rumours();
    rumours.map_or(round, |at| round.min((at, false)))
}

/// Returns the event of a deadline.
fn deadline(is_round: bool) -> Event {
    if is_round {
        Event::Round
    } else {
        Event::Rumours
    }
}

/// Returns the messages among `outputs`, each with its receiver.
fn sends(outputs: Vec<Output>) -> Vec<(SocketAddr, ChitchatMessage)> {
    let mut sends = Vec::new();
    for output in outputs {
        match output {
            Output::Send { to, message } => sends.push((to, message)),
            Output::SendToAll { to, message } => {
                assert!(to.len() > 1);
                sends.extend(to.into_iter().map(|to| (to, message.clone())));
            }
            Output::Refuse { .. } | Output::MembershipChanged => {}
        }
    }
    sends
}
