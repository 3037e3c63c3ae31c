//! What the tests of the program share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "not every test binary uses all of it"
)]

pub(crate) mod admin;
pub(crate) mod cluster;
pub(crate) mod invites;
pub(crate) mod process;
