//! A client that states another address than its own: an nginx on the host of the tabs, which adds the field to their
//! requests, as browsers do not let pages do.

use std::path::Path;

use crate::proxy::certificate::{Certificate, FORGER, NAME};
use crate::proxy::kinds::front::Front;
use crate::proxy::kinds::kind::Kind;
use crate::proxy::network;
use crate::proxy::nginx::{self, Config, Listen, Page, Site};
use crate::proxy::nodes::CLUSTER;
use crate::proxy::server::Server;
use crate::proxy::stage::Context;

/// The address that it states.
pub(crate) const FORGED: &str = "192.0.2.66";
/// Its port on the host of the tabs.
const PORT: u16 = 7441;

/// Starts it on the host, with a page for each proxy.
pub(crate) fn start<'a>(
    context: &Context<'a>,
    host: &'a network::Host,
    certificate: &Certificate,
    folder: &Path,
    fronts: &[Front<'_>],
) -> anyhow::Result<Server<'a>> {
    let folder = folder.join("forger");
    std::fs::create_dir(&folder)?;
    let pages = fronts.iter().map(|front| Page {
        path: path(front.kind),
        config: Config::Seeds(vec![format!(
            "wss://{FORGER}:{PORT}{}join",
            path(front.kind)
        )]),
    });
    let pages: Vec<_> = pages.collect();
    let more = fronts.iter().map(|front| location(host, front));
    let site = Site {
        listen: Listen::Tls(PORT),
        page: context.setup.page(),
        pages: &pages,
        nodes: &[],
        more: &more.collect::<String>(),
        cluster: CLUSTER,
        gossip_interval: context.setup.gossip_interval,
    };
    nginx::start(
        context.programs,
        &host.namespace,
        &folder,
        &certificate.files,
        site,
    )
}

/// Returns the URL of the page whose tabs join through a proxy with a stated address.
pub(crate) fn page(kind: Kind, word: &str) -> String {
    format!("https://{FORGER}:{PORT}{}#invite={word}", path(kind))
}

fn path(kind: Kind) -> String {
    format!("/{}/", kind.slug())
}

/// Returns the part of the configuration that leads to a proxy.
fn location(host: &network::Host, front: &Front<'_>) -> String {
    format!(
        "    location = {}join {{
      proxy_pass https://{}:{port}/;
      proxy_ssl_name {NAME};
      proxy_ssl_server_name on;
      proxy_http_version 1.1;
      proxy_set_header Host {NAME}:{port};
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection \"upgrade\";
      proxy_set_header X-Forwarded-For {FORGED};
    }}
",
        path(front.kind),
        host.proxy,
        port = front.port()
    )
}
