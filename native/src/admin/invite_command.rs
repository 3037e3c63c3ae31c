//! The subcommand `gossip-node invite`.
//!
//! With a file of secrets an invite is issued here, and otherwise by the node. Invariant: the word of an invite goes
//! either to stdout alone, so that it can be piped, or to a file that only its owner can read; what it means goes to
//! stderr.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{StringValueParser, TypedValueParser as _};
use gossip_transport::Identity;
use gossip_transport::credential::{InviteId, NamePrefix};
use gossip_transport::gossip::PublicUrl;

use super::invites;
use super::items::Issued;
use super::output::printable;
use super::protocol::{Code, Command, Failure, InviteOrder};
use super::target::Target;
use crate::units::{Period, Size};
use crate::values::{DEFAULT_CLUSTER, parse_seed, path};
use crate::{private_file, trust_files};

/// What `gossip-node invite` is given.
#[derive(Debug, clap::Args)]
pub(crate) struct InviteCommand {
    /// Issue it with the first secret of this file, without a node [default: the running node issues it]
    #[arg(long, value_name = "FILE", value_parser = path())]
    secret: Option<PathBuf>,

    /// Time for which it is valid, such as 1h; at most 30d
    #[arg(long = "for", value_name = "TIME", value_parser = lifetime)]
    lifetime: Duration,

    /// How the names of its holders must begin
    #[arg(long, value_name = "PREFIX", value_parser = StringValueParser::new().try_map(|text| text.parse::<NamePrefix>()))]
    name: Option<NamePrefix>,

    /// Most keys of a holder [default: 64]
    #[arg(long, value_name = "N", value_parser = count)]
    max_keys: Option<u32>,

    /// Most bytes of all keys and values of a holder, 64 more for each key [default: 16KiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_bytes: Option<u32>,

    /// Most keys that a holder may change in a second [default: 20]
    #[arg(long, value_name = "N", value_parser = count)]
    max_changes: Option<u32>,

    /// Most connections of all holders together to a node [default: 256]
    #[arg(long, value_name = "N", value_parser = count)]
    max_connections: Option<u32>,

    /// The identity of the only holder; without it, everyone who has the word is one
    #[arg(long, value_name = "IDENTITY")]
    holder: Option<Identity>,

    /// A member to contact first, as its holder reaches it: HOST:PORT, or a ws:// or wss:// URL for tabs; up to four
    /// [default: the running node, by its address and its --public-url]
    #[arg(long = "seed", value_name = "URL", value_parser = seed)]
    seeds: Vec<String>,

    /// Name of the cluster, with --secret [default: gossip]
    #[arg(long, value_name = "NAME", requires = "secret")]
    cluster: Option<String>,

    /// Write the word to FILE (mode 0600, never overwritten) and not to stdout
    #[arg(long, value_name = "FILE", value_parser = path())]
    out: Option<PathBuf>,

    #[command(flatten)]
    target: Target,
}

impl InviteCommand {
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Returns the request for a node.
    pub(super) fn request(&self) -> Command {
        Command::Invite(self.order())
    }

    /// Returns whether the word goes to a file.
    pub(super) fn writes_word(&self) -> bool {
        self.out.is_some()
    }

    /// Fails if the file for the word exists, or cannot, before an invite is issued that nobody would have. The text says
    /// what to do.
    pub(super) fn check_out(&self) -> Result<(), String> {
        let Some(path) = &self.out else {
            return Ok(());
        };
        if path.symlink_metadata().is_ok() {
            return Err(format!(
                "{} exists, and is never overwritten: name another file",
                path.display()
            ));
        }
        let directory = private_file::directory_of(path);
        if !directory.is_dir() {
            return Err(format!(
                "there is no directory {} for the file {}: make it, or name another file (--out)",
                directory.display(),
                path.display()
            ));
        }
        Ok(())
    }

    /// Writes the word to its file, if there is one.
    pub(super) fn write_word(&self, issued: &Issued) -> io::Result<()> {
        let Some(path) = &self.out else {
            return Ok(());
        };
        private_file::remove_drafts_of(path);
        private_file::write_new(path, &issued.word)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// Issues the invite without a node, or returns `None` if a node is to issue it.
    ///
    /// # Errors
    ///
    /// Fails if the secret cannot be read, or does not suit, with a text that says what to do.
    pub(super) fn issue(&self) -> Option<Result<Issued, Failure>> {
        let path = self.secret.as_ref()?;
        Some(self.issue_with(path))
    }

    fn issue_with(&self, path: &Path) -> Result<Issued, Failure> {
        let shown = path.display();
        let text = private_file::read(path);
        let text = text.map_err(|error| format!("cannot read the secret {shown}: {error}"));
        let secret = text.and_then(|text| trust_files::first_secret(&shown.to_string(), &text));
        let secret = secret.map_err(|reason| Failure::new(Code::Input, reason))?;
        let cluster = self.cluster.as_deref().unwrap_or(DEFAULT_CLUSTER);
        invites::issue(&secret, &self.order(), cluster)
    }

    fn order(&self) -> InviteOrder {
        InviteOrder {
            lifetime_seconds: self.lifetime.as_secs(),
            name: self.name.as_ref().map(|name| name.as_str().to_owned()),
            holder: self.holder,
            max_keys: self.max_keys,
            max_bytes: self.max_bytes,
            max_changes: self.max_changes,
            max_connections: self.max_connections,
            seeds: self.seeds.clone(),
        }
    }

    /// Returns what an invite means, for people.
    pub(super) fn meaning(issued: &Issued) -> String {
        let holders = match &issued.claims.holder {
            Some(holder) => format!("only {} can use it", printable(holder)),
            None => "everyone who has the word can use it".to_owned(),
        };
        let id = printable(&issued.id);
        let mut text = format!(
            "invite {id} to the cluster {}, valid until {}\n\
             {holders}; gossip-node revoke {id} ends it",
            printable(&issued.cluster),
            printable(&issued.expires),
        );
        let loopback = issued.seeds.iter().all(|seed| is_loopback(seed));
        if issued.seeds.is_empty() {
            text.push_str("\nnote: it names no seed, so its holders must be told one (--seed)");
        } else if loopback {
            text.push_str(
                "\nnote: its seeds lead nowhere from other machines: name others with --seed",
            );
        }
        text
    }
}

fn is_loopback(seed: &str) -> bool {
    if let Ok(url) = seed.parse::<PublicUrl>() {
        return url.is_loopback();
    }
    let addr: Result<std::net::SocketAddr, _> = seed.parse();
    addr.is_ok_and(|addr| addr.ip().to_canonical().is_loopback()) || seed.starts_with("localhost:")
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let Period(lifetime) = text.parse()?;
    if lifetime < Duration::from_secs(1) || lifetime > InviteId::MAX_LIFETIME {
        return Err("must be between 1s and 30d".to_owned());
    }
    Ok(lifetime)
}

/// The size of the shortest key without a value, as `--max-bytes` counts it.
const SHORTEST_KEY: u32 = 65;

/// Checks the size of what a holder may set. One that no key fits into would be an invite to nothing.
fn bytes(text: &str) -> Result<u32, String> {
    let Size(bytes) = text.parse()?;
    match u32::try_from(bytes) {
        Err(_) => Err("must be less than 4GiB".to_owned()),
        Ok(bytes) if bytes < SHORTEST_KEY => Err(format!(
            "must be at least {SHORTEST_KEY} bytes, which the shortest key takes"
        )),
        Ok(bytes) => Ok(bytes),
    }
}

/// Checks the number of something that a holder may have or do. With none, the invite would be of no use.
fn count(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("must be a whole number from 1 to {}", u32::MAX))
}

/// Checks a seed for a node or for a tab.
fn seed(text: &str) -> Result<String, String> {
    match ["ws://", "wss://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
    {
        Some(rest) if !rest.is_empty() => Ok(text.to_owned()),
        _ => parse_seed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invite_is_valid_for_a_second_to_thirty_days() {
        assert_eq!(lifetime("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(lifetime("30d"), Ok(InviteId::MAX_LIFETIME));
        for wrong in ["0s", "999ms", "31d", "721h", "1"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_invite_allows_at_least_one_of_everything() {
        assert_eq!(count("1"), Ok(1));
        assert_eq!(count("4294967295"), Ok(u32::MAX));
        for wrong in ["0", "-1", "ten", "1.5", "", "4294967296"] {
            let error = count(wrong).unwrap_err();
            assert_eq!(error, "must be a whole number from 1 to 4294967295");
        }
        assert_eq!(bytes("65"), Ok(65));
        assert!(
            bytes("64")
                .unwrap_err()
                .starts_with("must be at least 65 bytes")
        );
    }

    #[test]
    fn seeds_are_addresses_or_urls_of_web_sockets() {
        for good in [
            "a.example:7946",
            "127.0.0.1:1",
            "wss://a.example/gossip",
            "ws://[::1]:1",
        ] {
            assert_eq!(seed(good).as_deref(), Ok(good));
        }
        for wrong in ["", "a.example", "wss://", "http://a.example"] {
            assert!(seed(wrong).is_err(), "{wrong}");
        }
    }
}
