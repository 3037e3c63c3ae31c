//! Nodes that accept invites, and those that join with one.

use gossip_transport::credential::Invite;
use serde_json::Value;
use tempfile::TempDir;

use super::admin::objects;
use super::cluster::make_secret;
use super::process::{Node, run, stderr, wait_for};

/// A directory with the secret of a cluster.
pub(crate) struct Files(pub(crate) TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        make_secret(&files.0.path().join("secret"));
        files
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Starts a node of the cluster that has the secret.
    pub(crate) fn core(&self, id: &str, args: &[&str]) -> Node {
        let secret = self.path("secret");
        let own = ["--secret", &secret, "--id", id, "--cluster", "c"];
        Node::start(&[&own[..], args].concat())
    }

    /// Issues an invite without a node, and returns the object.
    pub(crate) fn issue(&self, args: &[&str]) -> Value {
        let secret = self.path("secret");
        let own = ["invite", "--secret", &secret, "--cluster", "c", "--json"];
        let output = run(&[&own[..], args].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        objects(&String::from_utf8(output.stdout).unwrap()).remove(0)
    }

    /// Starts a node that joins with this word.
    pub(crate) fn leaf(&self, id: &str, word: &str, args: &[&str]) -> Node {
        let file = self.write(&format!("{id}.invite"), &format!("{word}\n"));
        Node::start(&[&["--invite", &file, "--id", id][..], args].concat())
    }
}

/// Returns the word of an invite that `node` issues.
pub(crate) fn word_of(node: &Node, args: &[&str]) -> String {
    let word = node.run(&[&["invite"][..], args].concat());
    assert_eq!(word.lines().count(), 1, "{word}");
    word.trim().to_owned()
}

pub(crate) fn id_of(word: &str) -> String {
    let invite: Invite = word.parse().unwrap();
    invite.claims().id().to_string()
}

pub(crate) fn wait_for_members(nodes: &[&Node], ids: &[&str]) {
    for node in nodes {
        wait_for("all to be live", || {
            (node.live_members() == ids).then_some(())
        });
    }
}

/// Waits until the log of a node that is not let in has this reason.
pub(crate) fn wait_for_refusal(node: &Node, reason: &str) {
    wait_for("the reason in the log", || {
        let log = node.log();
        let mut lines = log.lines();
        lines.find(|line| line.contains("not in the cluster yet") && line.contains(reason))?;
        Some(())
    });
}

/// Returns the invites on which connections of a node rest.
pub(crate) fn invites(node: &Node) -> Vec<String> {
    let listed = objects(&node.run(&["connections", "--json"]));
    let invites = listed
        .iter()
        .filter_map(|connection| connection["invite"].as_str());
    invites.map(str::to_owned).collect()
}
