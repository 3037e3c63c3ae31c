//! Measures gossip-transport beside its peers.
//!
//! | where | what |
//! |---|---|
//! | [`peer`] | what a peer has to do to be measured |
//! | [`peers`] | ourselves, the floor and the others |
//! | [`scenario`] | what is done with them, and what is measured |
//! | [`clusters`], [`curve`] | whole clusters, and the picture of how news spreads in them |
//! | [`exercise`] | the native end of what the page in `page/` does |
//! | [`typed`] | chitchat's messages through our socket |
//! | [`process`] | memory of a process, and its limit of descriptors |
//! | [`report`] | medians, ratios, tables |
//!
//! `cargo xtask bench` runs the programs in `src/bin`; RESULTS.md has what they printed.

pub mod clusters;
pub mod curve;
pub mod exercise;
pub mod peer;
pub mod peers;
pub mod process;
pub mod report;
pub mod scenario;
pub mod typed;
