//! Starts the program and observes it from outside: its output, exit code, ports, files and HTTP.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking, and runs natively"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::process::{Node, run, stderr, wait_for};

#[test]
fn a_node_listens_on_a_host_name() {
    let node = Node::start(&["--trust-anyone", "--listen", "localhost:0"]);
    assert!(node.gossip.ip().is_loopback());
}

#[test]
fn no_name_looks_like_another_field_of_a_log_line() {
    let (id, cluster) = ("a addr=192.0.2.9:1", "b started");
    let node = Node::start(&["--trust-anyone", "--id", id, "--cluster", cluster]);
    let line = wait_for("the line of the start", || {
        let log = node.log();
        let line = log.lines().find(|line| line.contains("seeds="));
        line.map(str::to_owned)
    });
    for quoted in [format!("{id:?}"), format!("{cluster:?}")] {
        assert!(line.contains(&quoted), "{line}");
    }
}

#[test]
fn a_port_in_use_is_reported_with_its_address_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for args in [
        &["--trust-anyone", "--listen", &addr][..],
        &["--trust-anyone", "--listen", "127.0.0.1:0", "--http", &addr],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let text = stderr(&output);
        assert!(text.contains(&addr) && text.contains("in use"), "{text}");
    }
}

#[test]
fn two_nodes_find_each_other_by_host_name_and_see_keys_change() {
    let a = Node::start(&["--trust-anyone", "--id", "a", "--set", "color=red"]);
    let seed = format!("localhost:{}", a.gossip.port());
    let b = Node::start(&["--trust-anyone", "--id", "b", "--seed", &seed]);
    for node in [&a, &b] {
        wait_for("both to be live", || {
            (node.live_members() == ["a", "b"]).then_some(())
        });
    }
    let b_sees = |value: Option<&str>| {
        wait_for("b to see a's key", || {
            (b.key_of("a", "color").as_deref() == value).then_some(())
        });
    };
    b_sees(Some("red"));
    a.run(&["set", "color", "green"]);
    b_sees(Some("green"));
    a.run(&["delete", "color"]);
    b_sees(None);
    assert_eq!(a.admin(&["delete", "color"]).status.code(), Some(1));

    let config = b.json("/config.json");
    let seeds = config["seeds"].as_array().unwrap();
    assert_eq!(
        seeds[0],
        b.gossip.to_string(),
        "the node that serves comes first"
    );
    assert!(seeds.contains(&Value::String(a.gossip.to_string())));
    assert_eq!(config["gossip_interval_ms"], 100);
}

#[test]
fn the_status_says_which_generation_of_a_restarted_member_is_superseded() {
    let a = Node::start(&["--trust-anyone", "--id", "a"]);
    let seed = a.gossip.to_string();
    let start = |listen: &str| {
        let args = ["--trust-anyone", "--id", "b", "--listen", listen];
        Node::start(&[&args[..], &["--seed", &seed]].concat())
    };
    let b = start("127.0.0.1:0");
    let listen = b.gossip.to_string();
    wait_for("b to be live", || {
        (a.live_members() == ["a", "b"]).then_some(())
    });
    drop(b);
    let _b = start(&listen);
    wait_for("the second generation to take precedence", || {
        let status = a.json("/status");
        let members = status["members"].as_array().unwrap().iter();
        let mut generations: Vec<_> = members.filter(|member| member["id"] == "b").collect();
        // A live one takes precedence, and among those that are live the later one.
        let rank = |member: &&Value| (member["live"] == true, member["generation"].as_u64());
        generations.sort_by_key(rank);
        let current = generations.pop().unwrap();
        assert_eq!(current["superseded"], false, "{status:#}");
        let [earlier] = generations[..] else {
            return None;
        };
        assert_eq!(earlier["superseded"], true, "{status:#}");
        (current["generation"].as_u64() > earlier["generation"].as_u64()).then_some(())
    });
}

#[test]
fn a_signal_ends_the_node_within_two_seconds_with_exit_code_0_and_frees_its_ports() {
    for signal in ["TERM", "INT", "HUP"] {
        let node = Node::start(&["--trust-anyone"]);
        let (gossip, http, identity) = (node.gossip, node.http, node.identity.clone());
        // An idle HTTP connection must not delay the exit.
        let mut open = TcpStream::connect(http).unwrap();
        write!(open, "GET /status HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        open.read_exact(&mut [0]).unwrap();
        let start = Instant::now();
        node.signal(signal);
        let (code, stdout) = node.ended();
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(code, Some(0), "SIG{signal}");
        assert_eq!(
            stdout,
            format!("listening on {gossip}, identity {identity}, http://{http}/\n")
        );
        drop(open);
        TcpListener::bind(gossip).unwrap();
        TcpListener::bind(http).unwrap();
    }
}

/// Others are told the last change, that the node leaves, and that the connection ends. A node that is killed says
/// none of it.
#[test]
fn others_see_a_node_leave_in_the_same_way_whichever_signal_ends_it() {
    let leaving = ["TERM", "INT", "HUP"].map(|signal| {
        let a = Node::start(&["--trust-anyone", "--id", "a"]);
        let seed = a.gossip.to_string();
        let b = Node::start(&["--trust-anyone", "--id", "b", "--seed", &seed]);
        (signal, a, b)
    });
    for (signal, a, b) in leaving {
        for node in [&a, &b] {
            wait_for("both to be live", || {
                (node.live_members() == ["a", "b"]).then_some(())
            });
        }
        b.run(&["set", "last", signal]);
        let addr = format!("addr={}", b.gossip);
        b.signal(signal);
        assert_eq!(b.ended().0, Some(0), "SIG{signal}");
        let end = wait_for("the end of the connection", || {
            let log = a.log();
            let mut lines = log.lines();
            let end = lines.find(|line| line.contains("connection ended") && line.contains(&addr));
            end.map(str::to_owned)
        });
        assert!(end.contains("the peer said goodbye"), "SIG{signal}: {end}");
        assert_eq!(a.key_of("b", "last").as_deref(), Some(signal));
        // With the same message as the last change.
        assert_eq!(a.live_members(), ["a"]);
        let members = a.run(&["members"]);
        assert!(members.contains("b   left"), "{members}");
        a.wait_for_log("membership_log: left ");
    }
}

#[test]
fn the_page_is_served_with_content_types_and_security_headers() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str| std::fs::write(root.path().join(name), "x").unwrap();
    write("index.html");
    write("app.js");
    write("gossip_web_bg.wasm");
    let dir: &Path = root.path();
    let node = Node::start(&["--trust-anyone", "--web-root", dir.to_str().unwrap()]);
    for (path, mime) in [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/gossip_web_bg.wasm", "application/wasm"),
    ] {
        let (code, answer) = node.request("GET", path, "", "");
        let answer = answer.to_lowercase();
        assert_eq!(code, 200, "{path}");
        assert!(
            answer.contains(&format!("content-type: {mime}")),
            "{answer}"
        );
        assert!(answer.contains("cache-control: no-store"), "{answer}");
        assert!(
            answer.contains("script-src 'self' 'wasm-unsafe-eval'"),
            "{answer}"
        );
    }
    for path in ["/none", "/../ready.json", "/%2e%2e/ready.json"] {
        assert_eq!(node.request("GET", path, "", "").0, 404, "{path}");
    }
    let (code, metrics) = node.request("GET", "/metrics", "", "");
    assert_eq!(code, 200);
    assert!(
        metrics.contains("gossip_members{state=\"live\"} 1"),
        "{metrics}"
    );
}

#[test]
fn a_seed_that_is_down_is_dialled_again_and_the_status_shows_when() {
    let down = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let node = Node::start(&["--trust-anyone", "--id", "n", "--seed", &down]);
    wait_for("the node to wait between two dials", || {
        let status = node.json("/status");
        let peer = &status["stats"]["peers"][&down];
        let wait = peer["next_dial_seconds"].as_f64()?;
        (peer["state"] == "backing_off" && wait > 0.0 && wait <= 1.0).then_some(())
    });
    // The log states the cause once.
    let failed = wait_for("the line about the dial", || {
        let log = node.log();
        let failed = log.lines().find(|line| line.contains("dial failed"));
        failed.map(str::to_owned)
    });
    assert_eq!(failed.matches("os error").count(), 1, "{failed}");
}

/// Nobody answers at the seeds.
#[test]
fn a_node_on_every_interface_advertises_the_address_that_leads_to_its_first_seed() {
    for network in [&["--trust-anyone"][..], &["--trust-anyone", "--udp"]] {
        for (listen, seed) in [
            ("0.0.0.0:0", "127.0.0.1:9"),
            ("0.0.0.0:0", "localhost:9"),
            ("[::]:0", "127.0.0.1:9"),
        ] {
            let addrs = ["--listen", listen, "--seed", seed, "--seed", "192.0.2.1:9"];
            let node = Node::start(&[network, &addrs].concat());
            let status = node.json("/status");
            let expected = format!("127.0.0.1:{}", node.gossip.port());
            assert_eq!(status["addr"], expected, "{listen} {seed}");
            let members = status["members"].as_array().unwrap();
            assert_eq!(members.len(), 1);
            assert_eq!(members[0]["addr"], expected);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn datagrams_from_thousands_of_addresses_write_few_lines_to_the_log() {
    const ADDRS: u16 = 3_000;
    let node = Node::start(&["--trust-anyone", "--udp"]);
    for n in 0..ADDRS {
        let [high, low] = n.to_be_bytes();
        // On Linux, all of 127.0.0.0/8 is this machine.
        let socket = UdpSocket::bind(SocketAddr::from(([127, 9, high, low], 0))).unwrap();
        // A BadCluster message.
        socket.send_to(&[0x53, 0xb0, 0, 3], node.gossip).unwrap();
        if n % 100 == 99 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let accepted = |node: &Node| node.json("/status")["stats"]["accepted"].as_u64().unwrap();
    // Some datagrams find no room.
    wait_for("connections from many addresses", || {
        (accepted(&node) > 300).then_some(())
    });
    let lines = node.log().lines().count();
    assert!(lines < 100, "{lines} lines");
    // What the engine has refused is shown.
    let (_, metrics) = node.request("GET", "/metrics", "", "");
    let (_, count) = metrics.split_once("\ngossip_rejections_total ").unwrap();
    assert!(count.lines().next().unwrap().parse::<u64>().unwrap() > 0);
}

#[test]
fn a_node_whose_seed_does_not_answer_says_so_and_why() {
    // Nothing listens there: the port was free, and is closed again.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let closed = closed.unwrap().to_string();
    let node = Node::start(&["--trust-anyone", "--id", "a", "--seed", &closed]);
    let line = wait_for("the line about the seed", || {
        let log = node.log();
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains("no other member has answered"));
        line.map(str::to_owned)
    });
    assert!(line.contains(&closed), "{line}");
    assert!(line.contains("refused"), "{line}");
}

#[test]
fn a_node_with_the_name_of_another_one_says_so() {
    let a = Node::start(&["--trust-anyone", "--id", "same"]);
    let seed = a.gossip.to_string();
    let b = Node::start(&["--trust-anyone", "--id", "same", "--seed", &seed]);
    for (node, other) in [(&a, &b), (&b, &a)] {
        wait_for("the line about the name", || {
            let log = node.log();
            let mut lines = log.lines();
            let line = lines.find(|line| line.contains("has the name of this node"))?;
            assert!(line.contains(&other.gossip.to_string()), "{line}");
            Some(())
        });
    }
}
