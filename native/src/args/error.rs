//! The errors of the command line and of the file of `--config`.
//!
//! Those of clap and of the file hide a secret that was given in the wrong place.

use std::fmt;
use std::io;
use std::path::PathBuf;

use clap::Subcommand as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::admin::AdminCommand;
use crate::shown::{self, brief};

/// The reason for which arguments cannot be used.
#[derive(Debug)]
pub(crate) enum ArgsError {
    /// They are malformed, or do not fit together. Also the outcome of `--help`.
    Malformed(clap::Error),
    /// The file of `--config` cannot be used.
    File(ConfigFileError),
}

impl From<clap::Error> for ArgsError {
    fn from(error: clap::Error) -> Self {
        Self::Malformed(without_secret(with_tip(error)))
    }
}

/// The reason for which a file of options cannot be used.
#[derive(Debug)]
pub(crate) struct ConfigFileError {
    pub(super) path: PathBuf,
    /// The line, unless it is about all of the file.
    pub(super) line: Option<usize>,
    pub(super) problem: Box<ConfigFileProblem>,
}

/// What is wrong with a file of options.
#[derive(Debug)]
pub(super) enum ConfigFileProblem {
    Unreadable(io::Error),
    TooLong {
        /// The length of the longest file, in bytes.
        max: u64,
    },
    NotUtf8,
    /// It is not TOML. The text says why.
    Syntax(String),
    UnknownOption {
        name: String,
        hint: Hint,
    },
    /// The option makes sense on a command line only.
    NotInFile {
        name: String,
    },
    WrongType {
        name: String,
        /// The value as the file has it, unless it is a table.
        value: Option<String>,
        expected: String,
        found: &'static str,
    },
    BadValue {
        name: String,
        /// The value as the file has it.
        value: String,
        reason: String,
    },
}

/// What may be meant by a name that is not an option.
#[derive(Debug)]
pub(super) enum Hint {
    /// The option with a similar name.
    Similar(String),
    /// The subcommand that has such an option.
    OfSubcommand(String),
    /// It is the name of a table.
    Table,
    None,
}

impl fmt::Display for ConfigFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.line {
            Some(line) => write!(f, "{path}:{line}: {}", self.problem),
            None => write!(f, "{path}: {}", self.problem),
        }
    }
}

impl fmt::Display for ConfigFileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot be read (--config): {error}"),
            Self::TooLong { max } => write!(f, "is longer than {max} bytes"),
            Self::NotUtf8 => f.write_str("is not UTF-8"),
            Self::Syntax(reason) => write!(f, "is not TOML: {}", brief(reason)),
            Self::UnknownOption { name, hint } => {
                let name = brief(name);
                match hint {
                    Hint::Similar(similar) => {
                        write!(f, "there is no option {name}; did you mean {similar}?")
                    }
                    Hint::OfSubcommand(command) => write!(
                        f,
                        "{name} is an option of gossip-node {command}, and not of a node: give it on that command line"
                    ),
                    Hint::Table => write!(
                        f,
                        "there is no option {name}, and options are in no table: write them without [{name}] above them"
                    ),
                    Hint::None => write!(
                        f,
                        "there is no option {name}; gossip-node --help lists the options"
                    ),
                }
            }
            Self::NotInFile { name } => write!(f, "{name} is an option of the command line only"),
            Self::WrongType {
                name,
                value,
                expected,
                found,
            } => {
                match value {
                    Some(value) => write!(f, "the value {} of {name}", brief(value))?,
                    None => f.write_str(name)?,
                }
                write!(f, " is {found}, but must be {expected}")
            }
            Self::BadValue {
                name,
                value,
                reason,
            } => {
                let (value, reason) = (brief(value), brief(reason));
                write!(f, "the value {value} of {name} is not valid: {reason}")
            }
        }
    }
}

impl std::error::Error for ConfigFileError {}

/// An argument that is not valid, although it has the right form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// The option to change, without its dashes, if there is only one.
    pub(crate) option: Option<String>,
    /// What is wrong with it, or with the arguments together.
    pub(crate) reason: String,
}

impl Invalid {
    /// Returns the error of `option`, whose reason follows its name.
    pub(crate) fn new(option: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            option: Some(option.into()),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.option {
            Some(option) => write!(f, "--{option} {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for Invalid {}

/// Adds to the error of an option before a subcommand that options follow the subcommand, and to that of a word which
/// is no subcommand what it could be.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let of_secret = error.get(ContextKind::Usage).is_some_and(|usage| {
        let usage = usage.to_string();
        usage.contains("gossip-node secret ")
    });
    let program = AdminCommand::augment_subcommands(clap::Command::new("gossip-node"));
    let parent = if of_secret {
        program.find_subcommand("secret").unwrap_or(&program)
    } else {
        &program
    };
    let is_known = parent.find_subcommand(word).is_some();
    let tip = match error.kind() {
        ErrorKind::ArgumentConflict if is_known => {
            format!("the options of a subcommand follow it: gossip-node {word} [OPTIONS]")
        }
        ErrorKind::ArgumentConflict | ErrorKind::InvalidSubcommand
            if error.get(ContextKind::SuggestedSubcommand).is_none() =>
        {
            let names = parent.get_subcommands().map(clap::Command::get_name);
            let names = names.collect::<Vec<_>>().join(", ");
            let file = if of_secret {
                ""
            } else {
                "; a file of options is given with --config FILE"
            };
            format!("the subcommands are {names}{file}")
        }
        _ => return error,
    };
    let tip = ContextValue::StyledStrs(vec![tip.into()]);
    error.insert(ContextKind::Suggested, tip);
    error
}

/// Hides a value that contains a secret, which would otherwise be printed and end in the log of a service.
fn without_secret(mut error: clap::Error) -> clap::Error {
    for kind in [
        ContextKind::InvalidValue,
        ContextKind::InvalidArg,
        ContextKind::InvalidSubcommand,
    ] {
        if matches!(error.get(kind), Some(ContextValue::String(value)) if shown::has_secret(value))
        {
            let hidden = "(a secret, which belongs into the file of --secret, --key or --invite)";
            error.insert(kind, ContextValue::String(hidden.to_owned()));
        }
    }
    error
}
