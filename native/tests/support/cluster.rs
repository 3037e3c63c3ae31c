//! Three nodes with a file of secrets each, and a load on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;
use tempfile::TempDir;

use super::admin::objects;
use super::process::{Node, run, subcommand, wait_for};

/// The least number of values that a load sends.
const LEAST_VALUES: u32 = 4;

pub(crate) const IDS: [&str; 3] = ["a", "b", "c"];

/// Makes a file with a new secret.
pub(crate) fn make_secret(path: &Path) {
    let made = run(&["--make-secret", path.to_str().unwrap()]);
    assert_eq!(made.status.code(), Some(0));
}

/// Three nodes, with the secrets of each in `DIR/ID.secret`.
pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) nodes: Vec<Node>,
}

impl Cluster {
    /// Starts the nodes with the same new secret, and waits until all know each other.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        make_secret(&dir.path().join("old.secret"));
        let mut nodes: Vec<Node> = Vec::new();
        for id in IDS {
            let file = dir.path().join(format!("{id}.secret"));
            std::fs::copy(dir.path().join("old.secret"), &file).unwrap();
            let seeds = nodes.iter().map(|node| node.gossip.to_string());
            let seeds: Vec<_> = seeds.flat_map(|addr| ["--seed".to_owned(), addr]).collect();
            let mut args = vec!["--id", id, "--secret", file.to_str().unwrap()];
            args.extend(seeds.iter().map(String::as_str));
            nodes.push(Node::start(&args));
        }
        for node in &nodes {
            wait_for("all to be live", || {
                (node.live_members() == IDS).then_some(())
            });
        }
        Self { dir, nodes }
    }

    /// Returns the path of a node's file.
    pub(crate) fn file(&self, id: &str) -> PathBuf {
        self.dir.path().join(format!("{id}.secret"))
    }

    /// Waits until all open connections of all nodes rest on this secret, and the nodes have any.
    pub(crate) fn wait_for_connections_with(&self, id: &str) {
        for node in &self.nodes {
            wait_for("the connections to be renewed", || {
                let rest: Vec<_> = secrets(node)
                    .into_iter()
                    .filter(|(_, _, connections)| *connections > 0)
                    .collect();
                (rest.len() == 1 && rest[0].0 == id).then_some(())
            });
        }
    }
}

/// Returns the id, the state and the number of connections of each secret of a node.
pub(crate) fn secrets(node: &Node) -> Vec<(String, String, u64)> {
    let listed = objects(&node.run(&["secret", "list", "--json"]));
    let listed = listed.iter().map(|secret| {
        let text = |key: &str| secret[key].as_str().unwrap().to_owned();
        let connections = secret["connections"].as_u64().unwrap();
        (text("secret"), text("state"), connections)
    });
    listed.collect()
}

/// Returns the id of the secret that a node dials with.
pub(crate) fn dials_with(node: &Node) -> String {
    secrets(node).swap_remove(0).0
}

/// A key of the first node that is changed all the time and read from the others, while all must see all others live.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl Load {
    pub(crate) fn start(nodes: &[Node]) -> Self {
        let admin: Vec<_> = nodes.iter().map(|node| node.admin.clone()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut rounds = 0;
            while rounds < LEAST_VALUES || !stopped.load(Ordering::Relaxed) {
                let value = rounds.to_string();
                output_of(&admin[0], &["set", "round", &value]);
                for other in &admin[1..] {
                    wait_for("the value to arrive", || {
                        all_live(other);
                        let got = output_of(other, &["get", "round", "--node", "a"]);
                        (got.trim() == value).then_some(())
                    });
                }
                all_live(&admin[0]);
                rounds += 1;
            }
            rounds
        });
        Self { stop, thread }
    }

    /// Ends the load, once at least [`LEAST_VALUES`] values have arrived everywhere, and returns their number.
    pub(crate) fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn all_live(admin: &Path) {
    let members = objects(&output_of(admin, &["members", "--json"]));
    let live = members.iter().filter(|member| member["live"] == true);
    let live: Vec<&Value> = live.map(|member| &member["id"]).collect();
    assert_eq!(live, IDS, "a member is shown dead");
}

/// Runs a subcommand that succeeds, or finds no such key yet.
fn output_of(admin: &Path, args: &[&str]) -> String {
    let output = subcommand(admin, args).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
