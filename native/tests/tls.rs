//! A node with a certificate: who joins through it, and what happens when its files change.

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

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use support::process::{Node, run, stderr, wait_for};
use tempfile::TempDir;

/// An authority with its files, and those of a certificate that it has issued last.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    dir: TempDir,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(dir.path().join("ca.pem"), pem).unwrap();
        let issuer = Issuer::new(params, key);
        let ca = Self { issuer, dir };
        ca.issue();
        ca
    }

    /// Replaces the files of the certificate and its key.
    fn issue(&self) {
        let (certificate, key) = self.issued(|_| {});
        std::fs::write(self.file("cert.pem"), certificate).unwrap();
        std::fs::write(self.file("key.pem"), key).unwrap();
    }

    /// Replaces the files by those of a certificate that expires at `end`.
    fn issue_until(&self, (year, month, day): (i32, u8, u8)) {
        let end = date_time_ymd(year, month, day);
        let (certificate, key) = self.issued(|params| params.not_after = end);
        std::fs::write(self.file("cert.pem"), certificate).unwrap();
        std::fs::write(self.file("key.pem"), key).unwrap();
    }

    /// Returns a new certificate and its key.
    fn issued(&self, adapt: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        adapt(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        (certificate, key.serialize_pem())
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn start(&self, args: &[&str]) -> Node {
        let (cert, key) = (self.file("cert.pem"), self.file("key.pem"));
        let tls = ["--trust-anyone", "--tls-cert", &cert, "--tls-key", &key];
        Node::start(&[&tls, args].concat())
    }

    /// Starts the node b, which trusts the authority and dials `seed` by its name.
    fn join(&self, seed: &Node) -> Node {
        let seed = format!("tls://localhost:{}", seed.gossip.port());
        let ca = self.file("ca.pem");
        let trust = ["--trust-anyone", "--tls-ca", &ca];
        Node::start(&[&trust[..], &["--id", "b", "--seed", &seed]].concat())
    }
}

fn wait_until_both_are_live(nodes: [&Node; 2]) {
    for node in nodes {
        wait_for("both to be live", || {
            (node.live_members() == ["a", "b"]).then_some(())
        });
    }
}

#[test]
fn a_node_joins_through_tls_and_the_files_are_read_again_without_losing_it() {
    let ca = Ca::new();
    let a = ca.start(&["--id", "a", "--tls-only"]);
    let b = ca.join(&a);
    wait_until_both_are_live([&a, &b]);

    ca.issue();
    a.wait_for_log("the TLS certificate was replaced");
    std::fs::remove_file(ca.file("key.pem")).unwrap();
    a.wait_for_log("the node still uses its earlier TLS certificate");
    ca.issue();
    wait_for("the second replacement", || {
        let replaced = a.log().matches("the TLS certificate was replaced").count();
        (replaced == 2).then_some(())
    });
    a.signal("HUP");
    a.wait_for_log("SIGHUP: the TLS certificate is the same as before");
    wait_until_both_are_live([&a, &b]);
    assert!(!a.log().contains("leaving"), "{}", a.log());
    a.signal("TERM");
    assert_eq!(a.ended().0, Some(0));
}

#[test]
fn the_first_member_is_ready_though_its_only_seed_is_its_own_name_inside_tls() {
    let ca = Ca::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = port.local_addr().unwrap().to_string();
    let seed = format!("tls://localhost:{}", port.local_addr().unwrap().port());
    drop(port);
    let ca_file = ca.file("ca.pem");
    let args = ["--listen", &listen, "--seed", &seed, "--tls-ca", &ca_file];
    let node = ca.start(&[&args[..], &["--tls-only", "--id", "a"]].concat());
    wait_for("it to be ready", || {
        (node.request("GET", "/readyz", "", "").0 == 200).then_some(())
    });
}

#[test]
fn certificates_that_cannot_be_used_end_the_start_with_the_reason() {
    let ca = Ca::new();
    let (cert, key) = (ca.file("cert.pem"), ca.file("key.pem"));
    let none = ca.file("none.pem");
    for (args, code, reason) in [
        (&["--tls-cert", &cert][..], 2, "--tls-key"),
        (&["--tls-only"], 2, "--tls-cert <FILE>|--acme <CONTACT>"),
        (&["--tls-cert", &none, "--tls-key", &key], 1, &*none),
        (
            &["--tls-cert", &cert, "--tls-key", &cert],
            1,
            "no private key",
        ),
        (&["--tls-ca", &key], 1, "no certificate"),
        (&["--seed", "tls://node.example"], 2, "tls://host:port"),
    ] {
        let base = ["--trust-anyone", "--listen", "127.0.0.1:0"];
        let output = run(&[&base, args].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(reason), "{args:?}: {text}");
    }
    let checked = run(&[
        "--trust-anyone",
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--check-config",
    ]);
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(
        text.contains("# TLS certificate: expires 4096-01-01"),
        "{text}"
    );
}

/// The lines of a node's log that are about the files of its certificate, without the one about the mode of the key's.
fn about_files(node: &Node) -> Vec<String> {
    let log = node.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("tls_files") && !line.contains("chmod"));
    lines.map(str::to_owned).collect()
}

/// Returns the value of a metric.
fn metric(node: &Node, name: &str) -> u64 {
    let (_, answer) = node.request("GET", "/metrics", "", "");
    let mut lines = answer.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect(name).parse().unwrap()
}

#[test]
fn without_an_option_the_authorities_of_the_system_are_trusted() {
    let ca = Ca::new();
    let a = ca.start(&["--id", "a", "--tls-only"]);
    let seed = format!("tls://localhost:{}", a.gossip.port());
    let join = ["--trust-anyone", "--id", "b", "--seed", &seed];
    // As on a system on which the authority was installed.
    let installed = ca.file("ca.pem");
    let env = [("RUST_LOG", "info"), ("SSL_CERT_FILE", &*installed)];
    let b = Node::start_with_env(&join, &env);
    wait_until_both_are_live([&a, &b]);
}

#[test]
fn files_behind_symbolic_links_are_read_again_when_a_link_is_replaced() {
    use std::os::unix::fs::symlink;

    let ca = Ca::new();
    let write = |name: &str| {
        let dir = ca.dir.path().join(name);
        let (certificate, key) = ca.issued(|_| {});
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("cert.pem"), certificate).unwrap();
        std::fs::write(dir.join("key.pem"), key).unwrap();
    };
    // As Kubernetes does: the files are links into a folder that is a link, and that one is replaced.
    std::fs::remove_file(ca.file("cert.pem")).unwrap();
    std::fs::remove_file(ca.file("key.pem")).unwrap();
    write("first");
    symlink("first", ca.file("data")).unwrap();
    symlink("data/cert.pem", ca.file("cert.pem")).unwrap();
    symlink("data/key.pem", ca.file("key.pem")).unwrap();
    let a = ca.start(&["--id", "a"]);
    let replaced = |count| {
        wait_for("the certificate to be replaced", || {
            let found = a.log().matches("the TLS certificate was replaced").count();
            (found == count).then_some(())
        });
    };
    // Twice, since files are read once more soon after the start.
    for (name, count) in [("second", 1), ("third", 2)] {
        write(name);
        symlink(name, ca.file("new")).unwrap();
        std::fs::rename(ca.file("new"), ca.file("data")).unwrap();
        replaced(count);
    }
    // As certbot does: each file is a link, and both are replaced.
    write("fourth");
    for name in ["cert.pem", "key.pem"] {
        symlink(format!("fourth/{name}"), ca.file("new")).unwrap();
        std::fs::rename(ca.file("new"), ca.file(name)).unwrap();
    }
    replaced(3);
    assert_eq!(about_files(&a).len(), 3, "{:?}", about_files(&a));
}

#[test]
fn a_certificate_whose_key_comes_a_moment_later_is_used_without_a_warning() {
    let ca = Ca::new();
    let a = ca.start(&["--id", "a"]);
    let (certificate, key) = ca.issued(|_| {});
    std::fs::write(ca.file("cert.pem"), certificate).unwrap();
    // The files that do not match have been seen, and read.
    wait_for("the first attempt", || {
        (metric(&a, "gossip_tls_reload_failures_total") > 0).then_some(())
    });
    std::fs::write(ca.file("key.pem"), key).unwrap();
    a.wait_for_log("the TLS certificate was replaced");
    assert_eq!(about_files(&a).len(), 1, "{:?}", about_files(&a));
}

#[test]
fn files_that_cannot_be_used_are_counted_and_reported_once_and_the_earlier_certificate_stays() {
    let ca = Ca::new();
    let a = ca.start(&["--id", "a", "--tls-only"]);
    let count = || metric(&a, "gossip_tls_reload_failures_total");
    assert_eq!(count(), 0);
    let year_4096 = 67_090_118_400;
    let expires = || metric(&a, "gossip_tls_certificate_expiry_timestamp_seconds");
    assert_eq!(expires(), year_4096);

    let (expired, key) = ca.issued(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    std::fs::write(ca.file("cert.pem"), expired).unwrap();
    std::fs::write(ca.file("key.pem"), key).unwrap();
    a.wait_for_log("the node still uses its earlier TLS certificate");
    let reported = count();
    wait_for("two more looks", || (count() >= reported + 2).then_some(()));
    let lines = about_files(&a);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("has expired"), "{lines:?}");
    assert_eq!(expires(), year_4096);
    let status = a.json("/status");
    assert!(status["tls"]["reload_failures"].as_u64() >= Some(reported));
    assert!(
        status["tls"]["certificate"]["expires"]
            .as_str()
            .unwrap()
            .starts_with("4096-")
    );

    // Whoever asks is told at once.
    a.signal("HUP");
    wait_for("the answer to SIGHUP", || {
        (about_files(&a).len() == 2).then_some(())
    });
}

#[test]
fn a_node_that_is_dialled_by_a_name_of_loopback_is_known_by_the_address_that_it_states() {
    let ca = Ca::new();
    let a = ca.start(&["--id", "a", "--tls-only"]);
    let b = ca.join(&a);
    wait_until_both_are_live([&a, &b]);
    // It has dialled nothing else: the address that it has learned by gossip leads to the same connection.
    let stats = &b.json("/status")["stats"];
    assert_eq!(stats["dials_failed"], 0, "{stats}");
    let peers = stats["peers"].as_object().unwrap();
    let expected = a.gossip.to_string();
    assert_eq!(peers.keys().collect::<Vec<_>>(), [&expected]);
}

#[test]
fn a_node_shows_when_the_certificate_of_its_files_expires_and_follows_their_replacement() {
    let ca = Ca::new();
    // 2100-01-02 and 2100-01-03.
    const FIRST: u64 = 4_102_531_200;
    const SECOND: u64 = FIRST + 86_400;
    ca.issue_until((2100, 1, 2));
    let a = ca.start(&["--id", "a"]);
    let shown = || {
        let status = a.json("/status")["tls"].clone();
        let (_, metrics) = a.request("GET", "/metrics", "", "");
        assert!(!metrics.contains("gossip_acme_"), "{metrics}");
        let name = "gossip_tls_certificate_expiry_timestamp_seconds ";
        let mut lines = metrics.lines();
        let metric = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        (metric.parse::<u64>().unwrap(), status)
    };
    let (metric, status) = shown();
    assert_eq!(metric, FIRST);
    let certificate = &status["certificate"];
    assert_eq!(certificate["expires"], "2100-01-02T00:00:00Z");
    assert_eq!(certificate["expires_at"], FIRST);
    let rest = certificate["remaining_seconds"].as_u64().unwrap();
    assert!(rest > 0 && rest < FIRST, "{status}");
    assert!(status.get("acme").is_none(), "{status}");

    ca.issue_until((2100, 1, 3));
    wait_for("the other certificate", || {
        (shown().0 == SECOND).then_some(())
    });

    // One without TLS shows nothing of it.
    let b = Node::start(&["--trust-anyone", "--id", "b"]);
    assert!(b.json("/status")["tls"].is_null());
    let (_, metrics) = b.request("GET", "/metrics", "", "");
    assert!(!metrics.contains("gossip_tls_"), "{metrics}");
}
