//! The file of `--config`: options in TOML, which become words of a command line.
//!
//! It knows options by the definition of the command line only. Invariants: at most [`MAX_LEN`] bytes are read, and an
//! error names the file, the line and the option, and contains no secret that is in the file.

use std::any::TypeId;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, ValueHint};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigFileError, ConfigFileProblem, Hint};
use super::interval::Interval;
use crate::units::{Period, Size};

/// The longest file that is read, in bytes: thousands of seeds and keys.
const MAX_LEN: u64 = 1 << 20;
/// The longest name for which a similar one is looked for, in bytes. The longest option has 37.
const MAX_NAME_LEN: usize = 64;
/// The options that only a command line can have.
const COMMAND_LINE_ONLY: [&str; 5] = ["config", "check-config", "make-secret", "help", "version"];

/// The options of a file.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// An option in a file.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name, without dashes at the beginning.
    pub(super) name: String,
    line: usize,
    /// What stands for it on a command line: nothing for `false` and for an empty list.
    pub(super) words: Vec<OsString>,
}

/// The form of a value of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// No value on a command line, and a boolean in a file.
    Flag,
    Text,
    Path,
    /// A string with a number and its unit.
    Time,
    Integer,
    /// An integer, or a string with a unit.
    Size,
    Number,
}

impl ConfigFile {
    /// Reads a file with options of `command`.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read, is not TOML, or has something that is not an option or not a value of it.
    pub(super) fn read(path: &Path, command: &Command) -> Result<Self, ConfigFileError> {
        let fail = |line, problem| ConfigFileError {
            path: path.to_path_buf(),
            line,
            problem: Box::new(problem),
        };
        let bytes = read(path).map_err(|error| fail(None, ConfigFileProblem::Unreadable(error)))?;
        if bytes.len() as u64 > MAX_LEN {
            return Err(fail(None, ConfigFileProblem::TooLong { max: MAX_LEN }));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            fail(
                Some(line_at(error.as_bytes(), valid)),
                ConfigFileProblem::NotUtf8,
            )
        })?;
        let line_of = |at: usize| line_at(text.as_bytes(), at);
        let table = DeTable::parse(&text).map_err(|error| {
            let line = error.span().map(|span| line_of(span.start));
            fail(line, ConfigFileProblem::Syntax(error.message().to_owned()))
        })?;
        let directory =
            directory_of(path).map_err(|error| fail(None, ConfigFileProblem::Unreadable(error)))?;
        let mut entries = Vec::new();
        for (key, value) in table.get_ref() {
            let line = line_of(key.span().start);
            let words = words(command, &directory, &text, key.get_ref(), value);
            let words =
                words.map_err(|(at, problem)| fail(Some(at.map_or(line, line_of)), problem))?;
            entries.push(Entry {
                name: key.get_ref().to_string(),
                line,
                words,
            });
        }
        entries.sort_by_key(|entry| entry.line);
        Ok(Self {
            path: path.to_path_buf(),
            entries,
        })
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the file and the line in which an option is given, if it is.
    pub(super) fn place_of(&self, name: &str) -> Option<String> {
        let mut entries = self.entries.iter();
        let entry = entries.find(|entry| entry.name == name && !entry.words.is_empty())?;
        Some(format!("{}:{}", self.path.display(), entry.line))
    }
}

impl Form {
    /// Returns whether an option can be in a file.
    pub(super) fn is_in_file(option: &str) -> bool {
        !COMMAND_LINE_ONLY.contains(&option)
    }

    /// Returns the form of the values of an option.
    pub(super) fn of(arg: &Arg) -> Self {
        let parsed = arg.get_value_parser().type_id();
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            Self::Flag
        } else if arg.get_value_hint() == ValueHint::AnyPath {
            Self::Path
        } else if parsed == TypeId::of::<usize>() || parsed == TypeId::of::<u64>() {
            Self::Integer
        } else if parsed == TypeId::of::<Period>() || parsed == TypeId::of::<Interval>() {
            Self::Time
        } else if parsed == TypeId::of::<Size>() {
            Self::Size
        } else if parsed == TypeId::of::<f64>() {
            Self::Number
        } else {
            Self::Text
        }
    }

    /// Returns what must be in the place of a value of another type.
    fn expected(self, found: &DeValue<'_>) -> &'static str {
        let is_quoted = matches!(found, DeValue::String(_));
        match self {
            Self::Flag if is_quoted => "true or false, without quotes",
            Self::Flag => "true or false",
            Self::Text | Self::Path => "a string in quotes",
            Self::Time => "a string in quotes with a unit, such as \"1.5s\"",
            Self::Integer if is_quoted => "an integer, without quotes",
            Self::Integer => "an integer",
            Self::Size => "an integer, or a string with a unit",
            Self::Number if is_quoted => "a number, without quotes",
            Self::Number => "a number",
        }
    }

    /// Returns the text of a value on a command line, or `None` if it has another type.
    fn text(self, value: &DeValue<'_>) -> Option<String> {
        Some(match (self, value) {
            (Self::Flag, DeValue::Boolean(given)) => given.to_string(),
            (Self::Text | Self::Path | Self::Time | Self::Size, DeValue::String(text)) => {
                text.to_string()
            }
            (Self::Integer | Self::Size | Self::Number, DeValue::Integer(number)) => {
                match i128::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => number.to_string(),
                    // Too large for any option, which says so.
                    Err(_) => number.as_str().to_owned(),
                }
            }
            (Self::Number, DeValue::Float(number)) => number.as_str().to_owned(),
            _ => return None,
        })
    }
}

/// Returns what stands for an option on a command line. An error has the place of its value in the text, if that is
/// part of a list.
fn words(
    command: &Command,
    directory: &Path,
    text: &str,
    name: &str,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<OsString>, (Option<usize>, ConfigFileProblem)> {
    let name = name.to_owned();
    if !Form::is_in_file(&name) {
        return Err((None, ConfigFileProblem::NotInFile { name }));
    }
    let mut options = command.get_arguments();
    let Some(arg) = options.find(|arg| arg.get_long() == Some(&name)) else {
        let hint = hint(command, &name, value.get_ref());
        return Err((None, ConfigFileProblem::UnknownOption { name, hint }));
    };
    let source = |value: &Spanned<DeValue<'_>>| {
        let source = text.get(value.span()).unwrap_or_default();
        source.to_owned()
    };
    let form = Form::of(arg);
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    let wrong = |value: &Spanned<DeValue<'_>>| {
        let expected = form.expected(value.get_ref());
        ConfigFileProblem::WrongType {
            name: name.clone(),
            value: match value.get_ref() {
                // Its text may be only the beginning of it.
                DeValue::Table(_) => None,
                _ => Some(source(value)),
            },
            expected: if is_list {
                format!("a list in brackets, each {expected}")
            } else {
                expected.to_owned()
            },
            found: type_of(value.get_ref()),
        }
    };
    let values: Vec<_> = match (value.get_ref(), is_list) {
        (DeValue::Array(values), true) => values.iter().collect(),
        (_, true) => return Err((None, wrong(value))),
        (_, false) => vec![value],
    };
    let place = |value: &Spanned<DeValue<'_>>| is_list.then(|| value.span().start);
    let mut words = Vec::new();
    for value in &values {
        let text = form.text(value.get_ref());
        let text = text.ok_or_else(|| (place(value), wrong(value)))?;
        words.push(match form {
            Form::Flag if text == "true" => OsString::from(format!("--{name}")),
            Form::Flag => continue,
            Form::Path if !text.is_empty() => {
                let mut word = OsString::from(format!("--{name}="));
                word.push(directory.join(&text));
                word
            }
            _ => OsString::from(format!("--{name}={text}")),
        });
    }
    let Some((valid, reason)) = first_refused(command, &words) else {
        return Ok(words);
    };
    let refused = values.get(valid);
    let at = refused.and_then(|value| place(value));
    let value = refused.map(|value| source(value)).unwrap_or_default();
    Err((
        at,
        ConfigFileProblem::BadValue {
            name,
            value,
            reason,
        },
    ))
}

/// Returns the number of words before the first that is not valid by itself, and the reason. Parses a long list a few
/// times, and not once for each word.
fn first_refused(command: &Command, words: &[OsString]) -> Option<(usize, String)> {
    let parse = |count: usize| refusal(command, words.get(..count).unwrap_or(words));
    parse(words.len())?;
    let counts: Vec<_> = (1..=words.len()).collect();
    let valid = counts.partition_point(|count| parse(*count).is_none());
    let reason = parse(valid.saturating_add(1))?;
    Some((valid, reason))
}

/// Returns the reason for which the values of one option are refused, whatever else it may need or contradict.
fn refusal(command: &Command, words: &[OsString]) -> Option<String> {
    let all = std::iter::once(OsString::from("gossip-node")).chain(words.iter().cloned());
    let error = command.clone().try_get_matches_from(all).err()?;
    if matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict
    ) {
        return None;
    }
    let source = std::error::Error::source(&error).map(ToString::to_string);
    Some(
        source.unwrap_or_else(|| match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) => format!("must be one of {}", valid.join(", ")),
            _ => error.kind().to_string(),
        }),
    )
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Returns what may be meant by a name that is not an option.
fn hint(command: &Command, name: &str, value: &DeValue<'_>) -> Hint {
    if matches!(value, DeValue::Table(_)) {
        return Hint::Table;
    }
    let normal = name.to_lowercase().replace('_', "-");
    let has = |command: &Command| {
        let mut options = command.get_arguments().filter_map(Arg::get_long);
        options.any(|known| known == normal)
    };
    if has(command) && Form::is_in_file(&normal) {
        return Hint::Similar(normal);
    }
    if let Some(subcommand) = command.get_subcommands().find(|command| has(command)) {
        return Hint::OfSubcommand(subcommand.get_name().to_owned());
    }
    similar(command, &normal).map_or(Hint::None, Hint::Similar)
}

/// Returns the option that clap suggests for one with a misspelt name.
fn similar(command: &Command, name: &str) -> Option<String> {
    if name.len() > MAX_NAME_LEN {
        return None;
    }
    let words = ["gossip-node".to_owned(), format!("--{name}")];
    let error = command.clone().try_get_matches_from(words).err()?;
    let Some(ContextValue::String(option)) = error.get(ContextKind::SuggestedArg) else {
        return None;
    };
    let similar = option.strip_prefix("--")?;
    Form::is_in_file(similar).then(|| similar.to_owned())
}

/// Reads one byte more than a file may have.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_LEN.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn directory_of(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    Ok(path.parent().map(Path::to_path_buf).unwrap_or_default())
}

/// Returns the number of the line with the byte at `at`.
fn line_at(text: &[u8], at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
