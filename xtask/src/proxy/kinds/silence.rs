//! Connections through the proxies on which nothing is sent in either direction.
//!
//! A browser with a tab through each proxy is stopped, as on a computer that sleeps. The nodes have nothing to say: their
//! keepalives and gossip rounds are ten minutes apart. That nothing was sent is what the kernel says of each
//! connection, on both sides of the proxy.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::host::freeze::Frozen;
use crate::host::wait::{self, pause};
use crate::host::{command, interrupt};
use crate::proxy::certificate::Certificate;
use crate::proxy::host::Host;
use crate::proxy::kinds::front::Front;
use crate::proxy::kinds::kind::Statement;
use crate::proxy::kinds::sheet::{self, Check, millis};
use crate::proxy::kinds::sockets::{self, Socket};
use crate::proxy::kinds::stage::{self, Link, Programs, address_of, links, trusting};
use crate::proxy::network::{self, Network};
use crate::proxy::nodes::{Nodes, Plan};
use crate::proxy::observer::KEY;
use crate::proxy::server::Server;
use crate::proxy::stage::Context as Run;

/// The silence: longer than a minute, which is the default time limit of nginx and of many others.
const SILENCE: Duration = Duration::from_secs(75);
/// Limit from the end of the silence until a change has arrived.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// Limit from opening the tabs until the nodes are connected with all.
const JOINED_WITHIN: Duration = Duration::from_secs(20);
/// Port of the first proxy. Those of the others follow.
const FIRST_PORT: u16 = 9441;
/// Port of the pages.
const PAGES_PORT: u16 = 444;
/// The node behind the proxies that state their client in a field of HTTP, and that behind the others. They do not
/// know each other, nor any other node.
const HTTP_NODE: u8 = 4;
const TCP_NODE: u8 = 5;
/// Longer than all of the measurement.
const NEVER: Duration = Duration::from_secs(600);

/// What was found about one proxy: its name, the column, and what stands there.
pub(crate) type Found = (&'static str, &'static str, Check);

/// The browser that is stopped, and what its tabs are connected with.
#[derive(Debug)]
pub(crate) struct Silence<'a> {
    // Dropped in this order: only a browser that runs can be closed.
    frozen: Frozen,
    host: Host<'a>,
    /// The addresses of the tabs, in the order of the proxies.
    tabs: Vec<SocketAddr>,
    fronts: Vec<Front<'a>>,
    _pages: Server<'a>,
    nodes: Nodes<'a>,
    network: &'a Network,
    since: Instant,
}

impl<'a> Silence<'a> {
    /// Starts nodes and proxies, opens a tab through each proxy, and stops the browser.
    pub(crate) fn begin(run: &Run<'a>, programs: &Programs) -> anyhow::Result<Self> {
        let folder = run.folder.join("silence");
        std::fs::create_dir(&folder)?;
        let certificate = &Certificate::make(&folder)?;
        let plans = [
            (HTTP_NODE, Statement::ForwardedFor),
            (TCP_NODE, Statement::ProxyProtocol),
        ];
        let plans = plans.map(|(index, statement)| silent(trusting(index, statement, NEVER)));
        let mut nodes = Nodes::start_planned(run.setup, &run.network.inner, &folder, plans)?;
        let fronts = stage::fronts(
            run,
            programs,
            certificate,
            &folder,
            FIRST_PORT,
            |statement| match statement {
                Statement::ForwardedFor => [HTTP_NODE; 2],
                Statement::ProxyProtocol => [TCP_NODE; 2],
            },
        )?;
        let pages = stage::pages(run, certificate, &folder, &fronts, PAGES_PORT)?;
        let host = run.network.hosts.first().context("no host")?;
        let mut host = Host::start(run.programs, host, Some(certificate.authority()))?;
        for (kind, _) in programs {
            host.open_tab(&stage::page(
                *kind,
                PAGES_PORT,
                &run.setup.secret.invite.word,
            ))?;
        }
        let tabs = wait::until(JOINED_WITHIN, || {
            let statuses = nodes.statuses()?;
            let tabs = host.read()?;
            let found = programs.iter().zip(&tabs).map(|((kind, _), tab)| {
                let addr = address_of(&statuses, &tab.id);
                addr.ok_or_else(|| {
                    format!("no node is connected with the tab behind {}", kind.name())
                })
            });
            Ok(found.collect::<Result<Vec<_>, _>>())
        })?;
        let frozen = host.freeze()?;
        Ok(Self {
            frozen,
            host,
            tabs,
            fronts,
            _pages: pages,
            nodes,
            network: run.network,
            since: Instant::now(),
        })
    }

    /// Waits for the end of the silence, and finds out which connections it has ended.
    pub(crate) fn end(mut self, run: &Run<'_>) -> anyhow::Result<Vec<Found>> {
        // A little more, since what was sent last may have arrived after the browser was stopped.
        let left = (SILENCE + Duration::from_secs(1)).saturating_sub(self.since.elapsed());
        pause(left)?;
        let sockets = self.sockets(run)?;
        let statuses = self.nodes.statuses()?;
        let tabs = self.tabs.iter().map(|addr| links(&statuses, *addr));
        let tabs: Vec<_> = tabs.collect();
        let Self {
            frozen,
            host,
            mut nodes,
            fronts,
            ..
        } = self;
        drop(frozen);
        let mut found = Vec::new();
        for ((index, front), links) in (0..).zip(&fronts).zip(tabs) {
            let quiet = quiet(&sockets, front, &links).map(|time| format!("{} s", time.as_secs()));
            let name = front.kind.name();
            let quiet = quiet.map_err(|error| format!("{error:#}"));
            found.push((name, sheet::QUIET, quiet));
            let value = index.to_string();
            let start = Instant::now();
            let change = host
                .select_tab(index)
                .and_then(|()| host.set_key(KEY, &value));
            let heard = change.and_then(|_| wait_for_value(&mut nodes, &value, start));
            interrupt::check()?;
            let heard = heard.map(millis).map_err(|error| format!("{error:#}"));
            found.push((name, sheet::WOKEN, heard));
        }
        Ok(found)
    }

    /// Returns the connections of the proxies with the nodes and with the tabs.
    fn sockets(&self, run: &Run<'_>) -> anyhow::Result<Vec<Socket>> {
        let mut command = Command::new(&run.programs.ss);
        command.args(["-H", "-O", "-t", "-i", "-n", "state", "established"]);
        let text = self
            .network
            .proxy
            .run(|| command::run_for_output(&mut command))??;
        Ok(sockets::parse(&text))
    }
}

/// Returns the plan of a node that sends nothing by itself.
fn silent(mut plan: Plan) -> Plan {
    let (never, later) = (NEVER.as_secs(), NEVER.as_secs() * 2);
    plan.args.extend([
        format!("--keepalive-interval={never}s"),
        format!("--silence-timeout={later}s"),
    ]);
    plan
}

/// Returns how long nothing was sent on the connections of a proxy. Fails if something was sent, or if the tab does not
/// have the connection that it had before.
fn quiet(sockets: &[Socket], front: &Front<'_>, links: &[Link]) -> anyhow::Result<Duration> {
    let node = match front.kind.statement() {
        Statement::ForwardedFor => HTTP_NODE,
        Statement::ProxyProtocol => TCP_NODE,
    };
    let node = SocketAddr::from(network::node(node).gossip);
    let of_tabs = sockets
        .iter()
        .filter(|socket| socket.local.port() == front.port());
    let of_nodes = sockets.iter().filter(|socket| socket.peer == node);
    let (of_tabs, of_nodes): (Vec<_>, Vec<_>) = (of_tabs.collect(), of_nodes.collect());
    ensure!(
        of_tabs.len() == 1,
        "the tab has {} connections",
        of_tabs.len()
    );
    ensure!(!of_nodes.is_empty(), "there is no connection with the node");
    let times = of_tabs.iter().chain(&of_nodes).map(|socket| socket.silence);
    let shortest = times.min().unwrap_or_default();
    ensure!(shortest >= SILENCE, "something was sent {shortest:?} ago");
    ensure!(
        matches!(links, [link] if link.age >= SILENCE),
        "the tab has the connections {links:?}"
    );
    Ok(shortest)
}

/// Waits until a member of a node has set [`KEY`] to `value`. Returns the time since `start`.
fn wait_for_value(nodes: &mut Nodes<'_>, value: &str, start: Instant) -> anyhow::Result<Duration> {
    wait::until(HEARD_WITHIN, || {
        let statuses = nodes.statuses()?;
        let mut members = statuses.iter().flat_map(|(_, status)| &status.members);
        let has_value = members.any(|member| member.keys.get(KEY).is_some_and(|key| key == value));
        Ok(match has_value {
            true => Ok(start.elapsed()),
            false => Err("the nodes lack the change of a tab that was woken".to_owned()),
        })
    })
}
