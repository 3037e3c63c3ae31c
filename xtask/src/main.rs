//! Builds, tests and demonstrates the workspace.
fn main() {}
