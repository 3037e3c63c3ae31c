//! The admin port: a node listens on it, and the subcommands of `gossip-node` use it.
//!
//! Both sides are in this program. The port is a Unix socket that only the node's user and root may
//! use, or a port on the loopback interface with a token in a file that only they can read. Invariant:
//! nobody else can send a command, and a client that stops reading delays nobody and holds nothing for
//! long.
//!
//! | file | contents |
//! |---|---|
//! | `protocol` | requests, replies and errors, one JSON object on each line |
//! | `items` | the objects in replies, which are also the output of `--json` |
//! | `changes` | what has changed between two looks at the members |
//! | `port/` | listening on a socket or a loopback port, and what becomes of the file of a dead node |
//! | `server` | accepting connections, and which one gives way when there are too many |
//! | `session` | one connection: its requests, its replies and their time limits |
//! | `audit` | the log of what is done, and by whom |
//! | `execute` | what the commands do to the node |
//! | `connections` | what the command about connections does |
//! | `secrets` | what the commands about cluster secrets do |
//! | `invites` | what the commands about invites do |
//! | `commands` | the subcommands, and their exit codes |
//! | `secret_command` | those of `secret` |
//! | `invite_command` | `invite` |
//! | `revoke_command` | `revoke` |
//! | `input` | what subcommands read from files and stdin |
//! | `target` | which node is meant, and how the result is printed |
//! | `client` | the connection of a subcommand |
//! | `error` | what ends a subcommand early |
//! | `output` | what people read |

mod audit;
mod changes;
mod client;
mod commands;
mod connections;
mod error;
mod execute;
mod input;
mod invite_command;
mod invites;
mod items;
mod output;
mod port;
mod protocol;
mod revoke_command;
mod secret_command;
mod secrets;
mod server;
mod session;
mod target;

pub(crate) use commands::AdminCommand;
pub(crate) use port::{Port, PortKind};
pub(crate) use server::{DESCRIPTORS, serve};
