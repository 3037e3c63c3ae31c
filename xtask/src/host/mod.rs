//! The programs, processes, tools and folders of this machine, as the commands use them.
//!
//! Nothing here knows what is built, tested or shown. Invariant: nothing that is started here
//! outlives this program ([`process`], [`command`]).

pub(crate) mod apt;
pub(crate) mod command;
pub(crate) mod freeze;
pub(crate) mod http;
pub(crate) mod interrupt;
pub(crate) mod npm;
pub(crate) mod packages;
pub(crate) mod process;
pub(crate) mod skips;
pub(crate) mod tools;
pub(crate) mod wait;
pub(crate) mod workspace;
