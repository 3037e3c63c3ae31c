//! The secure channel over a carrier in memory: what connects, what does not, and how it ends.

mod cancellation;
mod carrier;
mod common;
mod handshake;
mod lifetime;
mod records;
