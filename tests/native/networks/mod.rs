//! The networks: one suite that all of them pass, and the tests of each.

mod addresses;
mod amplification;
mod beside_tabs;
mod bridged_pages;
mod config;
pub(crate) mod conformance;
mod downgrade;
mod either;
mod floods;
mod full_inbox;
mod memory;
pub(crate) mod tcp_listener;
mod udp;
