//! Against pebble, the certificate authority for tests of Let's Encrypt, which validates names and signatures. These tests
//! are skipped where it is not installed, and fail instead if the environment variable CI is set.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use gossip_transport::acme::{Acme, AcmeConfig, ExternalAccount, RunningAcme};
use gossip_transport::net::{AcceptFailure, NetIncomingRequest as _};
use gossip_transport::tcp::{TcpConfig, TcpConnection, TcpIncomingRequest, TlsRoots};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::store::Store;
use super::{NEVER, SOON, names, until_failed, until_issued};
use crate::networks::tcp_listener::client::Server;
use crate::networks::tcp_listener::converse;
use crate::support::until;
use crate::tls::certificates::Ca;
use crate::tls::dial;

/// Pebble with its server of DNS, which answers 127.0.0.1 for every name.
struct Pebble {
    ca: Ca,
    directory: SocketAddr,
    management: SocketAddr,
    dns: SocketAddr,
    dir: TempDir,
    /// The share of good nonces that it rejects, in percent. Real authorities reject none.
    rejected_nonces: &'static str,
    processes: Vec<Child>,
}

/// The id and the key by which Pebble knows a customer, if it issues certificates to customers only.
const CUSTOMER: (&str, &[u8]) = ("customer-1", b"a key of 256 bits, or even longer");

/// Returns the path of a program, or `None` if the test is to be skipped.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|dir| dir.join(name).is_file());
    if found.is_none() {
        let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        assert!(!is_ci, "{name} is missing: apt-get install pebble");
        println!("skipped: {name} is missing (apt-get install pebble)");
    }
    Some(found?.join(name))
}

fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

impl Pebble {
    /// Prepares one that validates at `port`, and issues certificates for `lifetime`. Returns `None` if there is no pebble.
    fn prepare(port: u16, lifetime: Duration) -> Option<Self> {
        program("pebble")?;
        program("pebble-challtestsrv")?;
        let this = Self {
            ca: Ca::new(),
            directory: free_port(),
            management: free_port(),
            dns: free_port(),
            dir: tempfile::tempdir().unwrap(),
            rejected_nonces: "0",
            processes: Vec::new(),
        };
        this.configure(
            port,
            json!({ "certificateValidityPeriod": lifetime.as_secs() }),
        );
        Some(this)
    }

    /// Writes its configuration, with `more` in it.
    fn configure(&self, port: u16, more: Value) {
        let issued = self.ca.issue(&["localhost"]);
        let file = |name: &str, text: &str| {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut config = json!({ "pebble": {
            "listenAddress": self.directory.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": file("cert.pem", &issued.certificate),
            "privateKey": file("key.pem", &issued.key),
            "httpPort": 9,
            "tlsPort": port,
        }});
        let fields = config["pebble"].as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        file("config.json", &config.to_string());
    }

    /// Starts it.
    async fn run(&mut self) {
        let management = free_port().to_string();
        let mut dns = Command::new("pebble-challtestsrv");
        dns.args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1"]);
        dns.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        dns.args(["-dns01", &self.dns.to_string(), "-management", &management]);
        let mut pebble = Command::new("pebble");
        pebble
            .arg("-config")
            .arg(self.dir.path().join("config.json"));
        pebble.args(["-dnsserver", &self.dns.to_string()]);
        // It validates each name each time.
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        pebble.env("PEBBLE_AUTHZREUSE", "0");
        pebble.env("PEBBLE_WFE_NONCEREJECT", self.rejected_nonces);
        for command in [&mut dns, &mut pebble] {
            command.stdout(Stdio::null()).stderr(Stdio::null());
            self.processes.push(command.spawn().unwrap());
        }
        for addr in [self.management, self.directory, self.dns] {
            until("pebble", async || TcpStream::connect(addr).await.is_ok()).await;
        }
    }

    async fn start(port: u16, lifetime: Duration) -> Option<Self> {
        let mut this = Self::prepare(port, lifetime)?;
        this.run().await;
        Some(this)
    }

    fn config(&self, of: &[&str]) -> AcmeConfig {
        AcmeConfig::new(names(of))
            .with_contact(vec!["mailto:admin@node.test".to_owned()])
            .with_directory(format!("https://localhost:{}/dir", self.directory.port()))
            .with_roots(self.ca.roots())
            .with_retry(SOON)
    }

    /// Returns the authorities by which it issues certificates.
    async fn roots(&self) -> TlsRoots {
        let connector = self.ca.connector(&rustls::version::TLS13, &[b"http/1.1"]);
        let stream = TcpStream::connect(self.management).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let request = "GET /roots/0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        TlsRoots::from_pem(&answer).unwrap()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Reads outcomes until a peer has connected. Returns it with the names that were validated before.
async fn accepted(server: &mut Server) -> (TcpConnection, Vec<String>) {
    let mut validated = Vec::new();
    loop {
        match server.outcome().await {
            Ok(connection) => return (connection, validated),
            Err(error) => {
                let failure = TcpIncomingRequest::failure(&error);
                assert_eq!(failure, Some(AcceptFailure::Validation), "{error:#}");
                let error = error.to_string();
                let name = error.split(' ').nth(7).unwrap();
                validated.push(name.to_owned());
            }
        }
    }
}

/// Starts a server with the certificate that `pebble` will issue for `of`.
async fn node(
    port: u16,
    pebble: &Pebble,
    of: &[&str],
    store: &Arc<Store>,
) -> (Server, RunningAcme) {
    start(port, open(pebble, of, store).await).await
}

async fn open(pebble: &Pebble, of: &[&str], store: &Arc<Store>) -> Acme {
    let store: Arc<Store> = Arc::clone(store);
    Acme::open(pebble.config(of), store).await.unwrap()
}

async fn start(port: u16, acme: Acme) -> (Server, RunningAcme) {
    let config = TcpConfig::default().with_tls(Some(acme.identity().clone()));
    let server = Server::start_at(([127, 0, 0, 1], port).into(), config).await;
    (server, acme.start())
}

#[tokio::test]
async fn pebble_issues_a_certificate_for_names_and_addresses() {
    let port = free_port().port();
    let Some(mut pebble) = Pebble::prepare(port, Duration::from_secs(3600)) else {
        return;
    };
    // An order is repeated if three nonces in a row are rejected.
    pebble.rejected_nonces = "15";
    pebble.run().await;
    let store = Arc::default();
    let of = ["node.test", "localhost", "127.0.0.1"];
    let (mut server, acme) = node(port, &pebble, &of, &store).await;
    until_issued(&acme, 1).await;
    let roots = pebble.roots().await;
    let mut validated = Vec::new();
    for host in ["localhost", "127.0.0.1"] {
        let here = dial(&server, host, roots.clone()).await.unwrap();
        let (there, names) = accepted(&mut server).await;
        validated.extend(names);
        converse(&here, &there).await;
    }
    for name in ["node.test", "localhost", "1.0.0.127.in-addr.arpa"] {
        assert!(validated.iter().any(|found| found == name), "{validated:?}");
    }
    // The account and the certificate last, and nothing is ordered again.
    drop((acme, server));
    let (mut server, acme) = node(free_port().port(), &pebble, &of, &store).await;
    let here = dial(&server, "localhost", roots).await.unwrap();
    converse(&here, &accepted(&mut server).await.0).await;
    assert_eq!(acme.status().orders, 0);
}

#[tokio::test]
async fn a_renewal_drops_no_connection() {
    let port = free_port().port();
    let Some(mut pebble) = Pebble::prepare(port, Duration::from_secs(12)) else {
        return;
    };
    let store = Arc::default();
    let acme = open(&pebble, &["localhost"], &store).await;
    let identity = acme.identity().clone();
    let (mut server, acme) = start(port, acme).await;
    // It is not there yet.
    assert_eq!(until_failed(&acme).await, "unreachable");
    let error = dial(&server, "localhost", pebble.ca.roots())
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("refused the TLS handshake"),
        "{error:#}"
    );
    let error = server.outcome().await.unwrap_err();
    assert_eq!(
        TcpIncomingRequest::failure(&error),
        Some(AcceptFailure::Tls)
    );
    let error = format!("{error:#}");
    assert!(error.contains("no certificate for TLS yet"), "{error}");

    pebble.run().await;
    until_issued(&acme, 1).await;
    let roots = pebble.roots().await;
    let here = dial(&server, "localhost", roots.clone()).await.unwrap();
    let (there, _) = accepted(&mut server).await;
    converse(&here, &there).await;
    let first = identity.expires_at();
    until_issued(&acme, 2).await;
    assert!(identity.expires_at() > first);
    converse(&here, &there).await;
    let again = dial(&server, "localhost", roots).await.unwrap();
    converse(&again, &accepted(&mut server).await.0).await;
    converse(&here, &there).await;
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_named_with_what_the_authority_found() {
    // Nobody answers at the port that is validated.
    let Some(pebble) = Pebble::start(free_port().port(), Duration::from_secs(3600)).await else {
        return;
    };
    let (mut server, acme) =
        node(free_port().port(), &pebble, &["node.test"], &Arc::default()).await;
    assert_eq!(until_failed(&acme).await, "validation");
    let error = acme.status().last_error.unwrap().to_string();
    assert!(error.contains("could not validate node.test ("), "{error}");
    assert!(error.contains("Failed to connect to 127.0.0.1"), "{error}");
    assert!(error.contains("port 443 must lead to"), "{error}");
    drop(acme);
    let here = server.dial_raw().await.unwrap();
    converse(&here, &accepted(&mut server).await.0).await;
}

#[tokio::test]
async fn an_account_is_bound_to_that_of_a_customer_if_the_authority_issues_to_customers_only() {
    let port = free_port().port();
    let Some(mut pebble) = Pebble::prepare(port, Duration::from_secs(3600)) else {
        return;
    };
    let (key_id, key) = CUSTOMER;
    pebble.configure(
        port,
        json!({
            "externalAccountBindingRequired": true,
            "externalAccountMACKeys": { key_id: BASE64URL_NOPAD.encode(key) },
        }),
    );
    pebble.run().await;
    for (account, outcome, remedy) in [
        (
            None,
            Some("external_account_required"),
            "--acme-eab-key-id ID",
        ),
        (
            Some((key_id, &key[1..])),
            Some("external_account"),
            "check the key id",
        ),
        (
            Some(("customer-2", key)),
            Some("external_account"),
            "check the key id",
        ),
        (Some((key_id, key)), None, ""),
    ] {
        let account = account.map(|(key_id, key)| ExternalAccount {
            key_id: key_id.to_owned(),
            key: key.to_vec(),
        });
        let config = pebble
            .config(&["localhost"])
            .with_retry(NEVER)
            .with_external_account(account);
        let store: Arc<Store> = Arc::default();
        let acme = Acme::open(config, store).await.unwrap();
        let tls = TcpConfig::default().with_tls(Some(acme.identity().clone()));
        let Some(kind) = outcome else {
            let _server = Server::start_at(([127, 0, 0, 1], port).into(), tls).await;
            until_issued(&acme.start(), 1).await;
            continue;
        };
        // Nothing is validated.
        let acme = acme.start();
        assert_eq!(until_failed(&acme).await, kind);
        let error = acme.status().last_error.unwrap().to_string();
        assert!(error.contains(remedy), "{error}");
    }
}
