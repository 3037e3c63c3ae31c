//! A certificate authority that does what a test wants. It speaks as much of ACME as an order needs, verifies no signature,
//! and validates nothing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use gossip_transport::rt::{Task, unix_time};
use gossip_transport::tcp::TlsRoots;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SignatureAlgorithm,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::ANY_PORT;
use crate::tls::certificates::Ca;

pub struct Authority {
    pub addr: SocketAddr,
    ca: Ca,
    shared: Arc<Shared>,
    task: Option<Task>,
}

struct Shared {
    state: Mutex<State>,
    base: String,
}

/// What it does, and what it was asked.
pub struct State {
    /// Answers to the next requests for an order, instead of what is right.
    pub refusals: VecDeque<String>,
    /// The payloads of the requests for orders.
    pub orders: Vec<Value>,
    pub accounts: usize,
    /// The age of the certificates that it issues, and the time for which they are valid from now on.
    pub lifetime: (Duration, Duration),
    /// The window of renewal, from now on, if it has one.
    pub window: Option<(i64, i64)>,
    /// The account that it knows.
    pub known_account: usize,
    /// The authorization of each order, if it has one: an order is ready at once otherwise. Its status is that of the order.
    pub authorization: Option<Value>,
    /// Whether it works on each certificate without an end.
    pub is_processing: bool,
    /// The number of its first orders that become invalid while it issues the certificate.
    pub invalid: usize,
    /// Headers of the answers about an order that was begun.
    pub order_headers: &'static str,
    /// The payloads of the requests about accounts that exist.
    pub told: Vec<Value>,
    /// Answers to the next requests for a certificate, instead of what is right.
    pub broken_certificates: VecDeque<String>,
    /// The names that certificates are for instead of those of the order.
    pub names: Option<Vec<String>>,
    issuer: Issuer<'static, KeyPair>,
    finalized: Option<Vec<u8>>,
}

/// An order that never becomes ready.
pub const PENDING: &str =
    r#"{"status":"pending","authorizations":[],"finalize":"https://localhost/"}"#;

/// An answer of HTTP.
pub fn answer(status: u16, headers: &str, content: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nReplay-Nonce: bm9uY2U\r\nConnection: close\r\n{headers}Content-Type: {content}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// An answer that is a problem of ACME.
pub fn problem(status: u16, headers: &str, kind: &str) -> String {
    let body = json!({
        "type": format!("urn:ietf:params:acme:error:{kind}"),
        "detail": format!("the test wants {kind}"),
        "status": status,
    });
    answer(
        status,
        headers,
        "application/problem+json",
        &body.to_string(),
    )
}

impl Authority {
    pub async fn start() -> Self {
        Self::at(TcpListener::bind(ANY_PORT).await.unwrap(), Ca::new())
    }

    fn at(listener: TcpListener, ca: Ca) -> Self {
        let addr = listener.local_addr().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let state = State {
            refusals: VecDeque::new(),
            orders: Vec::new(),
            accounts: 0,
            lifetime: (Duration::ZERO, Duration::from_secs(90 * 24 * 3600)),
            window: None,
            known_account: 1,
            authorization: None,
            is_processing: false,
            invalid: 0,
            order_headers: "",
            told: Vec::new(),
            broken_certificates: VecDeque::new(),
            names: None,
            issuer: Issuer::new(params, KeyPair::generate().unwrap()),
            finalized: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            base: format!("https://localhost:{}", addr.port()),
        });
        let mut this = Self {
            addr,
            ca,
            shared,
            task: None,
        };
        this.serve(listener);
        this
    }

    fn serve(&mut self, listener: TcpListener) {
        let issued = self.ca.issue(&["localhost"]);
        let chain = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let shared = Arc::clone(&self.shared);
        self.task = Some(Task::spawn(async move {
            let mut serving = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                serving.retain(|task: &Task| !task.is_finished());
                serving.push(Task::spawn(async move {
                    let _ = serve(stream, acceptor, &shared).await;
                }));
            }
        }));
    }

    /// Nobody answers at its address any more.
    pub fn stop(&mut self) {
        self.task = None;
    }

    pub async fn restart(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.addr).unwrap();
        self.serve(socket.listen(64).unwrap());
    }

    pub fn directory(&self) -> String {
        self.url("/dir")
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.shared.base)
    }

    pub fn roots(&self) -> TlsRoots {
        self.ca.roots()
    }

    pub fn state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.shared.state.lock().unwrap())
    }

    /// Returns an authorization of `name` by a challenge of this type.
    pub fn authorization(&self, name: &str, challenge: &str) -> Value {
        json!({
            "status": "pending",
            "identifier": { "type": "dns", "value": name },
            "challenges": [{
                "type": challenge,
                "url": self.url("/challenge"),
                "token": "dG9rZW4",
                "status": "pending",
            }],
        })
    }

    pub fn orders(&self) -> usize {
        self.state(|state| state.orders.len())
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, shared: &Shared) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut received = Vec::new();
    let (head, body_start) = loop {
        if let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") {
            break (
                String::from_utf8_lossy(&received[..end]).into_owned(),
                end + 4,
            );
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    };
    let len = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_len = name.eq_ignore_ascii_case("content-length");
        value.trim().parse::<usize>().ok().filter(|_| is_len)
    });
    while received.len() < body_start + len.unwrap_or(0) {
        stream.read_buf(&mut received).await?;
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let body: Value = serde_json::from_slice(&received[body_start..]).unwrap_or_default();
    let decoded = |field: &str| {
        let bytes = BASE64URL_NOPAD.decode(body[field].as_str()?.as_bytes());
        serde_json::from_slice::<Value>(&bytes.ok()?).ok()
    };
    let payload = decoded("payload").unwrap_or_default();
    let account = decoded("protected").unwrap_or_default()["kid"].to_string();
    let mut answer = shared.answer(path, &account, &payload);
    if method == "HEAD" {
        answer.truncate(answer.find("\r\n\r\n").unwrap() + 4);
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

impl Shared {
    fn answer(&self, path: &str, account: &str, payload: &Value) -> String {
        let mut state = self.state.lock().unwrap();
        let url = |path: &str| format!("{}{path}", self.base);
        let json = |status, headers: &str, body: Value| {
            answer(status, headers, "application/json", &body.to_string())
        };
        let order = |state: &State| {
            let is_finalized = state.finalized.is_some();
            let is_done = is_finalized && !state.is_processing;
            let is_valid = is_done && state.orders.len() > state.invalid;
            let authorization = state.authorization.as_ref();
            let validated = authorization.map_or("ready", |it| it["status"].as_str().unwrap());
            let status = match (is_finalized, is_done, is_valid) {
                (_, _, true) => "valid",
                (_, true, false) => "invalid",
                (true, false, _) => "processing",
                (false, false, _) => validated,
            };
            let authorizations: Vec<_> = authorization
                .iter()
                .map(|_| url("/authorization"))
                .collect();
            let mut order = json!({
                "status": status,
                "identifiers": state.orders.last().unwrap()["identifiers"],
                "authorizations": authorizations,
                "finalize": url("/finalize"),
            });
            if is_valid {
                order["certificate"] = url("/certificate").into();
            } else if is_done {
                order["error"] = json!({
                    "type": "urn:ietf:params:acme:error:serverInternal",
                    "detail": "Error finalizing order",
                    "status": 500,
                });
            }
            if let Some(replaces) = state.orders.last().unwrap().get("replaces") {
                order["replaces"] = replaces.clone();
            }
            order
        };
        match path {
            "/dir" => {
                let mut directory = json!({
                    "newNonce": url("/nonce"),
                    "newAccount": url("/new-account"),
                    "newOrder": url("/new-order"),
                    "meta": { "profiles": { "classic": "90 days", "shortlived": "six days" } },
                });
                if state.window.is_some() {
                    directory["renewalInfo"] = url("/window").into();
                }
                json(200, "", directory)
            }
            "/nonce" => json(200, "", Value::Null),
            "/new-account" => {
                state.accounts += 1;
                state.known_account = state.accounts;
                let location = url(&format!("/account/{}", state.accounts));
                json(
                    201,
                    &format!("Location: {location}\r\n"),
                    json!({ "status": "valid" }),
                )
            }
            "/new-order" => {
                if !account.contains(&format!("/account/{}", state.known_account)) {
                    return problem(400, "", "accountDoesNotExist");
                }
                state.orders.push(payload.clone());
                if let Some(refusal) = state.refusals.pop_front() {
                    return refusal;
                }
                state.finalized = None;
                let location = url("/order");
                json(201, &format!("Location: {location}\r\n"), order(&state))
            }
            "/authorization" => json(200, "", state.authorization.clone().unwrap()),
            "/challenge" => json(
                200,
                "",
                state.authorization.clone().unwrap()["challenges"][0].clone(),
            ),
            "/pending" => answer(200, "", "application/json", PENDING),
            "/order" => json(200, state.order_headers, order(&state)),
            "/finalize" => {
                let request = payload["csr"].as_str().unwrap().as_bytes();
                state.finalized = Some(BASE64URL_NOPAD.decode(request).unwrap());
                json(200, "", order(&state))
            }
            "/certificate" => match state.broken_certificates.pop_front() {
                Some(broken) => broken,
                None => answer(
                    200,
                    "",
                    "application/pem-certificate-chain",
                    &state.certificate(),
                ),
            },
            path if path.starts_with("/window/") => {
                let (start, end) = state.window.unwrap();
                let now = i64::try_from(unix_time().as_secs()).unwrap();
                let date = |time: i64| rfc3339(u64::try_from(now + time).unwrap());
                let window =
                    json!({ "suggestedWindow": { "start": date(start), "end": date(end) } });
                json(200, "Retry-After: 21600\r\n", window)
            }
            path if path.starts_with("/account/") => {
                state.told.push(payload.clone());
                json(200, "", json!({ "status": "valid" }))
            }
            _ => problem(404, "", "malformed"),
        }
    }
}

impl State {
    fn certificate(&self) -> String {
        let identifiers = self.orders.last().unwrap()["identifiers"]
            .as_array()
            .unwrap();
        let names = identifiers
            .iter()
            .map(|it| it["value"].as_str().unwrap().to_owned());
        let names = self.names.clone().unwrap_or_else(|| names.collect());
        let mut params = CertificateParams::new(names).unwrap();
        #[allow(
            clippy::disallowed_methods,
            reason = "rcgen takes the time of the system"
        )]
        let now = SystemTime::now();
        params.not_before = (now - self.lifetime.0).into();
        params.not_after = (now + self.lifetime.1).into();
        params.use_authority_key_identifier_extension = true;
        let key = RequestedKey::of(self.finalized.as_ref().unwrap());
        params.signed_by(&key, &self.issuer).unwrap().pem()
    }
}

/// The public key of a request for a certificate, which is one of P-256.
struct RequestedKey(Vec<u8>);

impl RequestedKey {
    fn of(request: &[u8]) -> Self {
        // A bit string of 66 bytes: no unused bits, and a point that is not compressed.
        let start = request
            .windows(4)
            .position(|w| w == [3, 0x42, 0, 4])
            .unwrap()
            + 3;
        Self(request[start..start + 65].to_vec())
    }
}

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Returns a time of this century as text.
fn rfc3339(time: u64) -> String {
    let (mut days, seconds) = (time / 86_400, time % 86_400);
    let mut year = 1970;
    let len = |year: u64| 365 + u64::from(year.is_multiple_of(4));
    while days >= len(year) {
        days -= len(year);
        year += 1;
    }
    let february = 28 + u64::from(year.is_multiple_of(4));
    let mut month = 0;
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "{year}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
        month + 1,
        days + 1
    )
}
