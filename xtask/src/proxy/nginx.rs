//! The nginx that serves the page, and forwards a `wss://` URL to all nodes in turn if it is asked to.

use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::authority::Files;
use crate::proxy::certificate::NAME;
use crate::proxy::namespaces::Namespace;
use crate::proxy::network::NodeAddress;
use crate::proxy::programs::Programs;
use crate::proxy::server::{Launch, Server};

/// The URL that tabs dial.
pub(crate) const WSS_URL: &str = "wss://gossip.test/gossip";

/// The ports of HTTPS and of HTTP.
pub(crate) const HTTPS: Listen = Listen::Tls(443);
pub(crate) const HTTP: Listen = Listen::Plain(80);

/// Where nginx listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    Tls(u16),
    Plain(u16),
}

/// What nginx serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) listen: Listen,
    /// The folder of the page's files.
    pub(crate) page: &'a Path,
    /// The pages, which differ in their configurations only.
    pub(crate) pages: &'a [Page],
    /// The nodes to which [`WSS_URL`] leads. Without any, it leads nowhere.
    pub(crate) nodes: &'a [NodeAddress],
    /// Further parts of the configuration of the server.
    pub(crate) more: &'a str,
    pub(crate) cluster: &'a str,
    pub(crate) gossip_interval: Duration,
}

/// The page under one path.
#[derive(Debug)]
pub(crate) struct Page {
    /// The path, which begins and ends with a slash.
    pub(crate) path: String,
    pub(crate) config: Config,
}

/// Where the configuration of a page comes from.
#[derive(Debug)]
pub(crate) enum Config {
    /// A node, at its address for HTTP.
    Node(SocketAddrV4),
    /// nginx, which lets the tabs dial these URLs.
    Seeds(Vec<String>),
}

/// Writes a configuration in `folder`, which only this user can read, and starts nginx.
pub(crate) fn start<'a>(
    programs: &Programs,
    namespace: &'a Namespace,
    folder: &Path,
    certificate: &Files,
    site: Site<'_>,
) -> anyhow::Result<Server<'a>> {
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration(folder, certificate, site))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let (Listen::Tls(port) | Listen::Plain(port)) = site.listen;
    Server::start(namespace, launch(programs, folder, port))
}

/// Returns how nginx is started with the file `nginx.conf` of a folder, in which it keeps all of its files.
pub(crate) fn launch(programs: &Programs, folder: &Path, port: u16) -> Launch {
    let log = folder.join("nginx.log");
    let args = [
        "-c".into(),
        folder.join("nginx.conf").into(),
        "-p".into(),
        folder.into(),
        "-e".into(),
        log.clone().into(),
    ];
    Launch {
        program: programs.nginx.clone(),
        args: args.into(),
        folder: folder.to_path_buf(),
        log,
        port,
    }
}

/// Returns nginx's configuration around `http`, the part about HTTP. All files are in `folder`.
pub(crate) fn configuration_around(folder: &Path, workers: u8, http: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
user root;
worker_processes {workers};
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{http}}}
"
    )
}

fn configuration(folder: &Path, certificate: &Files, site: Site<'_>) -> String {
    let servers = site.nodes.iter();
    let servers: String = servers
        .map(|node| format!("    server {};\n", node.gossip))
        .collect();
    let (upstream, gossip) = match site.nodes {
        [] => (String::new(), ""),
        _ => (
            format!("  upstream nodes {{\n{servers}  }}\n"),
            "    location = /gossip {
      proxy_pass http://nodes/;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection \"upgrade\";
      proxy_set_header Host $host;
      proxy_read_timeout 1h;
    }
",
        ),
    };
    let listen = match site.listen {
        Listen::Tls(port) => format!("{port} ssl"),
        Listen::Plain(port) => port.to_string(),
    };
    let pages = site.pages.iter().map(|page| location(site, page));
    let pages: String = pages.collect();
    // One worker, since each worker goes through the nodes by itself.
    configuration_around(
        folder,
        1,
        &format!(
            "  types {{
    text/html html;
    text/css css;
    text/javascript js;
    application/wasm wasm;
  }}
{upstream}  server {{
    listen {listen};
    server_name {NAME};
    ssl_certificate {};
    ssl_certificate_key {};
{gossip}{pages}{}  }}
",
            certificate.certificate.display(),
            certificate.key.display(),
            site.more
        ),
    )
}

/// Returns the part of the configuration about a page.
fn location(site: Site<'_>, page: &Page) -> String {
    let interval = u64::try_from(site.gossip_interval.as_millis()).unwrap_or(u64::MAX);
    let config = match &page.config {
        Config::Node(addr) => format!("proxy_pass http://{addr}/config.json;"),
        Config::Seeds(seeds) => {
            let config = json!({
                "cluster": site.cluster,
                "seeds": seeds,
                "gossip_interval_ms": interval,
            });
            format!(
                "default_type application/json;
      add_header Cache-Control no-store;
      return 200 '{config}';"
            )
        }
    };
    let path = &page.path;
    let files = site.page.display();
    format!(
        "    location = {path}config.json {{
      {config}
    }}
    location {path} {{
      add_header Cache-Control no-store;
      alias {files}/;
      index index.html;
    }}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::network;

    #[test]
    fn the_configuration_forwards_one_url_to_every_node_and_asks_a_node_for_the_page_or_tells_it_its_seeds()
     {
        let certificate = Files::of(Path::new("/run-folder"));
        let nodes = [network::node(0), network::node(1)];
        let page = |path: &str, config| Page {
            path: path.to_owned(),
            config,
        };
        let seeds = Config::Seeds(vec!["ws://10.0.0.1:1/".to_owned()]);
        let mut site = Site {
            listen: HTTPS,
            page: Path::new("/page"),
            pages: &[
                page("/", Config::Node(nodes[1].http)),
                page("/other/", seeds),
            ],
            nodes: &nodes,
            more: "    # more\n",
            cluster: "c",
            gossip_interval: Duration::from_millis(250),
        };
        let text = configuration(Path::new("/run-folder"), &certificate, site);
        for node in nodes {
            assert!(text.contains(&format!("server {};", node.gossip)), "{text}");
        }
        let pages = text.split("location = ").collect::<Vec<_>>();
        assert!(pages[2].starts_with("/config.json"));
        let asked = format!("proxy_pass http://{}/config.json;", nodes[1].http);
        assert!(pages[2].contains(&asked), "{text}");
        assert!(pages[3].starts_with("/other/config.json"));
        assert!(pages[3].contains(r#""seeds":["ws://10.0.0.1:1/"]"#));
        assert!(text.contains(r#""gossip_interval_ms":250"#));
        assert!(text.contains("  # more\n  }\n"), "{text}");
        let opened = text.matches('{').count();
        assert_eq!(opened, text.matches('}').count());

        site.nodes = &[];
        let text = configuration(Path::new("/run-folder"), &certificate, site);
        assert!(!text.contains("upstream") && !text.contains("/gossip {"));
    }
}
