//! A cluster for one scenario: nodes, the proxy if there is one, and tabs on two hosts.
//!
//! Dropping the stage ends everything that it has started. What is done on a stage is in
//! [`crate::proxy::measure`].

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::host::interrupt::Interrupted;
use crate::host::wait;
use crate::proxy::certificate::{Certificate, NAME};
use crate::proxy::host::{Host, Seen};
use crate::proxy::namespaces::Forwarding;
use crate::proxy::network::Network;
use crate::proxy::nginx::{self, Config, Page, Site};
use crate::proxy::nodes::{CLUSTER, Nodes, Setup};
use crate::proxy::observer::Observer;
use crate::proxy::phase::Start;
use crate::proxy::programs::Programs;
use crate::proxy::server::Server;

/// Limit from opening the tabs until all members see each other. After it, the measurement goes on
/// with what there is.
const JOINED_WITHIN: Duration = Duration::from_secs(30);

/// How the tabs reach the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Over a router, each node at its own address.
    Direct,
    /// Through the proxy's one URL.
    Proxy,
}

/// What all scenarios share.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) network: &'a Network,
    pub(crate) setup: &'a Setup,
    /// A folder for configurations and logs, which only this user can read.
    pub(crate) folder: &'a Path,
}

/// The members of a scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Members {
    pub(crate) access: Access,
    pub(crate) nodes: u8,
    pub(crate) tabs: usize,
}

#[derive(Debug)]
pub(crate) struct Stage<'a> {
    // Dropped in this order: tabs say goodbye while the nodes still run.
    pub(crate) hosts: Vec<Host<'a>>,
    pub(crate) nginx: Option<Server<'a>>,
    pub(crate) observer: Observer,
    pub(crate) nodes: Nodes<'a>,
    pub(crate) members: Members,
    pub(crate) gossip_interval: Duration,
    /// The page that is opened in tabs, with an invite.
    pub(crate) url: String,
    /// The URLs that tabs can dial.
    pub(crate) reachable: BTreeSet<String>,
    /// The number of the last change.
    pub(crate) changes_made: u64,
    pub(crate) start: Start,
}

impl<'a> Stage<'a> {
    /// Starts the nodes and opens the tabs, in turn on the hosts. Returns when all members see each
    /// other, or after [`JOINED_WITHIN`].
    pub(crate) fn start(context: &Context<'a>, members: Members) -> anyhow::Result<Self> {
        let &Context {
            programs,
            network,
            setup,
            folder,
        } = context;
        let began = Instant::now();
        let public_url = match members.access {
            Access::Direct => None,
            Access::Proxy => Some(nginx::WSS_URL),
        };
        let nodes = Nodes::start(setup, &network.inner, folder, members.nodes, public_url)?;
        let addresses = nodes.addresses();
        let first = addresses.first().context("no node")?;
        network.set_forwarding(match members.access {
            Access::Direct => Forwarding::On,
            Access::Proxy => Forwarding::Off,
        })?;
        let (nginx, certificate, page, reachable) = match members.access {
            Access::Direct => {
                let urls = addresses
                    .iter()
                    .map(|node| format!("ws://{}/", node.gossip));
                (None, None, format!("http://{}", first.http), urls.collect())
            }
            Access::Proxy => {
                let certificate = Certificate::make(folder)?;
                let site = Site {
                    listen: nginx::HTTPS,
                    page: setup.page(),
                    pages: &[Page {
                        path: "/".to_owned(),
                        config: Config::Node(first.http),
                    }],
                    nodes: &addresses,
                    more: "",
                    cluster: CLUSTER,
                    gossip_interval: setup.gossip_interval,
                };
                let files = &certificate.files;
                let nginx = nginx::start(programs, &network.proxy, folder, files, site)?;
                let urls = BTreeSet::from([nginx::WSS_URL.to_owned()]);
                let page = format!("https://{NAME}");
                (Some(nginx), Some(certificate), page, urls)
            }
        };
        let mut stage = Self {
            hosts: Vec::new(),
            nginx,
            observer: Observer::start(&network.inner, &addresses),
            nodes,
            members,
            gossip_interval: setup.gossip_interval,
            url: format!("{page}/#invite={}", setup.secret.invite.word),
            reachable,
            changes_made: 0,
            start: Start::Complete,
        };
        stage.wait_until_complete(usize::from(members.nodes))?;
        let authority = certificate.as_ref().map(Certificate::authority);
        for host in &network.hosts {
            stage.hosts.push(Host::start(programs, host, authority)?);
        }
        let url = stage.url.clone();
        for index in 0..members.tabs {
            let hosts = stage.hosts.len().max(1);
            let host = stage.hosts.get_mut(index % hosts).context("no host")?;
            host.open_tab(&url)?;
        }
        stage.wait_until_complete(usize::from(members.nodes) + members.tabs)?;
        println!("  ready after {:.0} s", began.elapsed().as_secs_f64());
        Ok(stage)
    }

    /// Waits until every member sees `count` live members.
    fn wait_until_complete(&mut self, count: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        let waited = wait::until(JOINED_WITHIN, || {
            let views = self.live_counts()?;
            let missing = views.iter().filter(|(_, live)| *live != count);
            let missing: Vec<_> = missing
                .map(|(view, live)| format!("{view} sees {live}"))
                .collect();
            Ok(if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("of {count} live members {}", missing.join(", ")))
            })
        });
        match waited {
            Err(error) if error.is::<Interrupted>() => Err(error),
            Err(error) if began.elapsed() >= JOINED_WITHIN => {
                println!("  the cluster is incomplete: {error:#}");
                self.start = Start::Incomplete;
                Ok(())
            }
            other => other,
        }
    }

    fn live_counts(&mut self) -> anyhow::Result<Vec<(String, usize)>> {
        let mut counts = Vec::new();
        for (id, status) in self.nodes.statuses()? {
            let live = status.members.iter().filter(|member| member.live).count();
            counts.push((id, live));
        }
        for (number, seen) in (1..).zip(self.read_tabs()?) {
            counts.push((format!("tab {number}"), seen.live));
        }
        Ok(counts)
    }

    /// Reads all tabs.
    pub(crate) fn read_tabs(&self) -> anyhow::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for host in self.hosts.iter().filter(|host| host.tabs() > 0) {
            seen.extend(host.read()?);
        }
        Ok(seen)
    }
}
