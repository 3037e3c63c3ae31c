//! The gossip engine alone, in simulation and beside upstream nodes, and participants on sockets.

mod catch_up;
mod connected;
mod hostile;
mod load;
mod page_loads;
mod participant;
mod rumours;
mod simulation;
mod tabs;
mod upstream;

use std::net::SocketAddr;

use gossip_transport::gossip::Output;
use gossip_transport::message::ChitchatMessage;

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
            Output::MembershipChanged => {}
        }
    }
    sends
}
