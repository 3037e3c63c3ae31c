//! Measures gossip-transport beside its peers.
//!
//! | where | what |
//! |---|---|
//! | [`peer`] | the traits that a peer implements to be measured |
//! | [`peers`] | this crate, the floor and the others |
//! | [`scenario`] | the measured loops |
//! | [`handshakes`] | the measured loop of many connections at a time |
//! | [`hand`] | the floor a second time, without the traits and the loops of the others |
//! | [`memory`] | the memory of connections |
//! | [`queue`] | the queue inside the stream peers |
//! | [`clusters`], [`curve`] | whole clusters, and a drawing of how changes spread in them |
//! | [`exercise`] | the native end of the exercises of the page in `page/` |
//! | [`typed`] | chitchat's own messages |
//! | [`namespace`] | child processes with a loopback interface of their own |
//! | [`process`] | memory and CPU time of a process, and its limit of descriptors |
//! | [`report`] | medians, ratios, tables, the order of turns |
//!
//! `cargo xtask bench` runs the programs in `src/bin`; RESULTS.md contains their output.

pub mod clusters;
pub mod curve;
pub mod exercise;
pub mod hand;
pub mod handshakes;
pub mod memory;
pub mod namespace;
pub mod options;
pub mod peer;
pub mod peers;
pub mod process;
pub mod queue;
pub mod report;
pub mod scenario;
pub mod typed;
