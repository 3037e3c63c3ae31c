//! `gossip-web-values`: the conversions that the crates for JavaScript share.
//!
//! Options are read and results are built field by field, which takes fewer bytes in a module than a
//! serializer, since there are few types. Everything that this crate exports is exported by each
//! module that uses it: the two key generators, and the function that runs when the module is loaded.
//! Invariant: no value that JavaScript passes in causes a panic; an invalid one causes a `TypeError`
//! whose text says what to change.
//!
//! The crate is empty on every other target, so that the workspace builds there.

#![cfg(target_family = "wasm")]

pub mod arguments;
mod credential;
mod fields;
mod object;
mod stats;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use js_sys::TypeError;
use wasm_bindgen::prelude::wasm_bindgen;

pub use credential::{credential, generate_cluster_secret, generate_secret_key};
pub use fields::Fields;
pub use object::Object;
pub use stats::{StatsObject, millis, stats};

/// The address with which a socket is opened in a browser, which cannot listen.
pub const NO_LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Runs when the module is loaded. From then on, panics are logged to the console.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

/// Returns the error of `new` on a class whose values come from an asynchronous function `factory`. Without a
/// constructor, wasm-bindgen would create an object without a value, of which each method fails with "null
/// pointer passed to rust".
pub fn no_constructor(factory: &str) -> TypeError {
    TypeError::new(&format!(
        "it has no constructor: use await {factory}(options)"
    ))
}

/// Converts the error of an invalid option to a JavaScript `TypeError` whose message includes the causes.
pub fn type_error(error: &anyhow::Error) -> TypeError {
    TypeError::new(&format!("{error:#}"))
}
