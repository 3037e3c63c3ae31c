//! The codec: properties, refusals, and agreement with the published chitchat crates.

mod properties;
mod refusals;
mod wire_011;
mod wire_013;
