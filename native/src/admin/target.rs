//! The options that all subcommands share: which node is meant, and how the result is printed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};

/// The name of the port's file in the directory of the user's session.
const DEFAULT_NAME: &str = "gossip-node.sock";

/// Which node is meant, and how the result is printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// The path that the node was given with --admin [default: gossip-node.sock in $XDG_RUNTIME_DIR]
    // An empty variable counts as one that is not set.
    #[arg(long, value_name = "PATH", env = "GOSSIP_NODE_ADMIN",
        value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(super) admin: Option<PathBuf>,

    /// Print JSON, one object on each line
    #[arg(long)]
    pub(super) json: bool,
}

impl Target {
    /// Returns the path of the node's port. `runtime_dir` is the directory for the sockets of the user's
    /// session, if there is one.
    pub(super) fn path(&self, runtime_dir: Option<OsString>) -> Result<PathBuf, String> {
        let runtime_dir = runtime_dir.filter(|dir| !dir.is_empty());
        let admin = self.admin.as_ref();
        match (
            admin.filter(|path| !path.as_os_str().is_empty()),
            runtime_dir,
        ) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(dir)) => Ok(PathBuf::from(dir).join(DEFAULT_NAME)),
            (None, None) => Err(
                "say which node: --admin PATH, the path that it was given with --admin, or set \
                 GOSSIP_NODE_ADMIN"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_given_one_or_in_the_directory_of_the_session() {
        let target = |path: Option<&str>| Target {
            admin: path.map(PathBuf::from),
            json: false,
        };
        let dir = || Some(OsString::from("/run/user/1"));
        assert_eq!(target(Some("/x")).path(dir()), Ok("/x".into()));
        let default = PathBuf::from("/run/user/1/gossip-node.sock");
        assert_eq!(target(None).path(dir()), Ok(default.clone()));
        assert_eq!(target(Some("")).path(dir()), Ok(default));
        for none in [None, Some(OsString::new())] {
            let error = target(None).path(none).unwrap_err();
            assert!(error.contains("--admin PATH"), "{error}");
        }
    }
}
