//! The life of a node: bind, join, serve, leave.
//!
//! Invariant: everything is bound before the ready line is printed, and however the node ends (a
//! signal or a failure), all its ports are free afterwards.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use gossip_transport::credential::{Invite, Trust};
use gossip_transport::gossip::PublicUrl;
use gossip_transport::net::{NetTransport as _, is_dialable};
use gossip_transport::rt::{self, Instant};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::udp::PlaintextUdpTransport;
use gossip_transport::{NetCredential, TransportLayerTransport};
use tokio::net::TcpListener;

use crate::admin::{self, Port, PortKind};
use crate::any_network::{AnyParticipant, AnySocket, Bridge};
use crate::args::{Args, default_id, node_seeds};
use crate::descriptors::Shares;
use crate::http::HostName;
use crate::node::Node;
use crate::own_address::own_address;
use crate::ready_file::Ready;
use crate::revocations::Revocations;
use crate::shutdown::{HangUps, OnHangUp, Shutdown};
use crate::state_dir::StateDir;
use crate::tls_files::TlsFiles;
use crate::tls_status::Tls;
use crate::trust_files::TrustFiles;
use crate::{
    acme, credential_file, http, membership_log, name_log, private_file, ready_file, rfc3339,
    seed_log,
};

/// The time in which queued messages may be sent when the node leaves.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);
/// The time that leaving may take in all, should the library exceed its deadline.
const LEAVE_LIMIT: Duration = LEAVE_DEADLINE.saturating_add(Duration::from_millis(500));
/// The time after which a seed's name that does not resolve is logged, and that the search for the
/// interface which leads to the first seed may take.
const RESOLVE_LIMIT: Duration = Duration::from_secs(1);

/// What a public URL without TLS means.
pub(crate) const NOT_FROM_HTTPS: &str = "pages that are loaded over https cannot open this URL (--public-url): they need one that begins with wss://";

/// Runs a node until a signal ends it. Returns the time of that signal.
///
/// # Errors
///
/// Fails if a port is in use, a file cannot be read, or the configuration is refused.
pub(crate) async fn run(args: &mut Args) -> anyhow::Result<Instant> {
    let mut shares = Shares::of_this_process(admin_descriptors(args), args.wanted())?;
    if !(args.proxy_protocol_from.is_empty() && args.forwarded_for_from.is_empty()) {
        shares = shares.behind_proxies();
    }
    if let Some(path) = &args.web_root {
        check_web_root(path)?;
    }
    if let Some(path) = &args.ready_file {
        ready_file::check(path)?;
    }
    let state_dir = args.state_dir.as_deref().map(StateDir::open).transpose()?;
    if let Some(path) = &args.secret {
        private_file::remove_drafts_of(path);
    }
    let trust_files = TrustFiles::read(args)?;
    let invite = trust_files.trust().held_invite();
    if let Some(invite) = &invite {
        args.join_with(invite)?;
        log_invite(invite);
    }
    let args = &*args;
    let acme = acme::open(args).await?;
    let automatic = acme.as_ref().map(|acme| acme.identity().clone());
    let tls = TlsFiles::read(args, automatic)?;
    let revocations = Revocations::read(trust_files.trust().clone(), state_dir.clone())?;
    let credential = credential_file::credential(args, trust_files.trust().clone())?;
    let identity = credential.identity();
    let default_id = default_id(&identity, invite.as_deref());
    // Not before, since files that are pipes, or on a server that is away, can take for ever to read, and
    // nothing must be left yet.
    let on_hang_up = if tls.has_certificate() {
        OnHangUp::Reload
    } else {
        OnHangUp::End
    };
    let mut shutdown = Shutdown::catch(on_hang_up).context("cannot catch signals")?;
    let hang_ups = HangUps::catch().context("cannot catch signals")?;

    let http_listener = match args.http {
        Some(addr) => Some(bind_http(addr).await?),
        None => None,
    };
    let http_addr = match &http_listener {
        Some(listener) => Some(listener.local_addr()?),
        None => None,
    };
    let admin_port = match &args.admin {
        Some(path) => Some(Port::bind(path, admin_kind(args)).await?),
        None => None,
    };
    let http = http::Settings {
        names: args.http_hosts.clone(),
        web_root: args.web_root.as_deref(),
        max_connections: shares.http_of_ports(args.http.is_some() && args.http_on_gossip_port),
    };
    let server = http::Server::new(&http);
    let mut tcp = tls.apply(args.tcp_config(&shares));
    let mut watch_token = None;
    if args.http_on_gossip_port {
        let port = gossip_port(args, trust_files.trust())?;
        if let Some(token) = &port.token {
            watch_token = token.watch(HangUps::catch().context("cannot catch signals")?);
        }
        tcp = tcp.with_http(Some(server.for_gossip_port(port, &http)));
    }
    let tcp = TcpTransport::new(tcp);
    let socket = open(args, &shares, tcp.clone(), credential.clone())
        .await
        .with_context(|| cannot_listen("gossip", args.listen, "--listen"))?;
    let ready = Ready {
        gossip: socket.local_addr(),
        http: http_addr,
        identity,
        pid: std::process::id(),
    };

    let acme = acme.map(|acme| Arc::new(acme::start(acme, args, ready.gossip.port())));

    let own = socket.advertised_addr();
    let seeds = seed_log::unresolved(&args.seeds, own, &tcp, RESOLVE_LIMIT);
    let mut gossip = args.gossip_config(&default_id);
    // A leaf accepts no connection, so it has no address that others could dial.
    gossip.advertise_addr = invite.is_some().then(|| identity.address());
    let participant = tokio::select! {
        joined = socket.join(gossip) => {
            joined.context("cannot join the cluster")?
        }
        signal = shutdown.requested() => {
            tracing::info!(signal, "stopped before joining");
            return Ok(Instant::now());
        }
    };

    if let Some(url) = &args.public_url {
        set_public_url(&participant, url)?;
    }
    let me = participant.id();
    let watch = participant.watch();
    let mut ending = participant.watch();
    let node = Node::new(
        participant,
        &identity.to_string(),
        &args.cluster,
        args.gossip.gossip_interval.get(),
        trust_files.trust().clone(),
        Tls::new(tls.identity().cloned(), acme.as_ref()),
    );
    let log = membership_log::start(node.clone(), watch);
    let entry = seed_log::entry(node.clone());
    let names = name_log::start(node.clone());
    let server = server.start(node.clone(), http_listener);
    let watch_files = (trust_files.watch(&me.node_id), tls.watch(hang_ups));
    let keep = revocations.keep();
    let admin = admin_port.map(|port| admin::serve(port, node.clone(), trust_files, revocations));

    let running = async {
        if let Some(path) = &args.ready_file {
            ready.write(path)?;
        }
        announce(&ready);
        tracing::info!(id = &*me.node_id, addr = %me.gossip_advertise_addr, cluster = args.cluster,
            seeds = args.seeds.len(), "started");
        while ending.changed().await {}
        anyhow::Ok(())
    };
    tokio::select! {
        signal = shutdown.requested() => tracing::info!(signal, "leaving"),
        ended = running => {
            ended?;
            tracing::error!("the gossip task has ended");
        }
    }
    let leaving = Instant::now();
    drop((
        server,
        admin,
        watch_files,
        watch_token,
        acme,
        keep,
        log,
        entry,
        names,
        seeds,
    ));
    let left = tokio::select! {
        left = node.leave(LEAVE_DEADLINE) => left.map_err(anyhow::Error::from),
        signal = shutdown.requested() => {
            tracing::warn!(signal, "second signal, not waiting any longer");
            Ok(())
        }
        () = rt::sleep(LEAVE_LIMIT) => {
            tracing::warn!("leaving took too long");
            Ok(())
        }
    };
    if let Some(path) = &args.ready_file {
        ready.remove(path);
    }
    // Not before the ports are free.
    drop(state_dir);
    left.map(|()| leaving)
}

async fn open(
    args: &Args,
    shares: &Shares,
    tcp: TcpTransport,
    credential: NetCredential,
) -> anyhow::Result<AnySocket> {
    let config = args.socket_config(shares, advertised(args, &tcp).await?);
    if !args.udp {
        let network = TransportLayerTransport::with_config(tcp, credential, config);
        return Ok(AnySocket::Tcp(network.open(args.listen).await?));
    }
    let network = Bridge::new(tcp, PlaintextUdpTransport::new(args.udp_config()));
    let network = TransportLayerTransport::with_config(network, credential, config);
    Ok(AnySocket::Bridge(network.open(args.listen).await?))
}

/// Logs which invite the node joins with, and what a node cannot use of it.
fn log_invite(invite: &Invite) {
    let id = invite.claims().id();
    let expires = rfc3339::utc(id.expires_at());
    tracing::info!(
        id = id.to_string(),
        expires,
        cluster = invite.cluster_id(),
        "joining with an invite, as a leaf"
    );
    let skipped = invite
        .seeds()
        .len()
        .saturating_sub(node_seeds(invite).len());
    if skipped > 0 {
        tracing::info!(skipped, "the invite also names seeds for browser tabs");
    }
}

/// Tells all members the URL at which browser tabs reach this one.
fn set_public_url(participant: &AnyParticipant, url: &PublicUrl) -> anyhow::Result<()> {
    let set = participant.set_public_url(Some(url));
    set.context("cannot tell other members the URL (--public-url)")?;
    if url.opens_from_https() {
        tracing::info!(url = url.as_str(), "browser tabs are told to use this URL");
    } else {
        tracing::warn!(url = url.as_str(), "{}", NOT_FROM_HTTPS);
    }
    Ok(())
}

/// Returns the address to advertise, or `None` if it is the bound one.
async fn advertised(args: &Args, tcp: &TcpTransport) -> anyhow::Result<Option<SocketAddr>> {
    if args.advertise.is_some() || !args.listen.ip().is_unspecified() {
        return Ok(args.advertise);
    }
    let seeds = first_seed(args, tcp).await;
    let own = own_address(args.listen, &seeds);
    own.map(Some).with_context(|| {
        format!(
            "--listen {} is every interface of this machine, and none of them leads anywhere: give \
             --advertise ADDR",
            args.listen
        )
    })
}

/// Returns the addresses of the first seed whose name resolves soon.
async fn first_seed(args: &Args, tcp: &TcpTransport) -> Vec<SocketAddr> {
    let resolved = rt::timeout(RESOLVE_LIMIT, async {
        for seed in &args.seeds {
            if let Ok(mut addrs) = tcp.resolve(seed).await {
                // An address that stands for a name leads nowhere.
                addrs.retain(|addr| is_dialable(*addr));
                return addrs;
            }
        }
        Vec::new()
    });
    resolved.await.unwrap_or_default()
}

/// Returns what the gossip port shows.
///
/// # Errors
///
/// Fails if the token cannot be read, or if visitors cannot be invited.
pub(crate) fn gossip_port(args: &Args, trust: &Trust) -> anyhow::Result<http::GossipPort> {
    let token = args.http_token.as_deref().map(http::Token::read);
    let lifetime = args.visitor_lifetime.0;
    let is_public = !args.listen.ip().to_canonical().is_loopback();
    if token.is_some() && is_public && !args.tls_only {
        tracing::warn!(
            "the token of --http-token may be sent unencrypted: use it over https only, or --tls-only"
        );
    }
    let visitors = args.invite_visitors.then(|| http::Visitors::new(lifetime));
    if let Some(visitors) = &visitors {
        visitors.check(trust, &args.cluster)?;
    }
    let mut hosts = args.http_hosts.clone();
    hosts.extend(args.public_url.as_ref().and_then(HostName::of_url));
    Ok(http::GossipPort {
        token: token.transpose()?,
        visitors,
        hosts,
    })
}

/// Fails if `path` is not a directory that can be read, since every page would then be missing.
pub(crate) fn check_web_root(path: &Path) -> anyhow::Result<()> {
    std::fs::read_dir(path)
        .map(drop)
        .with_context(|| format!("cannot read the directory {} (--web-root)", path.display()))
}

async fn bind_http(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| cannot_listen("HTTP", addr, "--http"))?;
    let bound = listener.local_addr()?;
    if !bound.ip().to_canonical().is_loopback() {
        tracing::warn!(addr = %bound, "--http is not a loopback address: everyone who can reach it can \
            read the names, addresses and keys of all members (/status) and the counters of this node \
            (/metrics), unencrypted and without a password");
    }
    Ok(listener)
}

/// Returns the number of descriptors that the admin port takes.
pub(crate) fn admin_descriptors(args: &Args) -> usize {
    args.admin.as_ref().map_or(0, |_| admin::DESCRIPTORS)
}

/// Returns the kind of the admin port.
pub(crate) fn admin_kind(args: &Args) -> PortKind {
    if args.admin_loopback {
        PortKind::Loopback
    } else {
        PortKind::Native
    }
}

fn cannot_listen(purpose: &str, addr: SocketAddr, option: &str) -> String {
    format!("cannot listen for {purpose} on {addr} (choose another address with {option})")
}

/// Prints the only line on stdout. Nothing waits for somebody to read it.
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
    let print = move || {
        let mut stdout = std::io::stdout();
        let _ = writeln!(stdout, "{line}");
        let _ = stdout.flush();
    };
    drop(tokio::task::spawn_blocking(print));
}
