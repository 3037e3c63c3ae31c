//! A node that runs as a process of its own, and is observed from outside.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Returns a subcommand for the node that listens at `admin`.
pub(crate) fn subcommand(admin: &Path, args: &[&str]) -> Command {
    let mut command = command();
    command.args(args).arg("--admin").arg(admin);
    command
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gossip-node"));
    for name in ["RUST_LOG", "GOSSIP_NODE_ADMIN", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    command
}

/// Runs the program to its end, for arguments with which it does not keep running.
pub(crate) fn run(args: &[&str]) -> Output {
    let mut command = command();
    command.args(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let start = Instant::now();
    // What it prints fits into a pipe.
    while process.try_wait().unwrap().is_none() {
        if start.elapsed() > DEADLINE {
            process.kill().unwrap();
            panic!("{args:?} keeps running");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    process.wait_with_output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) struct Node {
    pub(crate) process: Child,
    pub(crate) dir: TempDir,
    pub(crate) gossip: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) identity: String,
    /// The path of its admin port.
    pub(crate) admin: PathBuf,
}

impl Node {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with_log(args, "info")
    }

    /// Starts it with this filter of the log, as `RUST_LOG`.
    pub(crate) fn start_with_log(args: &[&str], filter: &str) -> Self {
        Self::start_with_env(args, &[("RUST_LOG", filter)])
    }

    /// Starts it with these variables of the environment.
    pub(crate) fn start_with_env(args: &[&str], env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready.json");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let own_admin = dir.path().join("admin");
        let given = |option: &str| args.contains(&option);
        let listen = ["--listen", "127.0.0.1:0"];
        let http = ["--http", "127.0.0.1:0"];
        let listen = if given("--listen") { &[] } else { &listen[..] };
        let http = if given("--http") { &[] } else { &http[..] };
        let mut words = args.iter().skip_while(|word| **word != "--admin");
        let admin = words.nth(1).map(PathBuf::from);
        let admin_option = if admin.is_none() {
            &["--admin".as_ref(), own_admin.as_os_str()][..]
        } else {
            &[]
        };
        let mut process = command()
            .envs(env.iter().copied())
            .args(listen)
            .args(http)
            .args(["--gossip-interval", "100ms", "--ready-file"])
            .arg(&ready)
            .args(admin_option)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let ready = wait_for("the ready file", || {
            if let Some(status) = process.try_wait().unwrap() {
                let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
                panic!("the node ended at once with {status}: {log}");
            }
            let text = std::fs::read(&ready).ok()?;
            // The node renames the finished file, so it is never read incomplete.
            Some(serde_json::from_slice::<Value>(&text).unwrap())
        });
        assert_eq!(ready["pid"], process.id());
        // The log has a thread of its own. What is logged before this line has been written then.
        wait_for("the log of the start", || {
            let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
            log.contains("gossip_node::run: started").then_some(())
        });
        Self {
            gossip: ready["gossip"].as_str().unwrap().parse().unwrap(),
            http: ready["http"].as_str().unwrap().parse().unwrap(),
            identity: ready["identity"].as_str().unwrap().to_owned(),
            admin: admin.unwrap_or(own_admin),
            process,
            dir,
        }
    }

    /// Runs a subcommand with this node.
    pub(crate) fn admin(&self, args: &[&str]) -> Output {
        subcommand(&self.admin, args).output().unwrap()
    }

    /// Runs a subcommand with this node, and with something on its stdin.
    pub(crate) fn admin_with_input(&self, args: &[&str], input: &str) -> Output {
        let mut command = subcommand(&self.admin, args);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        process.wait_with_output().unwrap()
    }

    /// Returns an entry of the node's `/proc/PID/status` that is in kilobytes, such as `VmRSS`.
    pub(crate) fn memory(&self, entry: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(entry)?.strip_prefix(':'));
        let kilobytes = line.unwrap().split_whitespace().next().unwrap();
        kilobytes.parse().unwrap()
    }

    /// Runs a subcommand that must succeed, and returns what it prints.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.admin(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            self.http,
            body.len()
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer[9..12].parse().unwrap(), answer)
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let (code, answer) = self.request("GET", path, "", "");
        assert_eq!(code, 200, "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    pub(crate) fn live_members(&self) -> Vec<String> {
        let status = self.json("/status");
        let members = status["members"].as_array().unwrap();
        let live = members.iter().filter(|member| member["live"] == true);
        live.map(|member| member["id"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn key_of(&self, id: &str, key: &str) -> Option<String> {
        let status = self.json("/status");
        let members = status["members"].as_array().unwrap();
        let member = members.iter().find(|member| member["id"] == id)?;
        Some(member["keys"].get(key)?.as_str().unwrap().to_owned())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Waits until the log contains `text`: it has a thread of its own.
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_for(text, || self.log().contains(text).then_some(()));
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.process, name);
    }

    /// Waits until the program has ended, and returns its exit code and stdout.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let status = wait_for("the node's end", || self.process.try_wait().unwrap());
        let mut stdout = String::new();
        let pipe = self.process.stdout.as_mut().unwrap();
        pipe.read_to_string(&mut stdout).unwrap();
        (status.code(), stdout)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking()
            && let Ok(log) = std::fs::read_to_string(self.dir.path().join("log"))
        {
            eprintln!("log of {}:\n{log}", self.gossip);
        }
    }
}

/// Sends the signal `name`, such as `TERM`, to a process.
pub(crate) fn signal(process: &Child, name: &str) {
    let kill = format!("kill -{name} {}", process.id());
    let sent = Command::new("sh").args(["-c", &kill]).status();
    assert!(sent.unwrap().success());
}

/// Polls until `ask` returns a value, since the programs under test cannot send an event.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
