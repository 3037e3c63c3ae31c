//! Parsing the command line together with the file of `--config`.
//!
//! What is in the file becomes words of a command line, in front of those that were given, unless the same option was.
//! So the file and the command line have the same options and rules.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, FromArgMatches as _};
use gossip_transport::credential::Invite;

use super::config_file::{ConfigFile, Form};
use super::error::{ArgsError, Invalid};
use super::{Args, command};

/// The parsed arguments, and where each of them comes from.
#[derive(Debug)]
pub(crate) struct CommandLine {
    pub(crate) args: Args,
    /// The options of a node that can be in a file, in the order of `--help`.
    pub(crate) settings: Vec<Setting>,
}

/// An option with the values that are used.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) form: Form,
    /// Whether the option may be given several times.
    pub(crate) is_list: bool,
    /// The texts of its values. An option without a value has `true` or `false`.
    pub(crate) values: Vec<String>,
    pub(crate) source: Source,
}

/// The place where an option is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nowhere.
    Default,
    CommandLine,
    /// The file of `--config` and the line in it, as text.
    File(String),
    /// The invite with which the node joins.
    Invite,
}

impl CommandLine {
    /// Parses the words of a command line, the name of the program first, and the file that they name.
    ///
    /// # Errors
    ///
    /// Fails if they are malformed, and for `--help`.
    pub(crate) fn parse(words: Vec<OsString>) -> Result<Self, ArgsError> {
        let path = match command().try_get_matches_from(&words) {
            Ok(matches) => match matches.get_one::<PathBuf>("config") {
                Some(path) => path.clone(),
                None => return Ok(Self::new(&matches, None)?),
            },
            // What is missing may be in the file.
            Err(error) if is_about_several(&error) => match config_path(&words) {
                Some(path) => path,
                None => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        let file = ConfigFile::read(&path, &command()).map_err(ArgsError::File)?;
        let given = given(&words);
        let mut words = words.into_iter();
        let mut merged: Vec<_> = words.next().into_iter().collect();
        for entry in file.entries() {
            if !given.contains(&entry.name) {
                merged.extend(entry.words.iter().cloned());
            }
        }
        merged.extend(words);
        let matches = command().try_get_matches_from(merged);
        let matches = matches.map_err(|error| with_places(error, &file, &given))?;
        Ok(Self::new(&matches, Some((&file, &given)))?)
    }

    fn new(
        matches: &ArgMatches,
        file: Option<(&ConfigFile, &BTreeSet<String>)>,
    ) -> Result<Self, clap::Error> {
        let place = |name: &str| {
            let (file, given) = file?;
            file.place_of(name).filter(|_| !given.contains(name))
        };
        let command = command();
        let settings = command.get_arguments().filter_map(|arg| {
            let name = arg.get_long().filter(|name| Form::is_in_file(name))?;
            let id = arg.get_id().as_str();
            let values = matches.get_raw(id).into_iter().flatten();
            let source = match (place(name), matches.value_source(id)) {
                (Some(place), _) => Source::File(place),
                (None, Some(ValueSource::CommandLine)) => Source::CommandLine,
                (None, _) => Source::Default,
            };
            Some(Setting {
                name: name.to_owned(),
                form: Form::of(arg),
                is_list: is_list(arg),
                values: values
                    .map(|value| value.to_string_lossy().into_owned())
                    .collect(),
                source,
            })
        });
        let settings: Vec<_> = settings.collect();
        let mut given = settings
            .iter()
            .filter(|setting| setting.source != Source::Default);
        let gives_cluster = given.any(|setting| setting.name == "cluster");
        let mut args = Args::from_arg_matches(matches)?;
        args.gives_cluster = gives_cluster;
        Ok(Self { args, settings })
    }

    /// Checks what clap cannot check.
    ///
    /// # Errors
    ///
    /// Fails with a text that says what to change, and in which line of the file if it is there.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.args.check().map_err(|error| self.describe(&error))
    }

    /// Returns the text of an error, with the line of the file if the option is there.
    pub(crate) fn describe(&self, error: &Invalid) -> String {
        let mut settings = self.settings.iter();
        let setting = settings.find(|setting| Some(&setting.name) == error.option.as_ref());
        match setting.map(|setting| &setting.source) {
            Some(Source::File(place)) => format!("{place}: {error}"),
            _ => error.to_string(),
        }
    }

    /// Takes what is not given from the invite with which the node joins.
    ///
    /// # Errors
    ///
    /// Fails as [`Args::join_with`] does.
    pub(crate) fn join_with(&mut self, invite: &Invite) -> Result<(), Invalid> {
        self.args.join_with(invite)?;
        for setting in &mut self.settings {
            let values = match &*setting.name {
                "cluster" => vec![self.args.cluster.clone()],
                "seed" => self.args.seeds.clone(),
                _ => continue,
            };
            if setting.source == Source::Default {
                setting.source = Source::Invite;
                setting.values = values;
            }
        }
        Ok(())
    }
}

/// Returns whether an error is about options that need or contradict each other.
fn is_about_several(error: &clap::Error) -> bool {
    let kind = error.kind();
    kind == ErrorKind::MissingRequiredArgument || kind == ErrorKind::ArgumentConflict
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// Returns the value of `--config` on a command line that clap refuses.
fn config_path(words: &[OsString]) -> Option<PathBuf> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.to_str().and_then(|word| word.strip_prefix("--config")) {
            Some("") => return words.next().map(PathBuf::from),
            Some(rest) if rest.starts_with('=') => return rest.get(1..).map(PathBuf::from),
            _ => {}
        }
    }
    None
}

/// Returns the names of the options on a command line. No value begins with two dashes.
fn given(words: &[OsString]) -> BTreeSet<String> {
    let names = words.iter().filter_map(|word| {
        let word = word.to_string_lossy();
        let option = word.strip_prefix("--")?;
        let name = option.split_once('=').map_or(option, |(name, _)| name);
        Some(name.to_owned())
    });
    names.collect()
}

/// Adds to an error where the options that it is about are in the file.
fn with_places(mut error: clap::Error, file: &ConfigFile, given: &BTreeSet<String>) -> clap::Error {
    let mut options = Vec::new();
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        match error.get(kind) {
            Some(ContextValue::String(option)) => options.push(option.clone()),
            Some(ContextValue::Strings(several)) => options.extend(several.iter().cloned()),
            _ => {}
        }
    }
    let tips = options.iter().filter_map(|option| {
        // As in a usage: --option <VALUE>.
        let name = option.strip_prefix("--")?.split(' ').next()?;
        let place = file.place_of(name).filter(|_| !given.contains(name))?;
        Some(format!("--{name} is given in {place}").into())
    });
    let tips: Vec<_> = tips.collect();
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}
