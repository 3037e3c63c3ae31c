//! `--check-config`: checks what a node would start with, and prints it as a file of options.
//!
//! Opens no port and creates nothing. Invariant: nothing secret is printed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use gossip_transport::credential::ClusterSecret;

use crate::admin::Port;
use crate::args::{CommandLine, Form, Setting, Source};
use crate::descriptors::Shares;
use crate::run::{NOT_FROM_HTTPS, admin_descriptors, admin_kind, check_web_root, gossip_port};
use crate::shown::hide;
use crate::tls_files::TlsFiles;
use crate::trust_files::TrustFiles;
use crate::{acme, credential_file, private_file, ready_file, revocations, rfc3339, state_dir};

/// Checks the arguments and the files that they name. Prints the arguments if all are valid.
///
/// # Errors
///
/// Fails with everything that is wrong.
pub(crate) fn check(line: &mut CommandLine) -> Result<(), Vec<String>> {
    line.check().map_err(|error| vec![error])?;
    let facts = facts(line)?;
    let mut text = facts;
    for setting in &line.settings {
        let _ = writeln!(text, "{}", row(setting));
    }
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
    Ok(())
}

/// Reads all files, and returns what is public in those that are secret, as comments.
fn facts(line: &mut CommandLine) -> Result<String, Vec<String>> {
    let files = TrustFiles::read(&line.args);
    let mut unsuitable = None;
    if let Ok(files) = &files
        && let Some(invite) = files.trust().held_invite()
    {
        let joined = line.join_with(&invite);
        unsuitable = joined.err().map(|error| line.describe(&error));
    }
    let args = &line.args;
    let mut text = String::new();
    let mut errors = Vec::from_iter(unsuitable);
    let mut note = |result: anyhow::Result<String>| match result {
        Ok(fact) if fact.is_empty() => {}
        Ok(fact) => {
            let _ = writeln!(text, "# {fact}");
        }
        Err(error) => errors.push(format!("{error:#}")),
    };
    let shares = Shares::of_this_process(admin_descriptors(args), args.wanted());
    note(shares.map_err(Into::into).map(|shares| {
        format!(
            "connections: {}, handshakes: {}, HTTP connections: {}",
            shares.connections, shares.handshakes, shares.http
        )
    }));
    if let Some(path) = &args.state_dir {
        let checked = state_dir::check(path).map_err(anyhow::Error::from);
        let checked = checked.and_then(|()| revocations::check(path));
        note(checked.map(|()| String::new()));
    }
    if let Some(path) = &args.web_root {
        note(check_web_root(path).map(|()| String::new()));
    }
    if let Ok(files) = &files {
        note(gossip_port(args, files.trust()).map(|_| String::new()));
    }
    if let Some(path) = &args.ready_file {
        note(ready_file::check(path).map(|()| String::new()));
        note(in_directory(path, "--ready-file"));
    }
    if let Some(path) = &args.admin {
        note(in_directory(path, "--admin"));
        note(Port::check(path, admin_kind(args)).map(|()| String::new()));
    }
    note(TlsFiles::read(args, None).map(|tls| tls.fact()));
    note(acme::check(args));
    if let Some(url) = &args.public_url
        && !url.opens_from_https()
    {
        note(Ok(NOT_FROM_HTTPS.to_owned()));
    }
    match files {
        Ok(files) => {
            if let Some(keyring) = files.trust().keyring() {
                let ids: Vec<_> = keyring.secrets().map(ClusterSecret::id).collect();
                let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                note(Ok(format!("cluster secrets: {}", ids.join(", "))));
            }
            if let Some(invite) = files.trust().held_invite() {
                let id = invite.claims().id();
                let expires = rfc3339::utc(id.expires_at());
                note(Ok(format!("invite: {id}, expires {expires}")));
            }
            let identity = credential_file::existing(args, files.trust().clone());
            note(identity.map(|credential| match credential {
                Some(credential) => format!("identity: {}", credential.identity()),
                None => "identity: a new one".to_owned(),
            }));
            if let Some(path) = &args.key {
                note(in_directory(path, "--key"));
            }
        }
        Err(error) => note(Err(error)),
    }
    if errors.is_empty() {
        Ok(text)
    } else {
        Err(errors)
    }
}

/// Checks that a file could be created.
fn in_directory(path: &Path, option: &str) -> anyhow::Result<String> {
    let directory = private_file::directory_of(path);
    let is_there = std::fs::metadata(directory).is_ok_and(|found| found.is_dir());
    anyhow::ensure!(
        is_there,
        "there is no directory {} ({option})",
        directory.display()
    );
    Ok(String::new())
}

/// Returns a line of a file of options, or a comment if the option has no value.
fn row(setting: &Setting) -> String {
    let values = setting.values.iter().map(|value| match setting.form {
        Form::Flag | Form::Integer | Form::Number => value.clone(),
        Form::Text | Form::Path | Form::Time | Form::Size => quoted(&hide(value)),
    });
    let values: Vec<_> = values.collect();
    let value = if setting.is_list {
        format!("[{}]", values.join(", "))
    } else {
        values.concat()
    };
    let name = &setting.name;
    match &setting.source {
        Source::Default if setting.values.is_empty() => format!("# {name} is not given"),
        Source::Default => format!("{name} = {value} # default"),
        Source::Invite => format!("{name} = {value} # invite"),
        Source::CommandLine => format!("{name} = {value} # command line"),
        Source::File(place) => format!("{name} = {value} # {}", place.escape_debug()),
    }
}

/// Returns a string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_of_toml_has_no_line_of_its_own() {
        assert_eq!(quoted("a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(quoted("a\nb\u{1b}"), r#""a\u000Ab\u001B""#);
    }
}
