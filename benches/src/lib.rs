//! Measures gossip-transport beside its peers.
//!
//! | where | what |
//! |---|---|
//! | [`peer`] | what a peer has to do to be measured |
//! | [`peers`] | ourselves, the floor and the others |
//! | [`scenario`] | what is done with them, and what is measured |
//! | [`exercise`] | the native end of what the page in `page/` does |
//! | [`typed`] | chitchat's messages through our socket |
//! | [`report`] | medians, ratios, tables |
//!
//! `cargo xtask bench` runs the programs in `src/bin`; RESULTS.md has what they printed.

pub mod exercise;
pub mod peer;
pub mod peers;
pub mod report;
pub mod scenario;
pub mod typed;
