//! The subcommands as processes, and connections to the admin port that say anything.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use super::process::{DEADLINE, Node, command, wait_for};

pub(crate) fn start(args: &[&str]) -> Node {
    Node::start(&[&["--trust-anyone"], args].concat())
}

pub(crate) fn start_pair() -> (Node, Node) {
    let a = start(&["--id", "a", "--set", "color=red"]);
    let b = start(&["--id", "b", "--seed", &a.gossip.to_string()]);
    for node in [&a, &b] {
        wait_for("both to be live", || {
            (node.live_members() == ["a", "b"]).then_some(())
        });
    }
    (a, b)
}

/// Parses what a subcommand has printed with `--json`.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A running `watch`. Dropping it kills the process.
pub(crate) struct Watch {
    pub(crate) process: Child,
    lines: mpsc::Receiver<String>,
}

impl Watch {
    pub(crate) fn start(node: &Node, args: &[&str]) -> Self {
        let mut command = command();
        command
            .arg("watch")
            .args(args)
            .arg("--admin")
            .arg(&node.admin);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        // A thread, since reading from a pipe has no deadline.
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { process, lines }
    }

    /// Returns the next line for which `is_wanted` is true.
    pub(crate) fn line(&self, is_wanted: impl Fn(&str) -> bool) -> String {
        let mut others = Vec::new();
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|error| panic!("{error}, after {others:?}"));
            if is_wanted(&line) {
                return line;
            }
            others.push(line);
        }
    }

    pub(crate) fn event(&self, name: &str) -> Value {
        let is_wanted = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["event"] == name
        };
        serde_json::from_str(&self.line(is_wanted)).unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection that says what a test wants it to say.
pub(crate) struct Raw(pub(crate) BufReader<UnixStream>);

impl Raw {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, line: &str) {
        // The other side may have ended the connection before it has read everything.
        let _ = self.0.get_mut().write_all(line.as_bytes());
    }

    /// Returns the next line, or `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn error_code(&mut self) -> String {
        let reply = self.next().unwrap();
        reply["error"]["code"].as_str().unwrap().to_owned()
    }
}
