//! The participant: a pure engine (events in, events out, time as an argument), and the one file
//! that joins it to a socket.

mod config;
mod participant;

pub use config::{FailureDetectorConfig, GossipConfig};
pub use participant::{
    DeleteError, Liveness, Member, MemberValue, MembershipWatch, Participant, SetError,
};
