//! What is done to the proxies and to the nodes behind them, and what has to hold then.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::host::interrupt::Interrupted;
use crate::host::wait::{self, pause};
use crate::proxy::kinds::kind::{Kind, Reload, Statement};
use crate::proxy::kinds::sheet::{self, Check, Sheet, millis};
use crate::proxy::kinds::stage::{HTTP_NODES, Link, Stage, TCP_NODES, Tab};
use crate::proxy::network::{self, Network, PROXY_ELSEWHERE, PROXY_INSIDE};
use crate::proxy::nodes::Nodes;

/// Limit from the interruption of a connection until there is another one.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// Limit from opening a tab until it is connected, if the node to which it is led first does not answer. A proxy notices that
/// after two seconds, and HAProxy waits another one; if it tries the same node again, it takes more than six.
const JOINED_WITHIN: Duration = Duration::from_millis(5500);
/// How long the connections are watched after a reload. Proxies that do not keep them close them at once.
const WATCHED: Duration = Duration::from_secs(2);
/// The reason under which nodes count proxies that are not trusted.
const REFUSED_PROXY: &str = "proxy";

/// Returns an error about one proxy as what is wrong with it, and others as they are.
fn check(outcome: anyhow::Result<String>) -> anyhow::Result<Check> {
    match outcome {
        Err(error) if error.is::<Interrupted>() => Err(error),
        outcome => Ok(outcome.map_err(|error| format!("{error:#}"))),
    }
}

/// Returns the tabs behind a proxy, each with its place among the proxies.
fn behind(stage: &Stage<'_>) -> Vec<(usize, Kind, SocketAddr)> {
    let tabs = stage.tabs.iter();
    let tabs = tabs.filter_map(|tab| Some((tab.kind?, tab.addr)));
    (0..)
        .zip(tabs)
        .map(|(front, (kind, addr))| (front, kind, addr))
        .collect()
}

/// Waits until a tab has a connection of which `is_wanted` is true. Returns the time since `start`.
fn wait_for_link(
    stage: &mut Stage<'_>,
    addr: SocketAddr,
    start: Instant,
    is_wanted: impl Fn(&Link) -> bool,
) -> anyhow::Result<Duration> {
    let limit = BACK_WITHIN.saturating_sub(start.elapsed());
    wait::until(limit, || {
        let links = stage.links(addr)?;
        Ok(match links.iter().any(&is_wanted) {
            true => Ok(start.elapsed()),
            false => Err(format!("the tab has no new connection, but {links:?}")),
        })
    })
}

/// Opens the page that the nodes serve, through each proxy and without an invite. It asks them for one, and where to join:
/// first through the same proxy.
pub(crate) fn pages(stage: &mut Stage<'_>, sheet: &mut Sheet) -> anyhow::Result<()> {
    const ASK: &str = "return fetch('./config.json').then((response) => response.json());";
    let pages = stage.fronts.iter();
    let pages = pages.map(|front| (front.kind, front.page(), front.url()));
    for (kind, page, url) in pages.collect::<Vec<_>>() {
        let joined = visit(stage, kind, &page, |stage, tab| {
            let config = stage.host.execute_in_last_tab(ASK)?;
            let first = config.pointer("/seeds/0").and_then(|seed| seed.as_str());
            anyhow::ensure!(first == Some(&url), "it is told to join at {first:?}");
            Ok(millis(tab.joined))
        });
        sheet.put(kind.name(), sheet::PAGE, check(joined)?);
    }
    Ok(())
}

/// Opens a tab, and closes it after `work`.
fn visit<T>(
    stage: &mut Stage<'_>,
    kind: Kind,
    url: &str,
    work: impl FnOnce(&mut Stage<'_>, &Tab) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let before = stage.host.tabs();
    let tab = stage.open(Some(kind), url);
    let outcome = tab.and_then(|tab| work(stage, &tab));
    // A page that cannot be loaded leaves none.
    if stage.host.tabs() > before {
        stage.host.close_last_tab()?;
    }
    outcome
}

/// Reloads all proxies after their certificate was renewed.
pub(crate) fn reload(stage: &mut Stage<'_>, sheet: &mut Sheet) -> anyhow::Result<()> {
    stage.certificate.renew()?;
    for (front, kind, addr) in behind(stage) {
        let start = Instant::now();
        let Some(front) = stage.fronts.get(front) else {
            continue;
        };
        front.reload()?;
        front.wait_until_reloaded(&stage.certificate)?;
        let outcome = match kind.reload() {
            Reload::Keeps => kept(stage, addr, start),
            Reload::Closes => {
                let is_new = |link: &Link| link.age < start.elapsed();
                let back = wait_for_link(stage, addr, start, is_new);
                back.map(|time| format!("closed, back after {}", millis(time)))
            }
        };
        sheet.put(kind.name(), sheet::RELOAD, check(outcome)?);
    }
    Ok(())
}

/// Watches that the connection of a tab is the one that it had at `start`.
fn kept(stage: &mut Stage<'_>, addr: SocketAddr, start: Instant) -> anyhow::Result<String> {
    pause(WATCHED)?;
    let links = stage.links(addr)?;
    anyhow::ensure!(
        links.iter().any(|link| link.age >= start.elapsed()),
        "the connection was closed; there are {links:?}"
    );
    Ok("kept".to_owned())
}

/// Ends and starts each proxy.
pub(crate) fn restart(stage: &mut Stage<'_>, sheet: &mut Sheet) -> anyhow::Result<()> {
    for (front, kind, addr) in behind(stage) {
        let start = Instant::now();
        if let Some(front) = stage.fronts.get_mut(front) {
            front.restart()?;
        }
        let back = wait_for_link(stage, addr, start, |link| link.age < start.elapsed());
        sheet.put(kind.name(), sheet::RESTART, check(back.map(millis))?);
    }
    Ok(())
}

/// Kills one node of each pair and then the other, so that every tab has to move at least once.
pub(crate) fn lose_nodes(stage: &mut Stage<'_>, sheet: &mut Sheet) -> anyhow::Result<()> {
    let mut longest = vec![Ok(Duration::ZERO); stage.fronts.len()];
    for pair in [[0, 2], [1, 3]] {
        let start = Instant::now();
        for node in pair {
            stage.nodes.kill(node)?;
        }
        for (front, _, addr) in behind(stage) {
            // The nodes that are down have no status, so this is one of the others.
            let back = wait_for_link(stage, addr, start, |_| true);
            let back = match back {
                Err(error) if error.is::<Interrupted>() => return Err(error),
                back => back.map_err(|error| format!("{error:#}")),
            };
            if let Some(longest) = longest.get_mut(front) {
                *longest = match (longest.clone(), back) {
                    (Ok(before), Ok(now)) => Ok(before.max(now)),
                    (Err(wrong), _) | (_, Err(wrong)) => Err(wrong),
                };
            }
        }
        stage.nodes.start_stopped()?;
        stage.wait_for_nodes()?;
    }
    for ((_, kind, _), longest) in behind(stage).into_iter().zip(longest) {
        sheet.put(kind.name(), sheet::NODE_LOST, longest.map(millis));
    }
    Ok(())
}

/// Compares the addresses of clients that the nodes see, first of proxies that they trust, and then of the same proxies
/// at an address that they do not trust.
pub(crate) fn addresses(
    stage: &mut Stage<'_>,
    network: &Network,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let [.., host] = network.hosts.as_slice() else {
        anyhow::bail!("no host");
    };
    let client = IpAddr::from(host.addr);
    for (_, kind, addr) in behind(stage) {
        let seen = seen_from(&stage.nodes, addr, client);
        sheet.put(kind.name(), sheet::TRUSTED, check(seen)?);
        let page = stage.forged_page(kind);
        let seen = visit(stage, kind, &page, |stage, tab| {
            seen_from(&stage.nodes, tab.addr, client)
        });
        sheet.put(kind.name(), sheet::FORGED, check(seen)?);
    }
    network.set_source(PROXY_ELSEWHERE)?;
    for (_, kind, _) in behind(stage) {
        let outcome = match kind.statement() {
            Statement::ForwardedFor => disbelieved(stage, kind),
            Statement::ProxyProtocol => refused(stage, kind, network, client),
        };
        sheet.put(kind.name(), sheet::UNTRUSTED, check(outcome)?);
    }
    network.set_source(PROXY_INSIDE)
}

/// Opens two tabs through each proxy while one of its nodes does not answer. The proxies take turns, so that one of the tabs
/// is led there first. The connections with these nodes are lost.
pub(crate) fn silent_node(
    stage: &mut Stage<'_>,
    network: &Network,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    for nodes in [HTTP_NODES, TCP_NODES] {
        network.silence(nodes[0])?;
    }
    for (_, kind, _) in behind(stage) {
        let url = stage.page(kind);
        let joined = [(); 2].map(|()| visit(stage, kind, &url, |_, tab| Ok(tab.joined)));
        let [first, second] = joined;
        let longest = first.and_then(|first| Ok(first.max(second?)));
        let joined = longest.and_then(|time| {
            anyhow::ensure!(time < JOINED_WITHIN, "only after {}", millis(time));
            Ok(millis(time))
        });
        sheet.put(kind.name(), sheet::SILENT_NODE, check(joined)?);
    }
    Ok(())
}

/// Checks that a node sees the tab `addr` at `expected`.
fn seen_from(nodes: &Nodes<'_>, addr: SocketAddr, expected: IpAddr) -> anyhow::Result<String> {
    let listed = nodes.connections()?;
    let seen = listed.iter().filter(|listed| listed.addr == addr);
    let seen: Vec<_> = seen.map(|listed| listed.network_addr.ip()).collect();
    anyhow::ensure!(
        seen == [expected],
        "it is seen at {seen:?} instead of {expected}"
    );
    Ok(expected.to_string())
}

/// Opens a tab through a proxy that is not trusted, which is seen at the address of the proxy.
fn disbelieved(stage: &mut Stage<'_>, kind: Kind) -> anyhow::Result<String> {
    let url = stage.page(kind);
    let tab = stage.open(Some(kind), &url)?;
    seen_from(&stage.nodes, tab.addr, PROXY_ELSEWHERE.into())
}

/// Opens a tab through a proxy whose PROXY header is not trusted, which the nodes refuse and count. Once the proxy is
/// trusted again, the tab joins.
fn refused(
    stage: &mut Stage<'_>,
    kind: Kind,
    network: &Network,
    client: IpAddr,
) -> anyhow::Result<String> {
    let before = refusals(&mut stage.nodes)?;
    let url = stage.page(kind);
    stage.host.open_tab(&url)?;
    wait::until(BACK_WITHIN, || {
        let count = refusals(&mut stage.nodes)?;
        Ok((count > before)
            .then_some(())
            .ok_or_else(|| "no node has refused the proxy".to_owned()))
    })?;
    let listed = stage.nodes.connections()?;
    let its_nodes = TCP_NODES.map(|index| network::node(index).gossip.into());
    let accepted = listed.iter().find(|listed| {
        listed.network_addr.ip() == PROXY_ELSEWHERE && its_nodes.contains(&listed.local_addr)
    });
    anyhow::ensure!(
        accepted.is_none(),
        "a proxy that is not trusted has a connection: {accepted:?}"
    );
    network.set_source(PROXY_INSIDE)?;
    let (addr, _) = stage.wait_for_last_tab(Instant::now())?;
    network.set_source(PROXY_ELSEWHERE)?;
    seen_from(&stage.nodes, addr, client)?;
    Ok("refused".to_owned())
}

/// Returns how many connections of proxies the nodes have refused.
fn refusals(nodes: &mut Nodes<'_>) -> anyhow::Result<u64> {
    let statuses = nodes.statuses()?;
    let counts = statuses
        .iter()
        .map(|(_, status)| status.stats.accept_failures.get(REFUSED_PROXY));
    Ok(counts.flatten().sum())
}
