//! `--acme`: the certificate that a certificate authority issues, and the directory in which it is kept.
//!
//! The library orders and renews. Invariant: nothing is ordered before the gossip port is bound.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use gossip_transport::acme::{Acme, AcmeStore, RunningAcme};
use gossip_transport::tcp::TlsRoots;

use crate::args::Args;
use crate::state_dir::{self, StateDir};

/// The option for the directory, in errors.
const OPTION: &str = "--acme-dir";
/// The port to which public authorities connect (RFC 8737, section 3).
const PORT: u16 = 443;

/// The directory, as the library sees it.
struct Store(StateDir);

impl AcmeStore for Store {
    fn read(&self, name: &str, max_len: usize) -> io::Result<Option<Vec<u8>>> {
        self.0.read(name, max_len)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.write(name, bytes)
    }
}

/// Opens the directory, and reads what an earlier node has left there. Returns `None` without `--acme`.
///
/// # Errors
///
/// Fails if the directory or the file of `--acme-ca` cannot be used.
pub(crate) async fn open(args: &Args) -> anyhow::Result<Option<Acme>> {
    let (Some(config), Some(dir)) = (args.acme.config(), &args.acme.acme_dir) else {
        return Ok(None);
    };
    let config = config.with_roots(roots(args)?);
    let store = Store(StateDir::open_for(dir, OPTION)?);
    let acme = Acme::open(config, Arc::new(store)).await;
    Ok(Some(acme.context("--acme")?))
}

/// Starts to order and to renew. `port` is that of the gossip port, which is bound.
pub(crate) fn start(acme: Acme, args: &Args, port: u16) -> RunningAcme {
    if port != PORT && !args.acme.acme_forwarded {
        tracing::warn!(
            port,
            "public certificate authorities validate names at port 443: listen there (--listen 0.0.0.0:443), or forward it to \
             this port and give --acme-forwarded"
        );
    }
    acme.start()
}

/// Checks the directory and the file. Returns what would be ordered, for `--check-config`; nothing without `--acme`.
///
/// # Errors
///
/// Fails as [`open`] does. Creates nothing.
pub(crate) fn check(args: &Args) -> anyhow::Result<String> {
    let (Some(config), Some(dir)) = (args.acme.config(), &args.acme.acme_dir) else {
        return Ok(String::new());
    };
    roots(args)?;
    state_dir::check_for(Path::new(dir), OPTION)?;
    let names: Vec<_> = config.names.iter().map(ToString::to_string).collect();
    let (names, directory) = (names.join(" "), config.directory);
    Ok(format!("TLS certificate: for {names}, from {directory}"))
}

fn roots(args: &Args) -> anyhow::Result<TlsRoots> {
    match &args.acme.acme_ca {
        Some(path) => TlsRoots::from_file(path).context("--acme-ca"),
        None => Ok(TlsRoots::system()),
    }
}
