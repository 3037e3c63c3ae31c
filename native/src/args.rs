//! The command line: what can be said, what goes together, and the help text.
//!
//! Reads no file and opens nothing. Invariant: an [`Args`] that passes [`Args::check`] names
//! whom to trust.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use gossip_transport::credential::Identity;

const LONG_ABOUT: &str = "\
A native member of a gossip cluster.

It listens on one TCP port for other nodes and for browser tabs (WebSocket on the same port), \
dials its seeds, and from then on knows every member: who is live, and the keys that each has set. \
Every connection is encrypted and both ends prove who they are.";

const AFTER_HELP: &str = "\
Whom to trust
  Nobody is trusted by default. Say one of these, or the first two together:
    --secret FILE     whoever knows the cluster's secret (make one with --make-secret FILE)
    --trust KEY       exactly these identities; a node prints its own when it starts
    --trust-anyone    anyone who can reach the port; for demonstrations
  With both --secret and --trust a peer needs both.

Examples
  A secret, and a first node with its page and its status on port 8080:
    gossip-node --make-secret cluster.secret
    gossip-node --secret cluster.secret --id a --listen 127.0.0.1:7001 --http 127.0.0.1:8080

  A second one, which finds the first:
    gossip-node --secret cluster.secret --id b --listen 127.0.0.1:7002 --seed 127.0.0.1:7001

  On a public interface, with a key that survives restarts and two peers by their keys:
    gossip-node --listen 0.0.0.0:7001 --advertise 203.0.113.5:7001 --key node.key \\
        --trust KEY_OF_B --trust KEY_OF_C --seed b.example.com:7001

  A bridge into a cluster of unmodified chitchat nodes, which speak UDP, for browser tabs:
    gossip-node --udp --secret cluster.secret --cluster NAME --listen 192.0.2.7:7280 \\
        --seed 192.0.2.1:7280 --http 127.0.0.1:8080 --web-root DIR

HTTP (--http), for everyone who reaches that address: prefer a loopback one
  GET /status       this node's view of the cluster and its counters, as JSON
  GET /metrics      the same counters in the Prometheus text format
  GET /config.json  what a page needs in order to join: cluster, addresses, interval
  GET /...          files of --web-root
  POST, DELETE /keys/KEY
                    with --http-write, from this machine and not from a web page: sets this
                    node's KEY to the request's body, or deletes it. Not authenticated.

Times
  --gossip-interval scales the failure detector: its initial interval is 5 times, its maximal
  interval 10 times the gossip interval. At the default of 1s a stopped node counts as dead after
  7 to 19 seconds, later the younger it was; at 200ms after a fifth of that. All members should
  use the same interval.

Environment
  RUST_LOG          what to log to stderr, for example info (the default), debug,
                    warn,gossip_transport=trace

Exit codes
  0  left the cluster in order, after SIGINT or SIGTERM
  1  could not run: a port in use, an unreadable file; the reason is on stderr
  2  bad usage: stderr says what to change";

/// What the user asked for.
#[derive(Debug, Parser)]
#[command(
    name = "gossip-node",
    version,
    about = "A native member of a gossip cluster",
    long_about = LONG_ABOUT,
    after_long_help = AFTER_HELP,
    after_help = "--help says more, with examples."
)]
pub(crate) struct Args {
    /// Address to listen on for nodes and browser tabs; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7946")]
    pub(crate) listen: SocketAddr,

    /// Speak plaintext UDP on the same port as well, as the published chitchat crate does
    ///
    /// Nothing of it is encrypted, and anyone who can send a datagram to the port is a member: for
    /// a cluster that already runs so. Browser tabs and nodes of this program join it through this
    /// node, over connections that stay encrypted.
    #[arg(long)]
    pub(crate) udp: bool,

    /// Address under which others reach this node [default: the bound address]
    ///
    /// Needed behind a NAT. With --listen on 0.0.0.0 and no --advertise, the node asks its first
    /// seed under which address it is seen.
    #[arg(long, value_name = "ADDR")]
    pub(crate) advertise: Option<SocketAddr>,

    /// A member to begin with; may be given several times
    ///
    /// A host name is looked up again over time, so a seed may move.
    #[arg(long = "seed", value_name = "HOST:PORT")]
    pub(crate) seeds: Vec<String>,

    /// Name of the cluster; only members of the same one talk to each other
    #[arg(long, value_name = "NAME", default_value = "gossip")]
    pub(crate) cluster: String,

    /// Name of this node, unique over the cluster [default: from its identity]
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,

    /// File of this node's secret key, made with mode 0600 if absent [default: a new key each start]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// An identity to trust; may be given several times
    #[arg(long = "trust", value_name = "KEY")]
    pub(crate) trusted: Vec<Identity>,

    /// File of the cluster's secret; who knows it is trusted
    #[arg(long, value_name = "FILE")]
    pub(crate) secret: Option<PathBuf>,

    /// Trust anyone who can reach the port; for demonstrations
    #[arg(long, conflicts_with_all = ["trusted", "secret"])]
    pub(crate) trust_anyone: bool,

    /// Write a new cluster secret to FILE (mode 0600, never overwritten), and exit
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub(crate) make_secret: Option<PathBuf>,

    /// A key to set at the start; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_key_value)]
    pub(crate) set: Vec<(String, String)>,

    /// Address for /status, /metrics and the page
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<SocketAddr>,

    /// Let programs on this machine set and delete keys over HTTP; not authenticated
    #[arg(long, requires = "http")]
    pub(crate) http_write: bool,

    /// Directory of static files to serve at /
    #[arg(long, value_name = "DIR", requires = "http")]
    pub(crate) web_root: Option<PathBuf>,

    /// Time between gossip rounds, such as 200ms or 1.5s; scales the failure detector too
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub(crate) gossip_interval: Duration,

    /// File to write once everything is bound, as JSON: gossip, http, identity, pid
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

impl Args {
    /// What clap cannot say about how arguments go together.
    ///
    /// # Errors
    ///
    /// A text that says what to do.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.trusted.is_empty() && self.secret.is_none() && !self.trust_anyone {
            return Err("whom shall this node trust? Nobody is trusted by default.\n  \
                --secret FILE    whoever knows the cluster's secret; make one with\n                   \
                gossip-node --make-secret FILE\n  \
                --trust KEY      exactly these identities (repeatable)\n  \
                --trust-anyone   anyone who can reach the port; for demonstrations\n\
                See gossip-node --help."
                .to_owned());
        }
        if self.listen.ip().is_unspecified() && self.advertise.is_none() && self.seeds.is_empty() {
            return Err(format!(
                "{} is every interface of this machine, so others cannot be told where to find \
                 this node: give --advertise ADDR, or a --seed that can tell",
                self.listen
            ));
        }
        if let Some(advertise) = self.advertise
            && !gossip_transport::net::is_dialable(advertise)
        {
            return Err(format!(
                "--advertise {advertise}: nobody can dial that; give an address and port that \
                 others reach"
            ));
        }
        Ok(())
    }
}

fn parse_key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("has to be KEY=VALUE".to_owned()),
    }
}

/// Reads `200ms`, `1s`, `1.5s`, `2m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "has to be a time such as 200ms, 1s or 1.5s";
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(digits);
    let unit_seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(EXPECTED.to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| EXPECTED)?;
    let duration =
        Duration::try_from_secs_f64(number * unit_seconds).map_err(|error| error.to_string())?;
    if duration < Duration::from_millis(10) || duration > Duration::from_secs(3600) {
        return Err("has to lie between 10ms and 60m".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn durations_are_read_with_their_units_and_nonsense_is_refused() {
        for (text, millis) in [
            ("200ms", 200),
            ("1s", 1000),
            ("1.5s", 1500),
            ("2m", 120_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)));
        }
        for text in ["", "1", "s", "1h", "-1s", "1..5s", "0s", "1ms", "999m"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_may_hold_an_equals_sign_and_a_key_may_not_be_empty() {
        assert_eq!(parse_key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_key_value("a="), Ok(("a".into(), String::new())));
        assert!(parse_key_value("=b").is_err());
        assert!(parse_key_value("a").is_err());
    }

    #[test]
    fn somebody_has_to_be_trusted() {
        let args = Args::try_parse_from(["gossip-node"]).unwrap();
        let help = args.check().unwrap_err();
        for option in ["--secret", "--trust KEY", "--trust-anyone", "--make-secret"] {
            assert!(help.contains(option), "{help}");
        }
        let args = Args::try_parse_from(["gossip-node", "--trust-anyone"]).unwrap();
        assert_eq!(args.check(), Ok(()));
    }

    #[test]
    fn trusting_anyone_and_somebody_at_once_is_refused() {
        for other in [["--secret", "f"], ["--trust", "x"]] {
            let args = ["gossip-node", "--trust-anyone", other[0], other[1]];
            assert!(Args::try_parse_from(args).is_err());
        }
    }

    #[test]
    fn a_node_that_cannot_know_its_own_address_is_told_to_advertise_one() {
        let base = ["gossip-node", "--trust-anyone", "--listen", "0.0.0.0:0"];
        let parse = |more: &[&str]| {
            Args::try_parse_from(base.iter().chain(more))
                .unwrap()
                .check()
        };
        assert!(parse(&[]).unwrap_err().contains("--advertise"));
        assert!(parse(&["--advertise", "0.0.0.0:1"]).is_err());
        assert!(parse(&["--advertise", "127.0.0.1:0"]).is_err());
        assert_eq!(parse(&["--advertise", "127.0.0.1:1"]), Ok(()));
        assert_eq!(parse(&["--seed", "localhost:1"]), Ok(()));
    }
}
