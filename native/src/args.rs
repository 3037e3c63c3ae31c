//! The command line: its options, their valid combinations, and the help text.
//!
//! Reads no file and opens nothing; a host name is looked up once. Invariant: an [`Args`] that passes [`Args::check`] names the
//! peers to trust.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use gossip_transport::credential::Identity;
use gossip_transport::net::{
    ConnectError, NetTransport as _, canonical, check_listenable, is_dialable, is_link_local,
};
use gossip_transport::tcp::{Network, TcpTransport};

use crate::admin::AdminCommand;
use crate::http::HostName;
use crate::interval::Interval;

const LONG_ABOUT: &str = "\
A native member of a gossip cluster.

It listens on one TCP port for other nodes and for browser tabs (WebSocket on the same port), \
dials its seeds, and then learns every member of the cluster: whether it is live, and the keys that \
it has set. Every connection is encrypted, and both ends prove their identity.";

const AFTER_HELP: &str = "\
Trusted peers
  No peer is trusted by default. Give one of these options, or --secret with one of the next two:
    --secret FILE      peers that know the cluster's secret (make one with --make-secret FILE)
    --trust KEY        peers with exactly these identities; a node prints its own when it starts
    --trust-file FILE  the same, one on each line of a file
    --trust-anyone     every peer that can reach the port; for demonstrations
  With both --secret and --trust a peer must satisfy both.

Changing secrets and keys
  The file of --secret has one to four secrets, one on each line. The node dials with the first, and accepts
  all. Both files may have empty lines, and comments after a #. They are looked at every second, and valid
  changes take effect. Connections of those that are not trusted any more are closed within two seconds.
  To replace a secret, take each step on all nodes (with --admin) before the next:
    gossip-node --make-secret new.secret      once, and copy it to all nodes
    gossip-node secret add new.secret         accept it as well
    gossip-node secret use ID                 dial with it, once every node accepts it
    gossip-node secret remove OLD_ID          once no node lists a connection with the old one
  gossip-node secret list shows the ids and the connections of each. The commands also change the file.

Examples
  Make a secret, and start a first node with its page and status on port 8080:
    gossip-node --make-secret cluster.secret
    gossip-node --secret cluster.secret --id a --listen 127.0.0.1:7001 --http 127.0.0.1:8080

  Start a second node, which finds the first:
    gossip-node --secret cluster.secret --id b --listen 127.0.0.1:7002 --seed 127.0.0.1:7001

  Listen on a public interface, with a key that survives restarts and two trusted peers:
    gossip-node --listen 0.0.0.0:7001 --advertise 203.0.113.5:7001 --key node.key \\
        --trust KEY_OF_B --trust KEY_OF_C --seed b.example.com:7001

  Bridge browser tabs into a cluster of unmodified chitchat nodes, which use UDP:
    gossip-node --udp --secret cluster.secret --cluster NAME --listen 192.0.2.7:7280 \\
        --seed 192.0.2.1:7280 --http 127.0.0.1:8080 --web-root DIR

Addresses (ADDR)
  IP:PORT or HOST:PORT. A host name is looked up once, and its first IPv4 address is taken, or else its
  first one.

HTTP (--http), for everyone who can reach that address; prefer a loopback address
  GET /status       this node's view of the cluster and its counters, as JSON
  GET /metrics      the same counters in the Prometheus text format
  GET /config.json  what a page needs in order to join: cluster, addresses, interval
  GET /health       200 while the node is a member
  GET /...          files of --web-root
  /status and /metrics are refused (421) unless the Host of the request is localhost, the address at
  which it arrives, or a name of --http-host. Nothing can be changed over HTTP.

Operating a running node (--admin)
  A node with --admin PATH listens on the Unix socket PATH, which only its user and root may use:
    gossip-node --secret cluster.secret --admin /run/user/1000/gossip-node.sock &
    gossip-node set color red
    gossip-node members --json
  Without --admin, subcommands use $GOSSIP_NODE_ADMIN, or else $XDG_RUNTIME_DIR/gossip-node.sock.
  Where there are no Unix sockets, PATH is a file (mode 0600) with a loopback port and its token.

Open files
  The node raises its limit of open files (ulimit -n) as far as it may, and shares it out, so that HTTP
  connections, dials and handshakes leave each other theirs. Of 1,000 free ones, 128 are for 64 HTTP
  connections, 64 for handshakes, the rest for gossip connections, dials included (at most 1,024). An
  HTTP connection ends after 5 s without a request, or 10 s without progress. Ten more are for --admin,
  which has 8 connections.

Times
  --gossip-interval scales the failure detector: its initial interval is 5 times and its maximal
  interval 10 times the gossip interval. At the default of 1s a stopped node counts as dead after
  7 to 19 seconds: the younger the node, the later. At 200ms it takes a fifth of that. All members
  should use the same interval.

Environment
  RUST_LOG          what to log to stderr, for example info (the default), debug, or
                    warn,gossip_transport=trace

Exit codes
  0  left the cluster after SIGINT, SIGTERM or SIGHUP; a subcommand: done
  1  could not run, for example because a port is in use or a file cannot be read; a subcommand: the
     node has refused it, for example because there is no such key; stderr has the reason
  2  invalid arguments; stderr says what to change
  3  a subcommand: no node answers, or it ended during a watch";

/// The parsed command line.
#[derive(Debug, Parser)]
#[command(
    name = "gossip-node",
    version,
    about = "A native member of a gossip cluster",
    long_about = LONG_ABOUT,
    after_long_help = AFTER_HELP,
    after_help = "--help shows more, with examples.",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<AdminCommand>,

    /// Address to listen on for nodes and browser tabs; port 0 takes any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7946", value_parser = parse_addr)]
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

    /// A member to contact first; may be given several times
    ///
    /// A host name is resolved again from time to time, so the address of a seed may change.
    #[arg(long = "seed", value_name = "HOST:PORT", value_parser = parse_seed)]
    pub(crate) seeds: Vec<String>,

    /// Name of the cluster; members of different clusters ignore each other
    #[arg(long, value_name = "NAME", default_value = "gossip")]
    pub(crate) cluster: String,

    /// Name of this node, unique in the cluster [default: derived from its identity]
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,

    /// File of this node's secret key, created with mode 0600 if missing [default: a new key at each start]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// An identity to trust; may be given several times
    #[arg(long = "trust", value_name = "KEY")]
    pub(crate) trusted: Vec<Identity>,

    /// File of identities to trust, one on each line, besides those of --trust; changes take effect
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_file: Option<PathBuf>,

    /// File of the cluster's secret; peers that know it are trusted; changes take effect
    ///
    /// It may have up to four secrets, one on each line: the first is used for dialling, all are accepted.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret: Option<PathBuf>,

    /// Trust every peer that can reach the port; for demonstrations
    #[arg(long, conflicts_with_all = ["trusted", "trust_file", "secret"])]
    pub(crate) trust_anyone: bool,

    /// Write a new cluster secret to FILE (mode 0600, never overwritten), and exit
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub(crate) make_secret: Option<PathBuf>,

    /// Most members to remember, this node and dead ones included [default: 10000, with --udp 700]
    ///
    /// With --udp, chitchat nodes learn of all of them. Such a node panics when it knows more members
    /// than a datagram can list: 65403 bytes, of which each takes 53 and the length of its name.
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_members: Option<usize>,

    /// A key to set at the start; may be given several times
    ///
    /// Every node also sets the key "kind" to "node", by which a page tells nodes from tabs, unless it is
    /// given here.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_key_value)]
    pub(crate) set: Vec<(String, String)>,

    /// Address for /status, /metrics and the page
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) http: Option<SocketAddr>,

    /// A name under which others reach --http, for example through a proxy; may be given several times
    ///
    /// Requests for another host than this machine's own address or localhost get no /status and no
    /// /metrics, since they may come from a page of another site.
    #[arg(long = "http-host", value_name = "NAME", requires = "http", value_parser = HostName::parse)]
    pub(crate) http_hosts: Vec<HostName>,

    /// Directory of static files to serve at /
    #[arg(long, value_name = "DIR", requires = "http")]
    pub(crate) web_root: Option<PathBuf>,

    /// Unix socket to create for the subcommands, which only this user and root may use
    ///
    /// A socket that a dead node has left behind is replaced.
    #[arg(long, value_name = "PATH")]
    pub(crate) admin: Option<PathBuf>,

    /// Make --admin a file with a loopback port and a token, as on systems without Unix sockets
    #[arg(long, requires = "admin")]
    pub(crate) admin_loopback: bool,

    /// Time between gossip rounds, such as 200ms or 1.5s; also scales the failure detector
    #[arg(long, value_name = "DURATION", default_value_t)]
    pub(crate) gossip_interval: Interval,

    /// File to write once everything is bound, as JSON: gossip, http, identity, pid
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

impl Args {
    /// Parses the command line. Ends the process if that fails, or for `--help`.
    pub(crate) fn from_command_line() -> Self {
        Self::try_parse().unwrap_or_else(|error| without_secret(with_order(error)).exit())
    }

    /// Returns whether a list of trusted keys was given.
    pub(crate) fn has_trusted_keys(&self) -> bool {
        !self.trusted.is_empty() || self.trust_file.is_some()
    }

    /// Checks the combinations of options that clap cannot check.
    ///
    /// # Errors
    ///
    /// Fails with a text that says what to change.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !self.has_trusted_keys() && self.secret.is_none() && !self.trust_anyone {
            return Err("no peer is trusted by default: give one of these options\n  \
                --secret FILE      peers that know the cluster's secret; make one with\n                     \
                gossip-node --make-secret FILE\n  \
                --trust KEY        peers with exactly these identities (repeatable)\n  \
                --trust-file FILE  the same, one on each line of a file\n  \
                --trust-anyone     every peer that can reach the port; for demonstrations\n\
                See gossip-node --help."
                .to_owned());
        }
        if let Some(advertise) = self.advertise
            && !is_dialable(advertise)
        {
            let error = ConnectError::NotDialable { addr: advertise };
            return Err(format!(
                "--advertise {error}: give an address and port that others can reach"
            ));
        }
        let listens = [("--listen", Some(self.listen)), ("--http", self.http)];
        for (option, addr) in listens {
            let checked = addr.map_or(Ok(()), check_listenable);
            checked.map_err(|error| format!("{option} {error}"))?;
        }
        Ok(())
    }
}

/// Adds to the error of an option before a subcommand that options follow the subcommand.
fn with_order(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(command)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    if error.kind() == ErrorKind::ArgumentConflict {
        let tip = format!("the options of a subcommand follow it: gossip-node {command} [OPTIONS]");
        let tip = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tip);
    }
    error
}

/// Hides a value that contains a secret, which would otherwise be printed and end in the log of a service.
fn without_secret(mut error: clap::Error) -> clap::Error {
    const SECRET: &str = "gossip-secret-";
    for kind in [
        ContextKind::InvalidValue,
        ContextKind::InvalidArg,
        ContextKind::InvalidSubcommand,
    ] {
        if matches!(error.get(kind), Some(ContextValue::String(value)) if value.contains(SECRET)) {
            let hidden = "(a cluster secret, which belongs into the file of --secret)";
            error.insert(kind, ContextValue::String(hidden.to_owned()));
        }
    }
    error
}

/// Parses an address into its canonical form. Of a host name, it takes the first IPv4 address, or else
/// the first one.
fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    const EXPECTED: &str = "must be IP:PORT or HOST:PORT, such as 127.0.0.1:7946 or localhost:7946";
    refuse_link_local(text)?;
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) {
        return Err(EXPECTED.to_owned());
    }
    let addrs = text
        .to_socket_addrs()
        .map_err(|error| format!("{EXPECTED}: {error}"))?;
    preferred(addrs).ok_or_else(|| "the host name has no address".to_owned())
}

/// Returns the canonical form of the first IPv4 address, or else of the first one that is not link-local.
fn preferred(addrs: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let addrs = addrs.map(canonical).filter(|addr| !is_link_local(*addr));
    let addrs: Vec<_> = addrs.collect();
    let first_ipv4 = addrs.iter().find(|addr| addr.is_ipv4());
    first_ipv4.or(addrs.first()).copied()
}

fn parse_seed(text: &str) -> Result<String, String> {
    refuse_link_local(text)?;
    let checked = TcpTransport::default().check_name(text);
    checked.map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Fails with an explanation if `text` is an address that is valid on one interface only, whether the
/// interface is named (`%eth0`), numbered or left out.
fn refuse_link_local(text: &str) -> Result<(), String> {
    let has_scope = text.starts_with('[') && text.contains('%');
    if has_scope || text.parse().is_ok_and(is_link_local) {
        return Err(
            "link-local addresses mean another machine on each network, and members cannot pass \
             them on: use a global or unique local IPv6 address, or IPv4"
                .to_owned(),
        );
    }
    Ok(())
}

fn parse_key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use gossip_transport::ClusterSecret;

    use super::*;

    #[test]
    fn clap_accepts_the_definition_of_the_command_line() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn a_secret_in_the_place_of_something_else_is_not_printed() {
        let secret = ClusterSecret::generate().to_text();
        for option in ["--trust", "--listen", "--max-members"] {
            let args = ["gossip-node", option, &secret];
            let error = without_secret(Args::try_parse_from(args).unwrap_err()).to_string();
            assert!(
                error.contains(option) && error.contains("(a cluster secret"),
                "{error}"
            );
            assert!(!error.contains(&secret), "{error}");
        }
        for stray in [secret.clone(), format!("--{secret}")] {
            let error = Args::try_parse_from(["gossip-node", &stray]).unwrap_err();
            let error = without_secret(error).to_string();
            assert!(!error.contains(&secret), "{error}");
        }
    }

    #[test]
    fn an_option_before_its_subcommand_is_reported_with_the_right_order() {
        let args = ["gossip-node", "--admin", "path", "get", "role"];
        let error = Args::try_parse_from(args).unwrap_err();
        let text = with_order(error).to_string();
        assert!(
            text.contains("follow it: gossip-node get [OPTIONS]"),
            "{text}"
        );
    }

    #[test]
    fn a_value_may_contain_an_equals_sign_but_a_key_must_not_be_empty() {
        assert_eq!(parse_key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_key_value("a="), Ok(("a".into(), String::new())));
        assert!(parse_key_value("=b").is_err());
        assert!(parse_key_value("a").is_err());
    }

    #[test]
    fn without_an_option_for_trust_the_arguments_are_refused() {
        let args = Args::try_parse_from(["gossip-node"]).unwrap();
        let help = args.check().unwrap_err();
        for option in ["--secret", "--trust KEY", "--trust-anyone", "--make-secret"] {
            assert!(help.contains(option), "{help}");
        }
        let args = Args::try_parse_from(["gossip-node", "--trust-anyone"]).unwrap();
        assert_eq!(args.check(), Ok(()));
    }

    #[test]
    fn trust_anyone_conflicts_with_the_other_options_for_trust() {
        let key = "a".repeat(52);
        for other in [["--secret", "f"], ["--trust", &key], ["--trust-file", "f"]] {
            let args = ["gossip-node", "--trust-anyone", other[0], other[1]];
            let error = Args::try_parse_from(args).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{other:?}");
        }
    }

    #[test]
    fn link_local_addresses_are_refused_with_an_explanation() {
        for option in ["--listen", "--advertise", "--seed"] {
            for addr in ["[fe80::1%eth0]:7946", "[fe80::1%2]:7946", "[fe80::1]:7946"] {
                let args = ["gossip-node", "--trust-anyone", option, addr];
                let error = Args::try_parse_from(args).unwrap_err().to_string();
                assert!(error.contains("unique local"), "{error}");
            }
        }
    }

    #[test]
    fn a_host_name_stands_for_its_address_wherever_one_is_expected() {
        for option in ["--listen", "--advertise", "--http"] {
            let args = ["gossip-node", "--trust-anyone", option, "localhost:7946"];
            let args = Args::try_parse_from(args).unwrap();
            let given = [Some(args.listen), args.advertise, args.http];
            let loopback = ([127, 0, 0, 1], 7946).into();
            assert!(given.contains(&Some(loopback)), "{option}: {given:?}");
            for wrong in [
                "localhost",
                ":7946",
                "nonsense",
                "127.0.0.1",
                "127.0.0.1:99999",
            ] {
                let args = ["gossip-node", "--trust-anyone", option, wrong];
                let error = Args::try_parse_from(args).unwrap_err().to_string();
                assert!(error.contains("HOST:PORT"), "{error}");
            }
        }
    }

    #[test]
    fn of_the_addresses_of_a_host_name_the_first_ipv4_address_is_taken() {
        let preferred = |addrs: &[&str]| {
            let first = preferred(addrs.iter().map(|addr| addr.parse().unwrap()));
            first.map(|addr| addr.to_string())
        };
        let first = preferred(&["[2001:db8::1]:7", "192.0.2.1:7", "192.0.2.2:7"]);
        assert_eq!(first.as_deref(), Some("192.0.2.1:7"));
        let first = preferred(&["[fe80::1]:7", "[2001:db8::1]:7", "[2001:db8::2]:7"]);
        assert_eq!(first.as_deref(), Some("[2001:db8::1]:7"));
        assert_eq!(preferred(&["[fe80::1]:7"]), None);
    }

    #[test]
    fn a_seed_must_have_a_host_and_a_port() {
        for wrong in [
            "foo",
            "foo:",
            ":1",
            "foo:0",
            "foo:99999",
            "http://foo:1",
            "::1",
            "",
        ] {
            let args = ["gossip-node", "--trust-anyone", "--seed", wrong];
            let error = Args::try_parse_from(args).unwrap_err().to_string();
            assert!(error.contains("host:port"), "{error}");
        }
        for right in ["foo:1", "foo.example.com:7946", "127.0.0.1:1", "[::1]:7946"] {
            let args = ["gossip-node", "--trust-anyone", "--seed", right];
            assert!(Args::try_parse_from(args).is_ok(), "{right}");
        }
    }

    #[test]
    fn addresses_are_canonical() {
        let mapped = "[::ffff:192.0.2.1]:7";
        let args = ["gossip-node", "--listen", mapped, "--advertise", mapped];
        let args = Args::try_parse_from(args).unwrap();
        let expected = ([192, 0, 2, 1], 7).into();
        assert_eq!((args.listen, args.advertise), (expected, Some(expected)));
    }

    #[test]
    fn a_trusted_proxy_is_an_address_or_a_network() {
        let parse = |net: &str| {
            let args = [
                "gossip-node",
                "--proxy-protocol-from",
                net,
                "--forwarded-for-from",
                net,
            ];
            Args::try_parse_from(args)
        };
        assert!(parse("10.0.0.0/8").is_ok() && parse("::1").is_ok());
        assert!(parse("10.0.0.0/33").is_err() && parse("proxy.example.com").is_err());
    }

    #[test]
    fn an_address_of_no_machine_is_not_listened_on() {
        for option in ["--listen", "--http"] {
            for addr in [
                "224.0.0.1:1",
                "255.255.255.255:1",
                "240.0.0.1:1",
                "[ff02::1]:1",
                "[100::1]:1",
            ] {
                let args = ["gossip-node", "--trust-anyone", option, addr];
                let error = Args::try_parse_from(args).unwrap().check().unwrap_err();
                assert!(error.contains(option) && error.contains(addr), "{error}");
            }
        }
    }

    #[test]
    fn an_address_that_cannot_be_dialled_is_not_advertised() {
        let base = ["gossip-node", "--trust-anyone", "--listen", "0.0.0.0:0"];
        let parse = |more: &[&str]| {
            Args::try_parse_from(base.iter().chain(more))
                .unwrap()
                .check()
        };
        assert!(parse(&["--advertise", "0.0.0.0:1"]).is_err());
        assert!(parse(&["--advertise", "127.0.0.1:0"]).is_err());
        for addr in [
            "255.255.255.255:1",
            "224.0.0.1:1",
            "240.0.0.1:1",
            "[100::1]:1",
            "[ff02::1]:1",
        ] {
            let error = parse(&["--advertise", addr]).unwrap_err();
            assert!(error.contains(addr), "{error}");
        }
        assert_eq!(parse(&["--advertise", "127.0.0.1:1"]), Ok(()));
    }
}
