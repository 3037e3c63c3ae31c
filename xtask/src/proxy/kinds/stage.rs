//! The cluster behind the proxies: four nodes, the proxies, and a tab through each of them and one without.
//!
//! Dropping the stage ends everything that it has started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::host::wait;
use crate::proxy::certificate::{Certificate, NAME};
use crate::proxy::host::Host;
use crate::proxy::kinds::forger;
use crate::proxy::kinds::front::{self, Front};
use crate::proxy::kinds::kind::{Kind, Place, Statement};
use crate::proxy::network::{self, PROXY_INSIDE};
use crate::proxy::nginx::{self, Config, Listen, Page, Site};
use crate::proxy::nodes::{CLUSTER, Nodes, Plan, Status};
use crate::proxy::observer::Observer;
use crate::proxy::server::Server;
use crate::proxy::stage::Context;

/// Limit from opening a tab until a node is connected with it.
pub(crate) const JOINED_WITHIN: Duration = Duration::from_secs(20);
/// Limit for the nodes to see each other.
const NODES_WITHIN: Duration = Duration::from_secs(20);
/// Port of the first proxy. Those of the others follow.
const FIRST_PORT: u16 = 8441;
/// Port of the pages.
const PAGES_PORT: u16 = 443;
/// The nodes behind the proxies that state their client in a field of HTTP, and those behind the others.
pub(crate) const HTTP_NODES: [u8; 2] = [0, 1];
pub(crate) const TCP_NODES: [u8; 2] = [2, 3];
const NODES: u8 = 4;

/// A program of each kind that is there.
pub(crate) type Programs = Vec<(Kind, PathBuf)>;

/// A tab, and how it reaches the nodes.
#[derive(Debug)]
pub(crate) struct Tab {
    /// `None` without a proxy.
    pub(crate) kind: Option<Kind>,
    /// The address under which the nodes know it.
    pub(crate) addr: SocketAddr,
    /// The time from opening it until a node was connected with it.
    pub(crate) joined: Duration,
}

/// A connection between a tab and a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Link {
    pub(crate) node: String,
    pub(crate) age: Duration,
}

#[derive(Debug)]
pub(crate) struct Stage<'a> {
    // Dropped in this order: tabs say goodbye while the nodes still run.
    pub(crate) host: Host<'a>,
    /// The tabs in the order of opening, the one without a proxy first.
    pub(crate) tabs: Vec<Tab>,
    /// The proxies, in the order of their tabs.
    pub(crate) fronts: Vec<Front<'a>>,
    pub(crate) observer: Observer,
    _pages: [Server<'a>; 3],
    pub(crate) nodes: Nodes<'a>,
    pub(crate) certificate: Certificate,
    /// An invite.
    word: String,
}

/// Returns how a node is started that trusts the proxies of one kind.
pub(crate) fn trusting(index: u8, statement: Statement, gossip_interval: Duration) -> Plan {
    let option = match statement {
        Statement::ForwardedFor => "--forwarded-for-from",
        Statement::ProxyProtocol => "--proxy-protocol-from",
    };
    Plan {
        index,
        seeds: Vec::new(),
        gossip_interval,
        args: vec![option.to_owned(), PROXY_INSIDE.to_string()],
    }
}

/// Starts a proxy of each kind, with consecutive ports from `first_port`. `nodes` are the places of those it leads to.
pub(crate) fn fronts<'a>(
    context: &Context<'a>,
    kinds: &Programs,
    certificate: &Certificate,
    folder: &Path,
    first_port: u16,
    nodes: impl Fn(Statement) -> [u8; 2],
) -> anyhow::Result<Vec<Front<'a>>> {
    let fronts = kinds
        .iter()
        .zip(first_port..)
        .map(|((kind, program), port)| {
            let folder = folder.join(kind.slug());
            std::fs::create_dir(&folder)?;
            let place = Place {
                folder: &folder,
                port,
                certificate: &certificate.files,
                nodes: nodes(kind.statement()).map(|index| network::node(index).gossip),
            };
            let namespace = &context.network.proxy;
            Front::start(*kind, program, context.programs, namespace, place)
        });
    fronts.collect()
}

/// Starts the nginx that serves a page for each proxy.
pub(crate) fn pages<'a>(
    context: &Context<'a>,
    certificate: &Certificate,
    folder: &Path,
    fronts: &[Front<'_>],
    port: u16,
) -> anyhow::Result<Server<'a>> {
    let pages = fronts.iter().map(|front| Page {
        path: path(front.kind),
        config: Config::Seeds(vec![front.url()]),
    });
    let pages: Vec<_> = pages.collect();
    let folder = folder.join("pages");
    std::fs::create_dir(&folder)?;
    let site = Site {
        listen: Listen::Tls(port),
        page: context.setup.page(),
        pages: &pages,
        nodes: &[],
        more: "",
        cluster: CLUSTER,
        gossip_interval: context.setup.gossip_interval,
    };
    let namespace = &context.network.proxy;
    nginx::start(
        context.programs,
        namespace,
        &folder,
        &certificate.files,
        site,
    )
}

/// Returns the URL of the page whose tabs join through a proxy.
pub(crate) fn page(kind: Kind, port: u16, word: &str) -> String {
    format!("https://{NAME}:{port}{}#invite={word}", path(kind))
}

fn path(kind: Kind) -> String {
    format!("/{}/", kind.slug())
}

impl<'a> Stage<'a> {
    /// Starts the nodes and the proxies, and opens the tabs.
    pub(crate) fn start(
        context: &Context<'a>,
        certificate: Certificate,
        kinds: &Programs,
    ) -> anyhow::Result<Self> {
        let &Context {
            programs,
            network,
            setup,
            folder,
        } = context;
        let plans = (0..NODES).map(|index| {
            let statement = match HTTP_NODES.contains(&index) {
                true => Statement::ForwardedFor,
                false => Statement::ProxyProtocol,
            };
            let mut plan = trusting(index, statement, setup.gossip_interval);
            let visitors = [
                "--http-on-gossip-port",
                "--invite-visitors",
                "--http-host",
                NAME,
            ];
            plan.args.extend(visitors.map(str::to_owned));
            // The others are told by a field of HTTP how their pages were reached.
            let mut ports = kinds.iter().zip(FIRST_PORT..);
            let told = ports.find(|((kind, _), _)| kind.statement() == statement);
            let told = told.filter(|_| statement == Statement::ProxyProtocol);
            let url = told.map(|(_, port)| format!("--public-url={}", front::url(port)));
            plan.args.extend(url);
            // A node that is killed has to find the others again, and to be who it was.
            plan.seeds = (0..NODES).filter(|seed| *seed != index).collect();
            let state = folder.join(format!("state-{index}"));
            plan.args
                .extend(["--state-dir".to_owned(), state.display().to_string()]);
            plan
        });
        let nodes = Nodes::start_planned(setup, &network.inner, folder, plans)?;
        let of = |statement| match statement {
            Statement::ForwardedFor => HTTP_NODES,
            Statement::ProxyProtocol => TCP_NODES,
        };
        let fronts = fronts(context, kinds, &certificate, folder, FIRST_PORT, of)?;
        let behind = pages(context, &certificate, folder, &fronts, PAGES_PORT)?;
        let direct = direct_page(context, &certificate)?;
        let [.., host] = network.hosts.as_slice() else {
            anyhow::bail!("no host");
        };
        let forger = forger::start(context, host, &certificate, folder, &fronts)?;
        let mut stage = Self {
            host: Host::start(programs, host, Some(certificate.authority()))?,
            tabs: Vec::new(),
            fronts,
            observer: Observer::start(&network.inner, &nodes.addresses()),
            _pages: [behind, direct, forger],
            nodes,
            certificate,
            word: setup.secret.invite.word.clone(),
        };
        stage.wait_for_nodes()?;
        let host = network::node(0).http;
        let url = format!("http://{}/direct/#invite={}", host.ip(), stage.word);
        let tab = stage.open(None, &url)?;
        stage.tabs.push(tab);
        for (kind, _) in kinds {
            let tab = stage.open(Some(*kind), &stage.page(*kind));
            stage
                .tabs
                .push(tab.with_context(|| format!("a tab behind {}", kind.name()))?);
        }
        Ok(stage)
    }

    /// Returns the URL of the page whose tabs join through a proxy of the stage.
    pub(crate) fn page(&self, kind: Kind) -> String {
        page(kind, PAGES_PORT, &self.word)
    }

    /// Returns the URL of the page whose tabs join through a proxy and state another address than their own.
    pub(crate) fn forged_page(&self, kind: Kind) -> String {
        forger::page(kind, &self.word)
    }

    /// Opens a tab, and waits until it is connected with a node.
    pub(crate) fn open(&mut self, kind: Option<Kind>, url: &str) -> anyhow::Result<Tab> {
        let start = Instant::now();
        self.host.open_tab(url)?;
        let (addr, joined) = self.wait_for_last_tab(start)?;
        Ok(Tab { kind, addr, joined })
    }

    /// Waits until the tab that was opened last is connected with a node. Returns its address, and the time since
    /// `start`.
    pub(crate) fn wait_for_last_tab(
        &mut self,
        start: Instant,
    ) -> anyhow::Result<(SocketAddr, Duration)> {
        wait::until(JOINED_WITHIN, || {
            let seen = self.host.read()?;
            let id = seen.last().context("no tab")?.id.as_str();
            let found = address_of(&self.nodes.statuses()?, id);
            let found = found.map(|addr| (addr, start.elapsed()));
            Ok(found.ok_or_else(|| format!("no node is connected with the tab {id:?}")))
        })
    }

    /// Waits until all nodes that run see each other.
    pub(crate) fn wait_for_nodes(&mut self) -> anyhow::Result<()> {
        wait::until(NODES_WITHIN, || {
            let statuses = self.nodes.statuses()?;
            let count = statuses.len();
            let missing = statuses.iter().find(|(_, status)| {
                let members = status.members.iter().filter(|member| member.live);
                members
                    .filter(|member| member.id.starts_with("node-"))
                    .count()
                    != count
            });
            Ok(match missing {
                None => Ok(()),
                Some((id, _)) => Err(format!("{id} does not see all {count} nodes")),
            })
        })
    }

    /// Returns the open connections of a tab.
    pub(crate) fn links(&mut self, addr: SocketAddr) -> anyhow::Result<Vec<Link>> {
        Ok(links(&self.nodes.statuses()?, addr))
    }
}

/// Returns the open connections of the tab with an address.
pub(crate) fn links(statuses: &[(String, Status)], addr: SocketAddr) -> Vec<Link> {
    let open = statuses.iter().flat_map(|(node, status)| {
        let open = status.stats.connections.iter();
        open.map(move |open| (node, open))
    });
    let open = open.filter(|(_, open)| open.remote_addr == addr);
    let links = open.map(|(node, open)| Link {
        node: node.clone(),
        age: Duration::try_from_secs_f64(open.age_seconds).unwrap_or_default(),
    });
    links.collect()
}

/// Returns the address of the member `id`, if a node is connected with it. Whether it is live takes a node some of its
/// gossip rounds to find.
pub(crate) fn address_of(statuses: &[(String, Status)], id: &str) -> Option<SocketAddr> {
    let members = statuses.iter().flat_map(|(_, status)| &status.members);
    let mut found = members.filter(|member| !id.is_empty() && member.id == id);
    let addr = found.next()?.addr;
    (!links(statuses, addr).is_empty()).then_some(addr)
}

/// Starts the nginx that serves, in the nodes' network, the page whose tabs dial the first node. A page of another
/// network may not dial these addresses by the browser's rules.
fn direct_page<'a>(context: &Context<'a>, certificate: &Certificate) -> anyhow::Result<Server<'a>> {
    let folder = context.folder.join("direct");
    std::fs::create_dir(&folder)?;
    let page = Page {
        path: "/direct/".to_owned(),
        config: Config::Seeds(vec![format!("ws://{}/", network::node(0).gossip)]),
    };
    let site = Site {
        listen: nginx::HTTP,
        page: context.setup.page(),
        pages: &[page],
        nodes: &[],
        more: "",
        cluster: CLUSTER,
        gossip_interval: context.setup.gossip_interval,
    };
    let namespace = &context.network.inner;
    nginx::start(
        context.programs,
        namespace,
        &folder,
        &certificate.files,
        site,
    )
}
