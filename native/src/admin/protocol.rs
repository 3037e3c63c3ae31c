//! The protocol of the admin port: requests, replies and errors, one JSON object on each line.
//!
//! Plain values and their bytes; it opens, reads and writes nothing. A request is
//! `{"version":1,"command":"set","arguments":{"key":"color","value":"red"}}`. Its reply is any number of
//! `{"item":{..}}`, and then `{"done":{}}` or `{"error":{"code":"..","message":".."}}`. Invariant: a request
//! with anything that this version does not know is refused, and not carried out in part.

use gossip_transport::Identity;
use gossip_transport::credential::{ClusterSecret, InviteId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The version of the protocol. A command or an optional argument can be added without another one.
pub(super) const VERSION: u64 = 1;
/// The longest request in bytes, without the end of its line. The longest key and value take 64 KiB,
/// and JSON takes up to six bytes for each of theirs.
pub(super) const MAX_REQUEST_LEN: usize = 512 << 10;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Does nothing, so that a client learns whether a node answers.
    Ping,
    /// Returns the value of a key.
    Get(Get),
    /// Sets a key of the node.
    Set(Set),
    /// Deletes a key of the node.
    Delete(Delete),
    /// Returns all members.
    Members,
    /// Returns all members, and then each change, until one side closes the connection.
    Watch,
    /// Returns the open connections.
    Connections,
    /// Returns the ids of the cluster secrets, and how many connections rest on each.
    SecretList,
    /// Accepts another cluster secret.
    SecretAdd(SecretAdd),
    /// Dials with another cluster secret.
    SecretUse(SecretNamed),
    /// Does not accept a cluster secret any more.
    SecretRemove(SecretNamed),
    /// Issues an invite.
    Invite(InviteOrder),
    /// Refuses an invite from now on.
    Revoke(Revoke),
    /// Returns the invites that are revoked and have not expired.
    RevokeList,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Get {
    pub(super) key: String,
    /// The name of a member. Without it, the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    pub(super) key: String,
    pub(super) value: String,
    /// Whether all members remove the key after the grace period.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) expire: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delete {
    pub(super) key: String,
}

/// `Debug` prints the id of the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretAdd {
    #[serde(with = "secret_text")]
    pub(super) secret: ClusterSecret,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretNamed {
    /// The id, or its first characters.
    pub(super) id: String,
}

/// What an invite is to say. What is not there is not restricted, or has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteOrder {
    pub(super) lifetime_seconds: u64,
    /// The prefix of the names of holders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional")]
    pub(super) holder: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_keys: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_bytes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_changes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_connections: Option<u32>,
    /// The members to contact first. If there are none, the issuing node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) seeds: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revoke {
    #[serde(with = "printed")]
    pub(super) id: InviteId,
}

/// A value in its printed form.
mod printed {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// A value in its printed form, or null if it is missing.
mod optional {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserializer, Serializer};

    use super::printed;

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => printed::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        printed::deserialize(deserializer).map(Some)
    }
}

/// The printed form of a secret in a request.
mod secret_text {
    use gossip_transport::credential::ClusterSecret;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        secret: &ClusterSecret,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&secret.to_text())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ClusterSecret, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The arguments of a command that has none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde wants"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// A request as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) command: Command,
    /// The token of a loopback port. Of the requests on a connection, the first must have it.
    pub(super) token: Option<String>,
}

/// One line of a reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    /// A part of the result.
    Item(Box<RawValue>),
    /// The end of the result.
    Done {},
    /// The end of a command that was not carried out, or not to its end.
    Error(Failure),
}

/// [`Reply::Item`] as it is sent, with one copy of the item fewer.
#[derive(Debug, Serialize)]
pub(super) struct Item<'a, T> {
    pub(super) item: &'a T,
}

/// The reason for which a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    /// A name for programs, which never changes: one of [`Code`], or of a later version.
    pub(super) code: String,
    /// A text for people.
    pub(super) message: String,
}

/// The kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// The line is not a request.
    Malformed,
    /// The line is longer than any request.
    TooLong,
    /// The request is of another version of the protocol.
    UnsupportedVersion,
    /// The node knows no such command.
    UnknownCommand,
    /// The token is missing or wrong.
    Unauthorized,
    /// There are too many connections.
    Busy,
    /// The member has no such key.
    NoSuchKey,
    /// The node knows no member with that name.
    NoSuchMember,
    /// The key or its value breaks a limit.
    Refused,
    /// The node was started without a file of secrets.
    NoSecretFile,
    /// The node has no secret with such an id.
    NoSuchSecret,
    /// Several secrets have such an id.
    AmbiguousSecret,
    /// The secret to be added is there already.
    SecretExists,
    /// There is no room for another secret.
    TooManySecrets,
    /// The secret to be removed is the only one.
    LastSecret,
    /// The secret to be removed is the one for dialling.
    SecretInUse,
    /// The file of secrets is not valid.
    InvalidFile,
    /// The file of secrets cannot be replaced.
    NotWritable,
    /// The command may still be carried out, or has been in part.
    Unfinished,
    /// What the command needs cannot be read. A subcommand says so, and no node.
    Input,
    /// As many invites are revoked as can be.
    TooManyRevocations,
    /// The node is leaving the cluster.
    Leaving,
}

impl Code {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLong => "too-long",
            Self::UnsupportedVersion => "unsupported-version",
            Self::UnknownCommand => "unknown-command",
            Self::Unauthorized => "unauthorized",
            Self::Busy => "busy",
            Self::NoSuchKey => "no-such-key",
            Self::NoSuchMember => "no-such-member",
            Self::Refused => "refused",
            Self::NoSecretFile => "no-secret-file",
            Self::NoSuchSecret => "no-such-secret",
            Self::AmbiguousSecret => "ambiguous-secret",
            Self::SecretExists => "secret-exists",
            Self::TooManySecrets => "too-many-secrets",
            Self::LastSecret => "last-secret",
            Self::SecretInUse => "secret-in-use",
            Self::InvalidFile => "invalid-file",
            Self::NotWritable => "not-writable",
            Self::Unfinished => "unfinished",
            Self::Input => "input",
            Self::TooManyRevocations => "too-many-revocations",
            Self::Leaving => "leaving",
        }
    }
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code.as_str().to_owned(),
            message: message.into(),
        }
    }

    pub(super) fn is(&self, code: Code) -> bool {
        self.code == code.as_str()
    }
}

impl Command {
    /// Returns the line of a request, its end included.
    ///
    /// # Errors
    ///
    /// Never fails, except for a defect of the encoder.
    pub(super) fn to_line(&self, token: Option<&str>) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Line<'a> {
            version: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            token: Option<&'a str>,
            command: &'a str,
            #[serde(skip_serializing_if = "Value::is_null")]
            arguments: Value,
        }
        let (command, arguments) = match self {
            Self::Ping => ("ping", Value::Null),
            Self::Get(get) => ("get", serde_json::to_value(get)?),
            Self::Set(set) => ("set", serde_json::to_value(set)?),
            Self::Delete(delete) => ("delete", serde_json::to_value(delete)?),
            Self::Members => ("members", Value::Null),
            Self::Watch => ("watch", Value::Null),
            Self::Connections => ("connections", Value::Null),
            Self::SecretList => ("secret-list", Value::Null),
            Self::SecretAdd(add) => ("secret-add", serde_json::to_value(add)?),
            Self::SecretUse(named) => ("secret-use", serde_json::to_value(named)?),
            Self::SecretRemove(named) => ("secret-remove", serde_json::to_value(named)?),
            Self::Invite(order) => ("invite", serde_json::to_value(order)?),
            Self::Revoke(revoke) => ("revoke", serde_json::to_value(revoke)?),
            Self::RevokeList => ("revoke-list", Value::Null),
        };
        let line = Line {
            version: VERSION,
            token,
            command,
            arguments,
        };
        Ok(serde_json::to_string(&line)? + "\n")
    }

    fn parse(name: &str, given: Map<String, Value>) -> Result<Self, Failure> {
        Ok(match name {
            "ping" => arguments(given).map(|Nothing {}| Self::Ping)?,
            "get" => Self::Get(arguments(given)?),
            "set" => Self::Set(arguments(given)?),
            "delete" => Self::Delete(arguments(given)?),
            "members" => arguments(given).map(|Nothing {}| Self::Members)?,
            "watch" => arguments(given).map(|Nothing {}| Self::Watch)?,
            "connections" => arguments(given).map(|Nothing {}| Self::Connections)?,
            "secret-list" => arguments(given).map(|Nothing {}| Self::SecretList)?,
            "secret-add" => Self::SecretAdd(arguments(given)?),
            "secret-use" => Self::SecretUse(arguments(given)?),
            "secret-remove" => Self::SecretRemove(arguments(given)?),
            "invite" => Self::Invite(arguments(given)?),
            "revoke" => Self::Revoke(arguments(given)?),
            "revoke-list" => arguments(given).map(|Nothing {}| Self::RevokeList)?,
            _ => {
                let message = format!("this node knows no command {name:?}");
                return Err(Failure::new(Code::UnknownCommand, message));
            }
        })
    }
}

impl Request {
    /// Parses a line.
    ///
    /// # Errors
    ///
    /// Fails if it is not a request of this version. Nothing may be done then.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Line {
            #[serde(rename = "version")]
            _version: u64,
            command: String,
            token: Option<String>,
            #[serde(default)]
            arguments: Map<String, Value>,
        }
        // An array would be read as the fields in their order.
        if !line.trim_ascii_start().starts_with(b"{") {
            return Err(Failure::new(Code::Malformed, "not a request: no object"));
        }
        // The fields of another version may have other names.
        let Versioned { version } = serde_json::from_slice(line).map_err(malformed)?;
        if version != VERSION {
            let message = format!("version {version} is not supported, this node speaks {VERSION}");
            return Err(Failure::new(Code::UnsupportedVersion, message));
        }
        let line: Line = serde_json::from_slice(line).map_err(malformed)?;
        Ok(Self {
            command: Command::parse(&line.command, line.arguments)?,
            token: line.token,
        })
    }
}

fn arguments<T: DeserializeOwned>(given: Map<String, Value>) -> Result<T, Failure> {
    serde_json::from_value(Value::Object(given)).map_err(malformed)
}

fn malformed(error: serde_json::Error) -> Failure {
    Failure::new(Code::Malformed, format!("not a request: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(line: &str) -> String {
        Request::parse(line.as_bytes()).unwrap_err().code
    }

    #[test]
    fn every_command_is_read_as_it_was_written() {
        let key = || "color \u{0}\n\u{e9}".to_owned();
        let get = |node: Option<&str>| Get {
            key: key(),
            node: node.map(str::to_owned),
        };
        let set = |expire| Set {
            key: key(),
            value: "\"red\"\n".to_owned(),
            expire,
        };
        let secret = || SecretNamed { id: key() };
        let order = |holder: Option<Identity>, seeds: &[&str]| InviteOrder {
            lifetime_seconds: 3600,
            name: holder.map(|_| "tab-".to_owned()),
            holder,
            max_keys: holder.map(|_| 7),
            max_bytes: None,
            max_changes: holder.map(|_| 0),
            max_connections: None,
            seeds: seeds.iter().map(|seed| (*seed).to_owned()).collect(),
        };
        let id = InviteId::generate(std::time::Duration::ZERO, InviteId::MAX_LIFETIME);
        for command in [
            Command::Invite(order(None, &[])),
            Command::Invite(order(Some(Identity::from_bytes([7; 32])), &["a:1"])),
            Command::Revoke(Revoke { id: id.unwrap() }),
            Command::RevokeList,
            Command::SecretList,
            Command::SecretAdd(SecretAdd {
                secret: ClusterSecret::generate(),
            }),
            Command::SecretUse(secret()),
            Command::SecretRemove(secret()),
            Command::Ping,
            Command::Get(get(None)),
            Command::Get(get(Some("b"))),
            Command::Set(set(false)),
            Command::Set(set(true)),
            Command::Delete(Delete { key: key() }),
            Command::Members,
            Command::Watch,
            Command::Connections,
        ] {
            for token in [None, Some("secret")] {
                let line = command.to_line(token).unwrap();
                let line = line.strip_suffix('\n').unwrap();
                assert!(!line.contains('\n'), "{line}");
                let request = Request::parse(line.as_bytes()).unwrap();
                assert_eq!(request.command, command);
                assert_eq!(request.token.as_deref(), token);
            }
        }
    }

    #[test]
    fn neither_the_debug_form_of_a_request_nor_its_error_contains_a_secret() {
        let secret = ClusterSecret::generate();
        let add = Command::SecretAdd(SecretAdd {
            secret: secret.clone(),
        });
        let line = add.to_line(None).unwrap();
        let text = secret.to_text();
        assert!(line.contains(&text));
        let request = Request::parse(line.trim_end().as_bytes()).unwrap();
        assert!(!format!("{request:?}").contains(&text));
        let broken = line.replace(&text, &format!("{text}x"));
        let error = Request::parse(broken.trim_end().as_bytes()).unwrap_err();
        assert!(error.is(Code::Malformed));
        assert!(!error.message.contains(&text), "{}", error.message);
    }

    #[test]
    fn a_line_that_is_not_a_request_is_malformed() {
        for line in [
            "",
            "GET / HTTP/1.1",
            "1",
            "[]",
            r#"[1,"ping",null,{}]"#,
            "{}",
            r#"{"command":"members"}"#,
            r#"{"version":"1","command":"members"}"#,
            r#"{"version":1}"#,
            r#"{"version":1,"command":7}"#,
            r#"{"version":1,"command":"members"} {}"#,
            r#"{"version":1,"command":"get"}"#,
            r#"{"version":1,"command":"set","arguments":{"key":"k"}}"#,
            r#"{"version":1,"command":"set","arguments":{"key":"k","value":1}}"#,
            r#"{"version":1,"command":"get","arguments":["k"]}"#,
        ] {
            assert_eq!(code_of(line), "malformed", "{line}");
        }
        let not_utf8 = b"{\"version\":1,\"command\":\"\xff\"}";
        assert!(Request::parse(not_utf8).is_err());
    }

    #[test]
    fn what_this_version_does_not_know_is_refused_and_not_ignored() {
        let unknown = r#"{"version":1,"command":"rotate-secret","arguments":{"file":"f"}}"#;
        assert_eq!(code_of(unknown), "unknown-command");
        let later = r#"{"version":2,"do":"members","with":{}}"#;
        assert_eq!(code_of(later), "unsupported-version");
        for line in [
            r#"{"version":1,"command":"members","arguments":{"of":"x"}}"#,
            r#"{"version":1,"command":"members","since":5}"#,
            r#"{"version":1,"command":"set","arguments":{"key":"k","value":"v","if_version":3}}"#,
        ] {
            assert_eq!(code_of(line), "malformed", "{line}");
        }
    }

    #[test]
    fn the_longest_key_and_value_fit_into_a_request() {
        let set = Command::Set(Set {
            key: "\u{1}".repeat(100),
            value: "\u{1}".repeat((64 << 10) - 100),
            expire: true,
        });
        assert!(set.to_line(Some(&"0".repeat(64))).unwrap().len() < MAX_REQUEST_LEN);
    }

    #[test]
    fn the_lines_of_a_reply_have_their_documented_form() {
        let sent = serde_json::to_string(&Item { item: &[1] }).unwrap();
        assert_eq!(sent, r#"{"item":[1]}"#);
        let item = serde_json::value::to_raw_value(&[1]).unwrap();
        let failure = Failure::new(Code::NoSuchKey, "m");
        for (reply, expected) in [
            (Reply::Item(item), r#"{"item":[1]}"#),
            (Reply::Done {}, r#"{"done":{}}"#),
            (
                Reply::Error(failure),
                r#"{"error":{"code":"no-such-key","message":"m"}}"#,
            ),
        ] {
            let text = serde_json::to_string(&reply).unwrap();
            assert_eq!(text, expected);
            let read: Reply = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), expected);
        }
    }
}
