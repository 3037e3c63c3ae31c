//! The secure connection over a carrier in memory: handshakes, messages, and how it ends.

mod cancellation;
mod carrier;
mod common;
mod handshake;
mod hostile_invites;
mod invites;
mod keyring;
mod leaving;
mod lifetime;
mod probes;
mod records;
mod refusals;
mod unfinished;
