//! A native member of a gossip cluster.
fn main() {}
