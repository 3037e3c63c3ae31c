//! The proxy: nginx with a certificate of its own, which serves the page and forwards one `wss://`
//! URL to all nodes in turn.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::host::process::Process;
use crate::host::{command, wait, workspace};
use crate::proxy::namespaces::Namespace;
use crate::proxy::network::NodeAddress;
use crate::proxy::programs::Programs;

/// The proxy's name, which only the browsers of the measurement resolve.
pub(crate) const NAME: &str = "gossip.test";
/// The URL that tabs dial.
pub(crate) const WSS_URL: &str = "wss://gossip.test/gossip";

/// Limit from the start of nginx until it accepts connections.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Limit of one attempt to connect to nginx.
const CONNECT_WITHIN: Duration = Duration::from_millis(100);

/// nginx, running or stopped. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Nginx<'a> {
    namespace: &'a Namespace,
    program: PathBuf,
    folder: PathBuf,
    process: Option<Process>,
    /// The SHA-256 of the certificate's public key in base64, by which browsers accept it.
    pub(crate) spki: String,
}

/// What nginx serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    /// The folder of the page's files.
    pub(crate) page: &'a Path,
    pub(crate) nodes: &'a [NodeAddress],
    /// The node that returns `/config.json`.
    pub(crate) first: NodeAddress,
}

impl<'a> Nginx<'a> {
    /// Makes a certificate and a configuration in `folder`, which only this user can read, and
    /// starts nginx.
    pub(crate) fn start(
        programs: &Programs,
        namespace: &'a Namespace,
        folder: &Path,
        site: Site<'_>,
    ) -> anyhow::Result<Self> {
        let spki = make_certificate(&programs.openssl, folder)?;
        let file = folder.join("nginx.conf");
        std::fs::write(&file, configuration(folder, site))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut nginx = Self {
            namespace,
            program: programs.nginx.clone(),
            folder: folder.to_path_buf(),
            process: None,
            spki,
        };
        nginx.run()?;
        Ok(nginx)
    }

    /// Ends nginx, and with it all connections through it, and starts it again.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.process = None;
        self.run()
    }

    /// Starts nginx and waits until it accepts connections.
    fn run(&mut self) -> anyhow::Result<()> {
        let log = self.folder.join("nginx.log");
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(&self.program);
        command
            .arg("-c")
            .arg(self.folder.join("nginx.conf"))
            .arg("-p")
            .arg(&self.folder)
            .arg("-e")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output);
        let process = self.namespace.run(|| Process::spawn(&mut command))??;
        let process = self.process.insert(process);
        let addr = SocketAddr::from(([127, 0, 0, 1], 443));
        wait::until(READY_WITHIN, || {
            if let Some(status) = process.ended() {
                bail!("nginx ended ({status}): {}", workspace::tail(&log, 5));
            }
            let connected = self
                .namespace
                .run(|| TcpStream::connect_timeout(&addr, CONNECT_WITHIN))?;
            Ok(connected
                .map(drop)
                .map_err(|error| format!("nginx does not accept connections: {error}")))
        })
    }
}

/// Makes a key and a certificate for two days, and returns the hash of the public key.
fn make_certificate(openssl: &Path, folder: &Path) -> anyhow::Result<String> {
    let run = |args: &[&str]| {
        let mut command = Command::new(openssl);
        command.args(args).current_dir(folder);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command::run(&mut command)
    };
    let curve = "ec_paramgen_curve:prime256v1";
    let subject = format!("/CN={NAME}");
    let names = format!("subjectAltName=DNS:{NAME}");
    run(&[
        "req", "-x509", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-days", "2", "-subj",
        &subject, "-addext", &names, "-keyout", "key.pem", "-out", "cert.pem",
    ])?;
    run(&[
        "x509",
        "-in",
        "cert.pem",
        "-pubkey",
        "-noout",
        "-out",
        "public.pem",
    ])
    .context("cannot read the certificate")?;
    run(&[
        "pkey",
        "-pubin",
        "-in",
        "public.pem",
        "-outform",
        "der",
        "-out",
        "public.der",
    ])?;
    run(&[
        "dgst",
        "-sha256",
        "-binary",
        "-out",
        "public.sha256",
        "public.der",
    ])?;
    let hash = std::fs::read(folder.join("public.sha256")).context("openssl wrote no hash")?;
    Ok(data_encoding::BASE64.encode(&hash))
}

/// Returns nginx's configuration. It keeps all its files in `folder`.
fn configuration(folder: &Path, site: Site<'_>) -> String {
    let folder = folder.display();
    let page = site.page.display();
    let servers: String = site
        .nodes
        .iter()
        .map(|node| format!("    server {};\n", node.gossip))
        .collect();
    let http = site.first.http;
    // One worker, since each worker goes through the nodes by itself.
    format!(
        "daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  types {{
    text/html html;
    text/css css;
    text/javascript js;
    application/wasm wasm;
  }}
  upstream nodes {{
{servers}  }}
  server {{
    listen 443 ssl;
    server_name {NAME};
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    location = /gossip {{
      proxy_pass http://nodes/;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection \"upgrade\";
      proxy_set_header Host $host;
      proxy_read_timeout 1h;
    }}
    location = /config.json {{
      proxy_pass http://{http};
    }}
    location / {{
      add_header Cache-Control no-store;
      root {page};
      index index.html;
    }}
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::network;

    #[test]
    fn the_configuration_forwards_one_url_to_every_node_and_the_page_asks_the_first() {
        let nodes = [network::node(0), network::node(1)];
        let text = configuration(
            Path::new("/run-folder"),
            Site {
                page: Path::new("/page"),
                nodes: &nodes,
                first: network::node(1),
            },
        );
        for node in nodes {
            assert!(text.contains(&format!("server {};", node.gossip)), "{text}");
        }
        let [_, first] = nodes;
        assert!(text.contains(&format!("proxy_pass http://{};", first.http)));
        let opened = text.matches('{').count();
        assert_eq!(opened, text.matches('}').count());
    }
}
