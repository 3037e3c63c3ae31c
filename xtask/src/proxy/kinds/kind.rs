//! The proxies, each with the configuration that the documentation prints.

use std::ffi::OsString;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::authority::Files;
use crate::host::packages;
use crate::proxy::certificate::NAME;
use crate::proxy::kinds::template;
use crate::proxy::nginx;
use crate::proxy::programs::Programs;
use crate::proxy::server::Launch;

/// What the documentation has in the place of the proxy's name, of the nodes and of the certificate.
const DOCUMENTED_NAME: &str = "gossip.example.com";
const DOCUMENTED_NODES: [&str; 2] = ["10.0.0.1:7946", "10.0.0.2:7946"];
const DOCUMENTED_CERTIFICATE: &str = "/etc/ssl/gossip/fullchain.pem";
const DOCUMENTED_KEY: &str = "/etc/ssl/gossip/privkey.pem";
const DOCUMENTED_BOTH: &str = "/etc/ssl/gossip/haproxy.pem";

/// The part of HAProxy's configuration that Debian's package has before ours, with its times.
const HAPROXY_DEFAULTS: &str = "global
    maxconn 4096
defaults
    timeout connect 5000
    timeout client 50000
    timeout server 50000
";

/// A proxy that terminates TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Caddy,
    HaProxy,
    /// HAProxy, which passes on what is inside of TLS without looking at it.
    HaProxyTcp,
}

/// How a proxy tells a node the address of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statement {
    ForwardedFor,
    ProxyProtocol,
}

/// What a reload does to the connections that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    Keeps,
    Closes,
}

/// Where a proxy is, and where it leads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// A folder of its own, which exists.
    pub(crate) folder: &'a Path,
    pub(crate) port: u16,
    pub(crate) certificate: &'a Files,
    pub(crate) nodes: [SocketAddrV4; 2],
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Nginx, Self::Caddy, Self::HaProxy, Self::HaProxyTcp];

    /// Returns the name for tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Caddy => "Caddy",
            Self::HaProxy => "HAProxy",
            Self::HaProxyTcp => "HAProxy, TCP",
        }
    }

    /// Returns the name for files and URLs.
    pub(crate) const fn slug(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::HaProxy => "haproxy",
            Self::HaProxyTcp => "haproxy-tcp",
        }
    }

    /// Returns the configuration that the documentation prints.
    pub(crate) const fn documented(self) -> &'static str {
        match self {
            Self::Nginx => include_str!("../../../../docs/proxies/nginx.conf"),
            Self::Caddy => include_str!("../../../../docs/proxies/Caddyfile"),
            Self::HaProxy => include_str!("../../../../docs/proxies/haproxy.cfg"),
            Self::HaProxyTcp => include_str!("../../../../docs/proxies/haproxy-tcp.cfg"),
        }
    }

    pub(crate) const fn statement(self) -> Statement {
        match self {
            Self::Nginx | Self::Caddy | Self::HaProxy => Statement::ForwardedFor,
            Self::HaProxyTcp => Statement::ProxyProtocol,
        }
    }

    pub(crate) const fn reload(self) -> Reload {
        match self {
            Self::Nginx | Self::HaProxy | Self::HaProxyTcp => Reload::Keeps,
            // Debian's version has no stream_close_delay.
            Self::Caddy => Reload::Closes,
        }
    }

    /// Finds or installs the program.
    ///
    /// # Errors
    ///
    /// Fails with what to install if it is missing.
    pub(crate) fn ensure(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Nginx => packages::ensure("nginx", "nginx-light"),
            Self::Caddy => packages::ensure("caddy", "caddy"),
            Self::HaProxy | Self::HaProxyTcp => packages::ensure("haproxy", "haproxy"),
        }
    }

    /// Returns the documented configuration for `place`.
    ///
    /// # Errors
    ///
    /// Fails if the documentation lacks something that has to be replaced.
    pub(crate) fn configuration(self, place: Place<'_>) -> anyhow::Result<String> {
        let Place {
            port,
            certificate,
            nodes: [first, second],
            ..
        } = place;
        let Files {
            certificate,
            key,
            both,
        } = certificate;
        let mut values = vec![
            (DOCUMENTED_NODES[0], first.to_string()),
            (DOCUMENTED_NODES[1], second.to_string()),
        ];
        let (certificate, key) = (certificate.display(), key.display());
        match self {
            Self::Nginx => values.extend([
                (DOCUMENTED_NAME, NAME.to_owned()),
                ("443 ssl", format!("{port} ssl")),
                (DOCUMENTED_CERTIFICATE, certificate.to_string()),
                (DOCUMENTED_KEY, key.to_string()),
            ]),
            Self::Caddy => values.extend([
                (DOCUMENTED_NAME, format!("{NAME}:{port}")),
                (DOCUMENTED_CERTIFICATE, certificate.to_string()),
                (DOCUMENTED_KEY, key.to_string()),
            ]),
            Self::HaProxy | Self::HaProxyTcp => values.extend([
                (DOCUMENTED_NAME, NAME.to_owned()),
                (":443 ssl", format!(":{port} ssl")),
                (":443 v6only", format!(":{port} v6only")),
                (DOCUMENTED_BOTH, both.display().to_string()),
            ]),
        }
        template::fill(self.documented(), &values)
            .with_context(|| format!("the documented configuration of {}", self.name()))
    }

    /// Writes the configuration of the program, which includes the documented one, and returns how it is started.
    pub(crate) fn configure(
        self,
        program: &Path,
        programs: &Programs,
        place: Place<'_>,
    ) -> anyhow::Result<Launch> {
        let Place { folder, port, .. } = place;
        let documented = folder.join("documented");
        std::fs::write(&documented, self.configuration(place)?)?;
        let include = documented.display();
        let main = self.main_file(folder);
        let text = match self {
            // Debian starts one worker for each core.
            Self::Nginx => {
                nginx::configuration_around(folder, 2, &format!("  include {include};\n"))
            }
            Self::Caddy => format!(
                "{{\n\tadmin unix//{}\n\tauto_https disable_redirects\n}}\nimport {include}\n",
                folder.join("admin").display()
            ),
            Self::HaProxy | Self::HaProxyTcp => HAPROXY_DEFAULTS.to_owned(),
        };
        std::fs::write(&main, text)?;
        let args: Vec<OsString> = match self {
            Self::Nginx => return Ok(nginx::launch(programs, folder, port)),
            Self::Caddy => [&["run".into()][..], &caddy_file(&main)].concat(),
            // A master and a worker, as Debian's unit starts it.
            Self::HaProxy | Self::HaProxyTcp => [
                "-W".into(),
                "-db".into(),
                "-f".into(),
                main.into(),
                "-f".into(),
                documented.into(),
            ]
            .into(),
        };
        Ok(Launch {
            program: program.to_path_buf(),
            args,
            folder: folder.to_path_buf(),
            log: folder.join("log"),
            port,
        })
    }

    fn main_file(self, folder: &Path) -> PathBuf {
        folder.join(match self {
            Self::Nginx => "nginx.conf",
            Self::Caddy => "Caddyfile",
            Self::HaProxy | Self::HaProxyTcp => "haproxy.cfg",
        })
    }

    /// Returns the arguments of the command that has a running Caddy read its files again.
    pub(crate) fn caddy_reload(folder: &Path) -> Vec<OsString> {
        let file = caddy_file(&Self::Caddy.main_file(folder));
        // Without --force, a certificate that has changed is no reason.
        [&["reload".into(), "--force".into()][..], &file].concat()
    }
}

fn caddy_file(main: &Path) -> [OsString; 4] {
    [
        "--config".into(),
        main.into(),
        "--adapter".into(),
        "caddyfile".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::network;

    #[test]
    fn the_documented_configurations_are_used_as_they_are_except_for_names_ports_and_paths() {
        let certificate = Files::of(Path::new("/run-folder"));
        let place = Place {
            folder: Path::new("/run-folder"),
            port: 8441,
            certificate: &certificate,
            nodes: [network::node(0).gossip, network::node(1).gossip],
        };
        for kind in Kind::ALL {
            let text = kind.configuration(place).unwrap();
            let settings = text.lines().filter(|line| !line.trim().starts_with('#'));
            for line in settings {
                for left in ["example.com", "10.0.0.", "/etc/", "443 "] {
                    let is_ours = line.contains("8441 ");
                    assert!(is_ours || !line.contains(left), "{}: {line}", kind.name());
                }
            }
            let lines = text.lines().zip(kind.documented().lines());
            let changed = lines.filter(|(ours, documented)| ours != documented);
            assert!((3..12).contains(&changed.count()), "{}", kind.name());
            assert_eq!(text.lines().count(), kind.documented().lines().count());
        }
    }
}
