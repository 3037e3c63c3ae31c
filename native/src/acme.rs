//! `--acme`: the certificate that a certificate authority issues, and the directory in which it is kept.
//!
//! The library orders and renews. Invariant: nothing is ordered before the gossip port is bound.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use data_encoding::BASE64URL_NOPAD;
use gossip_transport::acme::{Acme, AcmeStore, ExternalAccount, RunningAcme};
use gossip_transport::tcp::TlsRoots;

use crate::args::Args;
use crate::private_file;
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
/// Fails if the directory, or the file of `--acme-ca` or `--acme-eab-key` cannot be used.
pub(crate) async fn open(args: &Args) -> anyhow::Result<Option<Acme>> {
    let (Some(config), Some(dir)) = (args.acme.config(), &args.acme.acme_dir) else {
        return Ok(None);
    };
    let config = config
        .with_roots(roots(args)?)
        .with_external_account(external_account(args)?);
    let store = Store(StateDir::open_for(dir, OPTION)?);
    let acme = Acme::open(config, Arc::new(store)).await;
    Ok(Some(acme.context("--acme")?))
}

/// Starts to order and to renew. `port` is that of the gossip port, which is bound.
pub(crate) fn start(acme: Acme, args: &Args, port: u16) -> RunningAcme {
    if !is_validated(port, args.acme.acme_forwarded) {
        tracing::warn!(
            port,
            "public certificate authorities validate names at port 443: listen there (--listen 0.0.0.0:443), or forward it to \
             this port and give --acme-forwarded"
        );
    }
    acme.start()
}

/// Returns whether a public authority can reach the gossip port at `port`, as far as is known here.
fn is_validated(port: u16, is_forwarded: bool) -> bool {
    port == PORT || is_forwarded
}

/// Checks the directory and the files. Returns what would be ordered, for `--check-config`; nothing without `--acme`.
///
/// # Errors
///
/// Fails as [`open`] does. Creates nothing.
pub(crate) fn check(args: &Args) -> anyhow::Result<String> {
    let (Some(config), Some(dir)) = (args.acme.config(), &args.acme.acme_dir) else {
        return Ok(String::new());
    };
    roots(args)?;
    external_account(args)?;
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

/// Reads the key that binds the ACME account to one at the owner of the authority.
fn external_account(args: &Args) -> anyhow::Result<Option<ExternalAccount>> {
    let (Some(key_id), Some(path)) = (&args.acme.acme_eab_key_id, &args.acme.acme_eab_key) else {
        return Ok(None);
    };
    let text = private_file::read_private(path)
        .with_context(|| format!("cannot read {} (--acme-eab-key)", path.display()))?;
    let key = decode(&text).with_context(|| {
        format!(
            "{} (--acme-eab-key) must have the key in one line of base64url, as the authority shows it",
            path.display()
        )
    })?;
    Ok(Some(ExternalAccount {
        key_id: key_id.clone(),
        key,
    }))
}

/// Returns the key in a file. Some authorities fill the text up with `=`.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=');
    let key = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
    key.filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_port_443_needs_no_forwarding() {
        let is_validated = |port| (is_validated(port, false), is_validated(port, true));
        assert_eq!(is_validated(443), (true, true));
        assert_eq!(is_validated(444), (false, true));
    }

    #[test]
    fn a_key_is_base64url_with_or_without_padding_and_nothing_else() {
        for text in ["-_8", " -_8=\n", "-_8\r\n"] {
            assert_eq!(decode(text).unwrap(), [0xfb, 0xff], "{text:?}");
        }
        for text in ["", "=", "+/8", "-_8\n-_8", "-_9", "a"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
