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

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
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
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        std::fs::write(self.file("cert.pem"), certificate).unwrap();
        std::fs::write(self.file("key.pem"), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn start(&self, args: &[&str]) -> Node {
        let (cert, key) = (self.file("cert.pem"), self.file("key.pem"));
        let tls = ["--trust-anyone", "--tls-cert", &cert, "--tls-key", &key];
        Node::start(&[&tls, args].concat())
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
    let seed = format!("tls://localhost:{}", a.gossip.port());
    let ca_file = ca.file("ca.pem");
    let join = [
        "--trust-anyone",
        "--id",
        "b",
        "--seed",
        &seed,
        "--tls-ca",
        &ca_file,
    ];
    let b = Node::start(&join);
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
