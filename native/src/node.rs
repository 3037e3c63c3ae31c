//! The life of a node: bind, join, serve, leave.
//!
//! Invariant: everything is bound before the ready line is printed, and whatever ends the node
//! (a signal, a failure) frees every port.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use gossip_transport::gossip::GossipConfig;
use gossip_transport::net::NetTransport as _;
use gossip_transport::rt;
use gossip_transport::tcp::{TcpConfig, TcpTransport};
use gossip_transport::udp::PlaintextUdpTransport;
use gossip_transport::{NetCredential, TransportLayerConfig, TransportLayerTransport};

use crate::args::Args;
use crate::member::{Bridge, Member, Socket};
use crate::ready_file::Ready;
use crate::shutdown::Shutdown;
use crate::{credential_file, http, membership_log};

/// The key under which a member says what it is; the page draws by it, and dials nodes only.
pub(crate) const KIND_KEY: &str = "kind";
/// [`KIND_KEY`]'s value for this program.
pub(crate) const KIND_NODE: &str = "node";

/// How long queued messages may take to go out when the node leaves.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);
/// The failure detector's prior interval, in gossip intervals: upstream's 5 s at 1 s.
const INITIAL_INTERVAL_ROUNDS: u32 = 5;
/// The failure detector's longest counted interval, in gossip intervals: upstream's 10 s at 1 s.
const MAX_INTERVAL_ROUNDS: u32 = 10;
/// The longest wait between dials, in gossip intervals: a restarted member is back soon.
const MAX_BACKOFF_ROUNDS: u32 = 10;

/// The participant, for as long as it is a member.
#[derive(Clone)]
pub(crate) struct Node {
    participant: Arc<Mutex<Option<Member>>>,
    /// The public key's printed form.
    pub(crate) identity: Arc<str>,
    /// The cluster's name.
    pub(crate) cluster: Arc<str>,
    /// Time between rounds.
    pub(crate) gossip_interval: Duration,
}

impl Node {
    /// Calls `f` with the participant; `None` once the node has left.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Member) -> R) -> Option<R> {
        let participant = self
            .participant
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        participant.as_ref().map(f)
    }

    async fn leave(&self) {
        let participant = self
            .participant
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(participant) = participant {
            participant.leave(LEAVE_DEADLINE).await;
        }
    }
}

/// Runs a node until a signal ends it.
///
/// # Errors
///
/// A port is in use, a file cannot be read, the configuration is refused.
pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::catch().context("cannot catch signals")?;
    let credential = credential_file::credential(args)?;
    let identity = credential.identity();

    let http_listener = match args.http {
        Some(addr) => Some(bind_http(addr).await?),
        None => None,
    };
    let http_addr = match &http_listener {
        Some(listener) => Some(listener.local_addr()?),
        None => None,
    };
    let tcp = TcpTransport::new(TcpConfig::default());
    let socket = open(args, tcp.clone(), credential.clone())
        .await
        .with_context(|| cannot_listen("gossip", args.listen, "--listen"))?;
    let gossip_addr = socket.local_addr();

    report_seeds(args, &tcp).await;
    if args.listen.ip().is_unspecified() && args.advertise.is_none() {
        tracing::info!("waiting for a seed to say under which address it sees this node");
    }
    let participant = tokio::select! {
        joined = socket.join(gossip_config(args, &credential)) => {
            joined.context("cannot join the cluster")?
        }
        signal = shutdown.requested() => {
            tracing::info!(signal, "stopped before it could join");
            return Ok(());
        }
    };

    let me = participant.id().clone();
    let watch = participant.watch();
    let node = Node {
        participant: Arc::new(Mutex::new(Some(participant))),
        identity: identity.to_string().into(),
        cluster: args.cluster.as_str().into(),
        gossip_interval: args.gossip_interval,
    };
    let log = membership_log::start(node.clone(), watch);
    let server = http_listener.map(|listener| {
        http::serve(
            listener,
            node.clone(),
            args.web_root.as_deref(),
            args.http_write,
        )
    });

    let ready = Ready {
        gossip: gossip_addr,
        http: http_addr,
        identity,
        pid: std::process::id(),
    };
    announce(&ready);
    if let Some(path) = &args.ready_file {
        ready.write(path)?;
    }
    tracing::info!(id = %me.node_id, addr = %me.gossip_advertise_addr, cluster = %args.cluster,
        "a member of the cluster");

    let signal = shutdown.requested().await;
    tracing::info!(signal, "leaving");
    drop(server);
    drop(log);
    tokio::select! {
        () = node.leave() => {}
        signal = shutdown.requested() => tracing::warn!(signal, "again: not waiting any longer"),
        () = rt::sleep(LEAVE_DEADLINE + Duration::from_millis(500)) => {
            tracing::warn!("leaving took too long");
        }
    }
    if let Some(path) = &args.ready_file {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

async fn open(args: &Args, tcp: TcpTransport, credential: NetCredential) -> anyhow::Result<Socket> {
    let config = transport_config(args);
    if !args.udp {
        let network = TransportLayerTransport::with_config(tcp, credential, config);
        return Ok(Socket::Tcp(network.open(args.listen).await?));
    }
    let network = Bridge::new(tcp, PlaintextUdpTransport::default());
    let network = TransportLayerTransport::with_config(network, credential, config);
    Ok(Socket::Bridge(network.open(args.listen).await?))
}

fn transport_config(args: &Args) -> TransportLayerConfig {
    let mut config = TransportLayerConfig::default();
    let longest = args.gossip_interval.saturating_mul(MAX_BACKOFF_ROUNDS);
    config.backoff_max = longest.clamp(config.backoff_min, config.backoff_max);
    config
}

fn gossip_config(args: &Args, credential: &NetCredential) -> GossipConfig {
    let id = match &args.id {
        Some(id) => id.clone(),
        None => format!("node-{}", credential.identity().short()),
    };
    let mut config = GossipConfig::new(args.cluster.clone(), id);
    config.advertise_addr = args.advertise;
    config.seeds = args.seeds.clone();
    config.gossip_interval = args.gossip_interval;
    config.failure_detector.initial_interval =
        args.gossip_interval.saturating_mul(INITIAL_INTERVAL_ROUNDS);
    config.failure_detector.max_interval = args.gossip_interval.saturating_mul(MAX_INTERVAL_ROUNDS);
    config.initial_key_values = args.set.clone();
    if !args.set.iter().any(|(key, _)| key == KIND_KEY) {
        config
            .initial_key_values
            .push((KIND_KEY.to_owned(), KIND_NODE.to_owned()));
    }
    config
}

async fn bind_http(addr: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(addr)
        .await
        .with_context(|| cannot_listen("HTTP", addr, "--http"))
}

fn cannot_listen(what: &str, addr: SocketAddr, option: &str) -> String {
    format!("cannot listen for {what} on {addr} (choose another address with {option})")
}

/// A misspelt seed should be seen at once; a name that is not there yet may come later.
async fn report_seeds(args: &Args, transport: &TcpTransport) {
    for seed in &args.seeds {
        match rt::timeout(Duration::from_secs(1), transport.resolve(seed)).await {
            Ok(Ok(addrs)) => tracing::debug!(seed, ?addrs, "resolved"),
            Ok(Err(error)) => {
                tracing::warn!(seed, "cannot resolve this seed, will try again: {error:#}");
            }
            Err(elapsed) => tracing::warn!(seed, "resolving this seed {elapsed}, will try again"),
        }
    }
}

/// The one line on stdout.
fn announce(ready: &Ready) {
    let Ready {
        gossip,
        http,
        identity,
        ..
    } = ready;
    let mut line = format!("listening on {gossip}, identity {identity}");
    if let Some(http) = http {
        line.push_str(&format!(", http://{http}/"));
    }
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{line}");
    let _ = stdout.flush();
}
