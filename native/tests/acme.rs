//! A node with an automatic certificate, from pebble, the certificate authority for tests of Let's Encrypt; and what its
//! arguments must be. The tests with pebble are skipped where it is not installed, and fail instead if the environment
//! variable CI is set.

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

use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use data_encoding::BASE64URL_NOPAD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use support::process::{Node, run, stderr, wait_for};
use tempfile::TempDir;

/// Pebble, which validates at one port of this machine.
struct Pebble {
    process: Child,
    directory: SocketAddr,
    dir: TempDir,
}

/// Returns whether pebble can be started.
fn has_pebble() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join("pebble").is_file());
    if !found {
        let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        assert!(!is_ci, "pebble is missing: apt-get install pebble");
        println!("skipped: pebble is missing (apt-get install pebble)");
    }
    found
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

impl Pebble {
    fn start(port: u16) -> Self {
        Self::start_with(port, json!({}))
    }

    /// Starts one with `more` in its configuration.
    fn start_with(port: u16, more: Value) -> Self {
        let (directory, management) = (free_port(), free_port());
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        file("ca.pem", &params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        let mut config = json!({ "pebble": {
            "listenAddress": directory.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": file("cert.pem", &certificate),
            "privateKey": file("key.pem", &key.serialize_pem()),
            "httpPort": 9,
            "tlsPort": port,
        }});
        let fields = config["pebble"].as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let process = Command::new("pebble")
            .arg("-config")
            .arg(file("config.json", &config.to_string()))
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("pebble", || TcpStream::connect(directory).ok());
        Self {
            process,
            directory,
            dir,
        }
    }

    /// Starts a node that listens at `listen`, with its files in `acme_dir`.
    fn node(&self, listen: SocketAddr, acme_dir: &Path, args: &[&str]) -> Node {
        let directory = format!("https://localhost:{}/dir", self.directory.port());
        let ca = self.dir.path().join("ca.pem").display().to_string();
        let (listen, acme_dir) = (listen.to_string(), acme_dir.display().to_string());
        let acme = [
            "--trust-anyone",
            "--listen",
            &listen,
            "--acme",
            "admin@node.test",
            "--domain",
            "127.0.0.1",
            "--acme-dir",
            &acme_dir,
            "--acme-directory",
            &directory,
            "--acme-ca",
            &ca,
        ];
        Node::start(&[&acme, args].concat())
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the paths of the files in `dir` whose names begin with `kind`.
fn files(dir: &Path, kind: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_kind = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        // Not one that is being written.
        name.starts_with(kind) && !name.ends_with(".tmp")
    };
    paths.filter(is_kind).collect()
}

/// Returns the value of a line of `/metrics`.
fn metric(node: &Node, name: &str) -> u64 {
    let (_, metrics) = node.request("GET", "/metrics", "", "");
    let mut lines = metrics.lines();
    let line = lines.find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

const ISSUED: &str = "the TLS certificate was issued, and is in use";

#[test]
fn a_node_gets_a_certificate_keeps_it_privately_and_orders_again_only_what_is_lost() {
    if !has_pebble() {
        return;
    }
    let listen = free_port();
    let pebble = Pebble::start(listen.port());
    let dir = tempfile::tempdir().unwrap();
    let acme_dir = dir.path().join("acme");
    let a = pebble.node(listen, &acme_dir, &["--id", "a", "--tls-only"]);
    a.wait_for_log("public certificate authorities validate names at port 443");
    a.wait_for_log(ISSUED);
    assert_eq!(std::fs::metadata(&acme_dir).unwrap().mode() & 0o777, 0o700);
    for kind in ["account-", "certificate-", "attempts-"] {
        let found = wait_for(kind, || files(&acme_dir, kind).pop());
        assert_eq!(found.metadata().unwrap().mode() & 0o777, 0o600, "{found:?}");
    }
    // The validation is counted for what it is.
    let validated = metric(&a, "gossip_accept_failures_total{reason=\"validation\"}");
    assert!(validated >= 1);
    assert_eq!(metric(&a, "gossip_accept_failed_total"), 0);
    assert!(
        !a.log().contains("refused an incoming connection"),
        "{}",
        a.log()
    );

    // Everybody who watches the node sees the certificate and what was done for it.
    let status = &a.json("/status")["tls"];
    let expires = status["certificate"]["expires_at"].as_u64().unwrap();
    let rest = status["certificate"]["remaining_seconds"].as_i64().unwrap();
    let issued = (&status["acme"]["orders"], &status["acme"]["issued"]);
    assert_eq!(issued, (&json!(1), &json!(1)), "{status}");
    assert_eq!(status["acme"]["last_error"], json!(null));
    // The default of pebble is five years.
    assert!((157_000_000..158_000_000).contains(&rest), "{status}");
    let shown = metric(&a, "gossip_tls_certificate_expiry_timestamp_seconds");
    assert_eq!(shown, expires);
    let next = metric(&a, "gossip_acme_next_order_timestamp_seconds");
    assert!(next < expires && next > expires - u64::try_from(rest).unwrap());
    for (name, value) in [
        ("gossip_acme_orders_total", 1),
        ("gossip_acme_certificates_total", 1),
        ("gossip_acme_last_attempt_failed", 0),
        ("gossip_acme_failures_total{reason=\"validation\"}", 0),
    ] {
        assert_eq!(metric(&a, name), value, "{name}");
    }

    a.signal("HUP");
    a.wait_for_log("SIGHUP: nothing is read again");
    a.signal("TERM");
    assert_eq!(a.ended().0, Some(0));

    let a = pebble.node(listen, &acme_dir, &["--id", "a", "--acme-forwarded"]);
    // It has been read before the port was bound.
    assert!(!a.log().contains("port 443"), "{}", a.log());
    a.signal("TERM");
    a.wait_for_log("leaving");
    assert!(!a.log().contains("ordering"), "{}", a.log());
    a.ended();

    // A directory that is gone is made again.
    std::fs::remove_dir_all(&acme_dir).unwrap();
    let a = pebble.node(listen, &acme_dir, &["--id", "a"]);
    a.wait_for_log(ISSUED);
    let certificate = wait_for("the file", || files(&acme_dir, "certificate-").pop());
    a.signal("TERM");
    a.ended();

    // A file that is corrupt is reported, and ordered again, not before the pause after the last order.
    std::fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nno").unwrap();
    let a = pebble.node(listen, &acme_dir, &["--id", "a"]);
    a.wait_for_log("a file of the automatic certificates cannot be used");
    assert!(!a.log().contains("ordering"), "{}", a.log());
    a.signal("TERM");
    a.ended();
    for attempts in files(&acme_dir, "attempts-") {
        std::fs::remove_file(attempts).unwrap();
    }
    let a = pebble.node(listen, &acme_dir, &["--id", "a"]);
    a.wait_for_log(ISSUED);
}

#[test]
fn an_authority_that_issues_to_its_customers_only_is_shown_the_key_of_one() {
    if !has_pebble() {
        return;
    }
    let key = BASE64URL_NOPAD.encode(&[7; 32]);
    let keys = json!({ "customer": key });
    let listen = free_port();
    let pebble = Pebble::start_with(
        listen.port(),
        json!({ "externalAccountBindingRequired": true, "externalAccountMACKeys": keys }),
    );
    let dir = tempfile::tempdir().unwrap();
    let (acme_dir, file) = (dir.path().join("acme"), dir.path().join("key"));
    let key_file = file.display().to_string();
    let customer = ["--acme-eab-key-id", "customer", "--acme-eab-key", &key_file];
    let start = |args: &[&str]| {
        // Without the pause after the attempt before.
        let _ = std::fs::remove_dir_all(&acme_dir);
        pebble.node(listen, &acme_dir, &[&["--id", "a"], args].concat())
    };

    let a = start(&[]);
    a.wait_for_log("--acme-eab-key-id ID --acme-eab-key FILE");
    let error = wait_for("the error", || {
        let status = a.json("/status")["tls"].clone();
        let error = &status["acme"]["last_error"];
        (!error.is_null()).then(|| (error.clone(), status["certificate"].clone()))
    });
    assert_eq!(error.0["reason"], "external_account_required", "{error:?}");
    assert_eq!(error.1, json!(null));
    let reason = "gossip_acme_failures_total{reason=\"external_account_required\"}";
    assert_eq!(metric(&a, reason), 1);
    assert_eq!(metric(&a, "gossip_acme_last_attempt_failed"), 1);
    assert_eq!(
        metric(&a, "gossip_tls_certificate_expiry_timestamp_seconds"),
        0
    );
    drop(a);

    std::fs::write(&file, BASE64URL_NOPAD.encode(&[8; 32])).unwrap();
    let a = start(&customer);
    a.wait_for_log("does not accept the key of the external account");
    a.wait_for_log("other users of this machine can read this file");
    drop(a);

    std::fs::write(&file, format!("{key}=\n")).unwrap();
    let a = start(&customer);
    a.wait_for_log(ISSUED);
    a.signal("TERM");
    a.ended();

    // The account is there now.
    for attempts in files(&acme_dir, "attempts-")
        .iter()
        .chain(&files(&acme_dir, "certificate-"))
    {
        std::fs::remove_file(attempts).unwrap();
    }
    let a = pebble.node(listen, &acme_dir, &["--id", "a"]);
    a.wait_for_log(ISSUED);
}

#[test]
fn arguments_that_do_not_fit_together_end_the_start_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (acme_dir, none, parent) = (path("acme"), path("none.pem"), path("a/b"));
    let (no_key, open_dir) = (path("no.key"), path("open"));
    std::fs::write(&no_key, "not base64url!").unwrap();
    std::fs::create_dir(&open_dir).unwrap();
    std::fs::set_permissions(&open_dir, Permissions::from_mode(0o777)).unwrap();
    let contact = ["--acme", "admin@node.test"];
    let whole = [
        &contact[..],
        &["--domain", "node.test", "--acme-dir", &acme_dir],
    ]
    .concat();
    let with = |more: &[&'static str]| [&whole[..], more].concat();
    let without_dir = [&contact[..], &["--domain", "node.test"]].concat();
    let without_domain = [&contact[..], &["--acme-dir", &acme_dir]].concat();
    let bad_ca = [&whole[..], &["--acme-ca", &none]].concat();
    let bad_dir = [
        &contact[..],
        &["--domain", "node.test", "--acme-dir", &parent],
    ]
    .concat();
    let with_dir = |dir| [&contact[..], &["--domain", "node.test", "--acme-dir", dir]].concat();
    let with_key = |file| {
        [
            &whole[..],
            &["--acme-eab-key-id", "id", "--acme-eab-key", file],
        ]
        .concat()
    };
    let same_dir = [&whole[..], &["--state-dir", &acme_dir]].concat();
    for (args, code, reason) in [
        (without_dir, 2, "--acme-dir"),
        (without_domain, 2, "--domain"),
        (vec!["--domain", "node.test"], 2, "--acme"),
        (vec!["--acme-forwarded"], 2, "--acme"),
        (
            with(&["--tls-cert", "a", "--tls-key", "b"]),
            2,
            "cannot be used with",
        ),
        (with(&["--domain", "*.node.test"]), 2, "wildcard"),
        (with(&["--domain", "NODE.test"]), 2, "must be there once"),
        (with(&["--acme-directory", "http://ca.test"]), 2, "https://"),
        (
            vec!["--acme", "nobody", "--domain", "a", "--acme-dir", "b"],
            2,
            "mail address",
        ),
        (same_dir, 2, "another directory"),
        (bad_ca, 1, &*none),
        (
            with(&["--acme-eab-key-id", "id"]),
            2,
            "--acme-eab-key <FILE>",
        ),
        (
            with(&["--acme-eab-key", "file"]),
            2,
            "--acme-eab-key-id <ID>",
        ),
        (
            with(&["--acme-eab-key-id", "", "--acme-eab-key", "a"]),
            2,
            "--acme-eab-key-id",
        ),
        (with_key(&none), 1, &*none),
        (
            with_key(&no_key),
            1,
            "must have the key in one line of base64url",
        ),
        // A file, and a directory in which others could replace the key.
        (with_dir(&no_key), 1, "(--acme-dir) is no directory"),
        (with_dir(&open_dir), 1, "chmod 700"),
        (bad_dir, 1, "(--acme-dir) cannot be used"),
    ] {
        let base = ["--trust-anyone", "--listen", "127.0.0.1:0"];
        let output = run(&[&base, &args[..]].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(reason), "{args:?}: {text}");
        let checked = run(&[&base, &args[..], &["--check-config"]].concat());
        assert_eq!(checked.status.code(), Some(2), "{args:?}");
    }
    let config = path("config.toml");
    let text = "trust-anyone = true\nacme = \"admin@node.test\"\ndomain = [\"node.test\", \"192.0.2.1\"]\n\
        acme-dir = \"acme\"\nacme-forwarded = true\ntls-only = true\n";
    std::fs::write(&config, text).unwrap();
    let checked = run(&["--config", &config, "--check-config"]);
    let text = String::from_utf8(checked.stdout.clone()).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    assert!(
        text.contains("# TLS certificate: for node.test 192.0.2.1, from https://acme-v02.api"),
        "{text}"
    );
    assert!(!dir.path().join("acme").exists());
}
