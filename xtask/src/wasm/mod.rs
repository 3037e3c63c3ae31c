//! Builds for the browser, and their sizes.
//!
//! [`module`] turns a package into a wasm module and its JavaScript, [`bundle`] puts the page
//! together, and [`size`] reports what a browser downloads. Nothing here starts a browser.

pub(crate) mod bundle;
mod glue;
mod gzip;
pub(crate) mod module;
mod parts;
mod sections;
pub(crate) mod size;
pub(crate) mod target;
