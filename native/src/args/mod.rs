//! The command line: its options, their valid combinations, and the help text.
//!
//! Reads no file and opens nothing; a host name is looked up once. Invariant: an [`Args`] that passes [`Args::check`] names the
//! peers to trust, and the library accepts its values.

mod acme;
mod command_line;
mod config_file;
mod configs;
mod error;
mod gossip;
mod help;
mod interval;
mod invite;
mod limits;
#[cfg(test)]
mod tests;
mod times;

use std::any::TypeId;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::ArgPredicate;
use clap::{Arg, ArgGroup, CommandFactory as _, Parser};
use gossip_transport::credential::Identity;
use gossip_transport::gossip::PublicUrl;
use gossip_transport::net::{ConnectError, check_listenable, is_dialable};
use gossip_transport::tcp::Network;

use crate::admin::AdminCommand;
use crate::http::HostName;
use crate::state_dir;
use crate::units::{Period, Size};
use crate::values::{
    DEFAULT_CLUSTER, parse_addr, parse_count, parse_key_value, parse_number, parse_public_url,
    parse_seed, path,
};
use acme::AcmeOptions;
pub(crate) use command_line::{CommandLine, Setting, Source};
pub(crate) use config_file::Form;
pub(crate) use error::{ArgsError, Invalid};
use gossip::GossipOptions;
use help::{AFTER_HELP, LONG_ABOUT};
use interval::Interval;
pub(crate) use invite::{default_id, node_seeds};
use limits::Limits;
use times::Times;

const NO_TRUST: &str = "no peer is trusted by default: give one of these options
  --secret FILE      peers that know the cluster's secret; make one with
                     gossip-node --make-secret FILE
  --trust KEY        peers with exactly these identities (repeatable)
  --trust-file FILE  the same, one on each line of a file
  --trust-anyone     every peer that can reach the port; for demonstrations
  --invite FILE      the members of the cluster that has issued the invite
See gossip-node --help.";

/// The shortest lifetime of an invite that a page renews by itself: clocks may differ by two minutes.
const MIN_VISITOR_LIFETIME: Duration = Duration::from_secs(300);
/// The longest lifetime of an invite that everyone gets.
const MAX_VISITOR_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The headings of options that `-h` does not list.
const LONG_HELP_ONLY: [&str; 3] = ["Limits", "Times", "Gossip"];
/// The options under these headings that it lists nevertheless.
const COMMON: [&str; 3] = ["gossip_interval", "max_connections", "max_members"];

/// The parsed command line.
#[derive(Debug, Parser)]
#[command(
    name = "gossip-node",
    version,
    about = "A native member of a gossip cluster",
    long_about = LONG_ABOUT,
    after_long_help = AFTER_HELP,
    after_help = "--help shows all options, with limits and times, and examples.",
    args_conflicts_with_subcommands = true,
    group = ArgGroup::new("any_http").args(["http", "http_on_gossip_port"]).multiple(true)
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<AdminCommand>,

    /// Address to listen on for nodes and browser tabs; port 0 takes any free port
    ///
    /// With --invite, which nobody dials, it is any free port of 127.0.0.1 unless this is given.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:7946",
        default_value_if("invite", ArgPredicate::IsPresent, "127.0.0.1:0"),
        value_parser = parse_addr
    )]
    pub(crate) listen: SocketAddr,

    /// Also use plaintext UDP on the same port, as the published chitchat crate does
    ///
    /// UDP is not encrypted, and every peer that can send a datagram to the port becomes a member.
    /// Use it to join a cluster that already runs on UDP. Browser tabs and other nodes of this
    /// program join through this node, over connections that stay encrypted.
    #[arg(long)]
    pub(crate) udp: bool,

    /// Address under which others reach this node [default: the bound address]
    ///
    /// Needed behind a NAT. With --listen on 0.0.0.0 and no --advertise, it is the address of the
    /// interface that leads to the first seed, or to other machines in general.
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) advertise: Option<SocketAddr>,

    /// A TCP proxy (address or network) that sends PROXY protocol v2; may be given several times
    ///
    /// Each connection from it must then begin with that header, and is limited by the address of its
    /// client. The header is refused from everyone else.
    #[arg(long, value_name = "NET")]
    pub(crate) proxy_protocol_from: Vec<Network>,

    /// An HTTP proxy (address or network) whose X-Forwarded-For is believed; may be given several times
    ///
    /// For browser tabs that come through it: they are then limited by their own addresses. The list is
    /// read from the right, past all of these proxies.
    #[arg(long, value_name = "NET")]
    pub(crate) forwarded_for_from: Vec<Network>,

    /// File of the certificate chain (PEM) with which --listen also accepts TLS; re-read when it changes and on SIGHUP
    ///
    /// Nodes (--seed tls://HOST:PORT) and browser tabs (wss://) then reach this node inside TLS, on the same port. The
    /// certificate of this node is the first one in the file. SIGHUP does not end a node with a certificate.
    #[arg(long, value_name = "FILE", value_parser = path(), requires = "tls_key", group = "certificate")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// File of the certificate's private key (PEM, not encrypted); re-read with --tls-cert
    #[arg(long, value_name = "FILE", value_parser = path(), requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Refuse connections without TLS, those of nodes that do not dial tls:// included
    #[arg(long, requires = "certificate")]
    pub(crate) tls_only: bool,

    /// File of the CA certificates (PEM) that are trusted for tls:// seeds [default: those of the system]
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub(crate) tls_ca: Option<PathBuf>,

    /// The URL at which browser tabs reach this node: its own port, or a proxy in front of it
    ///
    /// wss://HOST:PORT/PATH, or ws:// where pages are not loaded over https. /config.json of all nodes has it,
    /// and invites that this node issues name it. Then /config.json of this node has no inner addresses any more.
    #[arg(long, value_name = "URL", value_parser = parse_public_url)]
    pub(crate) public_url: Option<PublicUrl>,

    #[command(flatten)]
    pub(crate) acme: AcmeOptions,

    /// A member to contact first, as tls://HOST:PORT through TLS; may be given several times
    ///
    /// A host name is resolved again from time to time, so the address of a seed may change.
    #[arg(long = "seed", value_name = "HOST:PORT", value_parser = parse_seed)]
    pub(crate) seeds: Vec<String>,

    /// Name of the cluster; members of different clusters ignore each other
    #[arg(long, value_name = "NAME", default_value = DEFAULT_CLUSTER)]
    pub(crate) cluster: String,

    /// Whether the name of the cluster was given.
    #[arg(skip)]
    pub(crate) gives_cluster: bool,

    /// Name of this node, unique in the cluster [default: derived from its identity]
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,

    /// File of this node's secret key, created with mode 0600 if missing [default: "key" in --state-dir, or a new key at each start]
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub(crate) key: Option<PathBuf>,

    /// Directory that this node owns, created with mode 0700 if missing: its key (unless --key is given) and its state
    ///
    /// One node can use it at a time. Nobody but its user and root may write to it.
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub(crate) state_dir: Option<PathBuf>,

    /// An identity to trust; may be given several times
    #[arg(long = "trust", value_name = "KEY")]
    pub(crate) trusted: Vec<Identity>,

    /// File of identities to trust, one on each line, besides those of --trust; re-read when it changes
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub(crate) trust_file: Option<PathBuf>,

    /// File of the cluster's secret; peers that know it are trusted; re-read when it changes
    ///
    /// It may have up to four secrets, one on each line: the first is used for dialling, all are accepted.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub(crate) secret: Option<PathBuf>,

    /// Trust every peer that can reach the port; for demonstrations
    #[arg(long, conflicts_with_all = ["trusted", "trust_file", "secret"])]
    pub(crate) trust_anyone: bool,

    /// File of an invite, with which this node joins as a leaf; re-read when it changes
    ///
    /// Cluster and seeds are those of the invite, unless they are given. The node's name must begin as the invite
    /// says; a derived one does. The file contains the word that gossip-node invite prints.
    #[arg(long, value_name = "FILE", value_parser = path(),
        conflicts_with_all = ["secret", "trusted", "trust_file", "trust_anyone", "udp", "advertise",
            "public_url"])]
    pub(crate) invite: Option<PathBuf>,

    /// Accept no peers that hold an invite which was issued with the cluster's secret
    #[arg(long)]
    pub(crate) refuse_invites: bool,

    /// Write a new cluster secret to FILE (mode 0600, never overwritten), and exit
    #[arg(long, value_name = "FILE", value_parser = path(), exclusive = true)]
    pub(crate) make_secret: Option<PathBuf>,

    /// File of options in TOML, such as listen = "0.0.0.0:7946"; those of the command line take precedence
    ///
    /// The names are those of the options without dashes at the beginning. Options without a value are true or
    /// false, numbers and sizes may be numbers, and options that may be given several times are lists. Relative
    /// paths are relative to the directory of the file.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub(crate) config: Option<PathBuf>,

    /// Check the options and files, print the options that would be used, and exit with code 0 or 2
    #[arg(long)]
    pub(crate) check_config: bool,

    /// A key to set at the start; may be given several times
    ///
    /// Every node also sets the key "kind" to "node", by which a page tells nodes from tabs, unless it is
    /// given here.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_key_value)]
    pub(crate) set: Vec<(String, String)>,

    /// Address for /status, /metrics and the page
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) http: Option<SocketAddr>,

    /// Answer HTTP requests on the gossip port, too: the page, /config.json, /healthz and /readyz, for everyone
    ///
    /// /status and /metrics are answered there only with the token of --http-token. If --http is given as well, it keeps a
    /// quarter of the HTTP connections for itself. No such request takes anything that gossip needs.
    #[arg(long)]
    pub(crate) http_on_gossip_port: bool,

    /// File with the token that /status and /metrics need on the gossip port: Authorization: Bearer TOKEN
    #[arg(long, value_name = "FILE", value_parser = path(), requires = "http_on_gossip_port")]
    pub(crate) http_token: Option<PathBuf>,

    /// Give each page that is opened on the gossip port without an invite one of its own, so that everyone can join
    ///
    /// A host gets 20 at once, and then one every 3 s; all together 500 at once, and then 10 per second, of which a site (a
    /// network of 48 bits, or 24 with IPv4) gets at most a quarter. They are valid for --visitor-lifetime, and pages renew
    /// them. Without TLS, or behind a TLS proxy, the page must be opened by an IP address or the name of --public-url or of
    /// a --http-host, since a page of another site could read the invite otherwise.
    #[arg(long, requires_all = ["http_on_gossip_port", "secret"], conflicts_with = "refuse_invites")]
    pub(crate) invite_visitors: bool,

    /// Lifetime of the invites of --invite-visitors: 5m to 24h
    #[arg(long, value_name = "PERIOD", default_value = "10m")]
    pub(crate) visitor_lifetime: Period,

    /// A name under which others reach --http, for example through a proxy; may be given several times
    ///
    /// Requests for another host than this machine's own address or localhost get no /status and no
    /// /metrics, since they may come from a page of another site.
    #[arg(long = "http-host", value_name = "NAME", requires = "any_http", value_parser = HostName::parse)]
    pub(crate) http_hosts: Vec<HostName>,

    /// Directory of static files to serve at /
    #[arg(long, value_name = "DIR", value_parser = path(), requires = "any_http")]
    pub(crate) web_root: Option<PathBuf>,

    /// Unix socket to create for the subcommands, which only this user and root may use
    ///
    /// A socket that a dead node has left behind is replaced.
    #[arg(long, value_name = "PATH", value_parser = path())]
    pub(crate) admin: Option<PathBuf>,

    /// Make --admin a file with a loopback port and a token, as on systems without Unix sockets
    #[arg(long, requires = "admin")]
    pub(crate) admin_loopback: bool,

    /// File to write once everything is bound, as JSON: gossip, http, identity, pid
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub(crate) ready_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) limits: Limits,

    #[command(flatten)]
    pub(crate) times: Times,

    #[command(flatten)]
    pub(crate) gossip: GossipOptions,
}

impl Args {
    /// Returns whether a list of trusted keys was given.
    pub(crate) fn has_trusted_keys(&self) -> bool {
        !self.trusted.is_empty() || self.trust_file.is_some()
    }

    /// Returns the path of the key, if it is kept.
    pub(crate) fn key_path(&self) -> Option<PathBuf> {
        let in_state_dir = self.state_dir.as_deref().map(state_dir::key_in);
        self.key.clone().or(in_state_dir)
    }

    /// Checks the combinations of options that clap cannot check.
    ///
    /// # Errors
    ///
    /// Fails with a text that says what to change.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let trusts_any = self.has_trusted_keys() || self.secret.is_some() || self.trust_anyone;
        if !trusts_any && self.invite.is_none() {
            return Err(Invalid {
                option: None,
                reason: NO_TRUST.to_owned(),
            });
        }
        if self.invite.as_deref() == Some(Path::new("-")) {
            return Err(Invalid::new(
                "invite",
                "must be a file, which a restart can read again",
            ));
        }
        if self.refuse_invites && self.secret.is_none() {
            let reason = "is for nodes with --secret: there are no invites without one";
            return Err(Invalid::new("refuse-invites", reason));
        }
        if let Some(advertise) = self.advertise
            && !is_dialable(advertise)
        {
            let error = ConnectError::NotDialable { addr: advertise };
            let reason = format!("{error}: give an address and port that others can reach");
            return Err(Invalid::new("advertise", reason));
        }
        let lifetime = self.visitor_lifetime.0;
        if !(MIN_VISITOR_LIFETIME..=MAX_VISITOR_LIFETIME).contains(&lifetime) {
            return Err(Invalid::new(
                "visitor-lifetime",
                "must be between 5m and 24h",
            ));
        }
        let listens = [("listen", Some(self.listen)), ("http", self.http)];
        for (option, addr) in listens {
            let checked = addr.map_or(Ok(()), check_listenable);
            checked.map_err(|error| Invalid::new(option, error.to_string()))?;
        }
        self.acme.check(self.state_dir.as_ref())?;
        self.check_bounds()
    }
}

/// Returns the definition of the command line.
fn command() -> clap::Command {
    Args::command().mut_args(|arg| {
        let heading = arg.get_help_heading().unwrap_or_default();
        let is_rare = LONG_HELP_ONLY.iter().any(|name| heading.starts_with(name));
        let is_rare = is_rare && !COMMON.iter().any(|name| arg.get_id() == *name);
        with_clear_errors(arg.hide_short_help(is_rare))
    })
}

/// Replaces the parser of an option for a number by one whose error says what is expected, also of a negative number.
fn with_clear_errors(arg: Arg) -> Arg {
    let parsed = arg.get_value_parser().type_id();
    let is = |id| parsed == id;
    if is(TypeId::of::<usize>()) {
        arg.value_parser(parse_count::<usize>)
            .allow_negative_numbers(true)
    } else if is(TypeId::of::<u64>()) {
        arg.value_parser(parse_count::<u64>)
            .allow_negative_numbers(true)
    } else if is(TypeId::of::<f64>()) {
        arg.value_parser(parse_number).allow_negative_numbers(true)
    } else if [
        TypeId::of::<Size>(),
        TypeId::of::<Period>(),
        TypeId::of::<Interval>(),
    ]
    .into_iter()
    .any(is)
    {
        arg.allow_negative_numbers(true)
    } else {
        arg
    }
}
