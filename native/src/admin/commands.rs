//! The subcommands of `gossip-node` that use a running node, and their exit codes.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};

use gossip_transport::rt;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use super::client::Client;
use super::error::{ClientError, Stop};
use super::invite_command::InviteCommand;
use super::items::{Connection, Deleted, Entry, Event, Issued, Revoked, Secret};
use super::output::{self, Keys};
use super::protocol::{Code, Command, Delete, Failure, Get, Set};
use super::revoke_command::RevokeCommand;
use super::secret_command::SecretCommand;
use super::target::Target;
use crate::exit_code::EXIT_USAGE;
use crate::member_status::MemberStatus;
use crate::shown::has_secret;
use crate::values::{HAS_SECRET, parse_key};

/// Exit code of a command that the node has not carried out.
const EXIT_REFUSED: u8 = 1;
/// Exit code if no node answers.
const EXIT_UNREACHABLE: u8 = 3;

/// A subcommand.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AdminCommand {
    /// Print the value of a key of a running node, or of another member
    Get {
        /// The key
        #[arg(value_parser = parse_key)]
        key: String,
        /// The member whose key it is, by its name [default: the node itself]
        #[arg(long, value_name = "ID")]
        node: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Set a key of a running node
    Set {
        /// The key
        #[arg(value_parser = parse_key)]
        key: String,
        /// Its value
        #[arg(allow_negative_numbers = true)]
        value: String,
        /// Let all members remove the key by themselves after two hours
        #[arg(long)]
        expire: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a key of a running node
    Delete {
        /// The key
        #[arg(value_parser = parse_key)]
        key: String,
        #[command(flatten)]
        target: Target,
    },
    /// List the members that a running node knows
    Members {
        /// Print their keys, too; --json always does
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Print the members that a running node knows, and then each change, until the node ends
    Watch {
        #[command(flatten)]
        target: Target,
    },
    /// List the open connections of a running node, with the queues of their peers
    Connections {
        #[command(flatten)]
        target: Target,
    },
    /// Print a new invite, with which a stranger can join the cluster as a leaf
    ///
    /// The word goes to stdout or to --out, and what it means to stderr. Everyone who has it can use it, unless it names its only
    /// holder.
    Invite(InviteCommand),
    /// Revoke an invite on all nodes, whose connections with it end within two seconds, or list those that are revoked
    Revoke(RevokeCommand),
    /// List and change the cluster secrets of a running node, and its file of secrets
    Secret {
        #[command(subcommand)]
        command: SecretCommand,
    },
}

impl AdminCommand {
    /// Carries out the command, and returns its exit code.
    pub(crate) fn run(&self) -> u8 {
        let target = self.target();
        let error = match self.exchange(target) {
            Ok(()) => return 0,
            // As a program that does not catch SIGPIPE.
            Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
            Err(error) => error,
        };
        let (exit, failure) = match error {
            Stop::Usage(message) => (EXIT_USAGE, failure("usage", message)),
            Stop::Input(message) => (EXIT_REFUSED, Failure::new(Code::Input, message)),
            Stop::Client(ClientError::Refused(failure)) => (EXIT_REFUSED, failure),
            Stop::Client(ClientError::Unreachable(message)) => {
                (EXIT_UNREACHABLE, failure("unreachable", message))
            }
            Stop::Output(error) => {
                let message = format!("cannot write the result: {error}");
                (EXIT_REFUSED, failure("output", message))
            }
        };
        let text = if target.json {
            json!({ "error": failure }).to_string()
        } else {
            format!("error: {}", failure.message)
        };
        let _ = writeln!(io::stderr(), "{text}");
        exit
    }

    fn target(&self) -> &Target {
        match self {
            Self::Get { target, .. }
            | Self::Set { target, .. }
            | Self::Delete { target, .. }
            | Self::Members { target, .. }
            | Self::Watch { target }
            | Self::Connections { target } => target,
            Self::Invite(command) => command.target(),
            Self::Revoke(command) => command.target(),
            Self::Secret { command } => command.target(),
        }
    }

    fn request(&self) -> Result<Command, Stop> {
        Ok(match self {
            Self::Get { key, node, .. } => Command::Get(Get {
                key: key.clone(),
                node: node.clone(),
            }),
            Self::Set { key, value, .. } if has_secret(key) || has_secret(value) => {
                return Err(Stop::Usage(format!("the key or the value {HAS_SECRET}")));
            }
            Self::Set {
                key, value, expire, ..
            } => Command::Set(Set {
                key: key.clone(),
                value: value.clone(),
                expire: *expire,
            }),
            Self::Delete { key, .. } => Command::Delete(Delete { key: key.clone() }),
            Self::Members { .. } => Command::Members,
            Self::Watch { .. } => Command::Watch,
            Self::Connections { .. } => Command::Connections,
            Self::Invite(command) => command.request(),
            Self::Revoke(command) => command.request()?,
            Self::Secret { command } => command.request()?,
        })
    }

    fn exchange(&self, target: &Target) -> Result<(), Stop> {
        if let Self::Invite(command) = self {
            command.check_out().map_err(Stop::Input)?;
            if let Some(issued) = command.issue() {
                let issued =
                    issued.map_err(|failure| Stop::Client(ClientError::Refused(failure)))?;
                return invite(command, &issued, target.json).map_err(Stop::Output);
            }
        }
        let path = target
            .path(env::var_os("XDG_RUNTIME_DIR"))
            .map_err(Stop::Usage)?;
        let request = self.request()?;
        let mut client = Client::connect(&path).map_err(Stop::Client)?;
        let mut printer = Printer {
            command: self,
            json: target.json,
            members: Vec::new(),
            secrets: Vec::new(),
            connections: Vec::new(),
            revoked: Vec::new(),
        };
        let mut printed = Ok(());
        let ended = client.run(&request, |item| {
            printed = printer.item(item);
            printed.is_ok()
        });
        printed.map_err(Stop::Output)?;
        ended.map_err(Stop::Client)?;
        printer.end().map_err(Stop::Output)
    }
}

fn failure(code: &str, message: String) -> Failure {
    Failure {
        code: code.to_owned(),
        message,
    }
}

/// Prints the result of a command.
struct Printer<'a> {
    command: &'a AdminCommand,
    json: bool,
    /// The members received so far, since a table is printed at once.
    members: Vec<MemberStatus>,
    /// The secrets received so far.
    secrets: Vec<Secret>,
    connections: Vec<Connection>,
    revoked: Vec<Revoked>,
}

impl Printer<'_> {
    fn item(&mut self, item: &RawValue) -> io::Result<()> {
        match self.command {
            AdminCommand::Invite(command) if command.writes_word() => {
                invite(command, &read(item)?, self.json)
            }
            _ if self.json => print(item.get()),
            AdminCommand::Get { .. } => value(&read::<Entry>(item)?),
            AdminCommand::Set { .. } => print(&output::was_set(&read::<Entry>(item)?)),
            AdminCommand::Delete { .. } => print(&output::deleted(&read::<Deleted>(item)?)),
            AdminCommand::Members { .. } => {
                self.members.push(read(item)?);
                Ok(())
            }
            AdminCommand::Connections { .. } => {
                self.connections.push(read(item)?);
                Ok(())
            }
            AdminCommand::Invite(command) => invite(command, &read(item)?, false),
            AdminCommand::Revoke(RevokeCommand { list: true, .. }) => {
                self.revoked.push(read(item)?);
                Ok(())
            }
            AdminCommand::Revoke(_) => {
                let (line, note) = RevokeCommand::done(&read(item)?, rt::unix_time());
                if let Some(note) = note {
                    let _ = writeln!(io::stderr(), "{note}");
                }
                print(&line)
            }
            AdminCommand::Watch { .. } => print(&output::event(&read::<Event>(item)?)),
            AdminCommand::Secret {
                command: SecretCommand::List { .. },
            } => {
                self.secrets.push(read(item)?);
                Ok(())
            }
            AdminCommand::Secret { command } => print(&command.done(&read(item)?)),
        }
    }

    fn end(&self) -> io::Result<()> {
        match self.command {
            AdminCommand::Members { keys, .. } if !self.json => {
                let keys = if *keys { Keys::Listed } else { Keys::Counted };
                print(output::table(&self.members, keys).trim_end())
            }
            AdminCommand::Connections { .. } if !self.json => {
                print(output::connections(&self.connections).trim_end())
            }
            AdminCommand::Revoke(RevokeCommand { list: true, .. }) if !self.json => {
                print(output::revoked(&self.revoked).trim_end())
            }
            AdminCommand::Secret {
                command: SecretCommand::List { .. },
            } if !self.json => print(output::secrets(&self.secrets).trim_end()),
            _ => Ok(()),
        }
    }
}

/// Prints an invite: the word alone on stdout, unless it goes to a file.
fn invite(command: &InviteCommand, issued: &Issued, json: bool) -> io::Result<()> {
    command.write_word(issued)?;
    let in_file = command.writes_word();
    if json {
        let mut object = serde_json::to_value(issued)?;
        if let (true, Some(fields)) = (in_file, object.as_object_mut()) {
            fields.remove("word");
        }
        return print(&object.to_string());
    }
    let _ = writeln!(io::stderr(), "{}", InviteCommand::meaning(issued));
    if in_file {
        return Ok(());
    }
    print(&output::printable(&issued.word))
}

/// Prints a value: as it is for programs, without control characters for people.
fn value(entry: &Entry) -> io::Result<()> {
    if !entry.live {
        let name = output::printable(&entry.member.id);
        let _ = writeln!(
            io::stderr(),
            "note: {name} is not live, this is its last value"
        );
    }
    if io::stdout().is_terminal() {
        print(&output::printable(&entry.value))
    } else {
        print(&entry.value)
    }
}

fn read<T: DeserializeOwned>(item: &RawValue) -> io::Result<T> {
    Ok(serde_json::from_str(item.get())?)
}

/// Prints a line at once, since the next one may be long in coming.
fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
