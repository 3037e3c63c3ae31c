//! The three networks of the measurement: the nodes' one, and one for each host with a browser.
//!
//! ```text
//! inner (nodes) ---- proxy (nginx) ---- host 1 (browser)
//!                            '--------- host 2 (browser)
//! ```
//!
//! Nothing but the proxy's own addresses can be reached from the hosts, unless the proxy forwards
//! packets as a router ([`Network::set_forwarding`]).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;

use crate::proxy::namespaces::{self, Cable, End, Forwarding, Namespace};

/// Port of each node for gossip.
const GOSSIP_PORT: u16 = 7946;
/// Port of each node for its status and its page.
const HTTP_PORT: u16 = 8080;

const NODES: &str = "nodes";
/// The interface of the proxy's machine in the nodes' network.
const INSIDE: &str = "inside";
/// The address from which the proxies connect to the nodes.
pub(crate) const PROXY_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 90, 1, 1);
/// The address from which they do so after [`Network::set_source`], which no node trusts.
pub(crate) const PROXY_ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 90, 1, 2);
/// The nodes' network.
const NODES_NETWORK: &str = "10.90.1.0/24";

/// The plan of a host's network.
struct HostPlan {
    name: &'static str,
    /// The proxy's interface in this network.
    interface: &'static str,
    /// The proxy's address in this network.
    near: Ipv4Addr,
    far: Ipv4Addr,
    beyond: Beyond,
}

/// What happens to packets for addresses that a host cannot reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// There is no route, so that a dial fails at once.
    NoRoute,
    /// They are lost, so that a dial fails by its own time limit. The address is that of a router
    /// which does not exist.
    Lost(Ipv4Addr),
}

/// The networks are ranges for documentation, so that they count as public addresses.
const HOSTS: [HostPlan; 2] = [
    HostPlan {
        name: "host-1",
        interface: "outside-1",
        near: Ipv4Addr::new(198, 51, 100, 1),
        far: Ipv4Addr::new(198, 51, 100, 2),
        beyond: Beyond::NoRoute,
    },
    HostPlan {
        name: "host-2",
        interface: "outside-2",
        near: Ipv4Addr::new(203, 0, 113, 1),
        far: Ipv4Addr::new(203, 0, 113, 2),
        beyond: Beyond::Lost(Ipv4Addr::new(203, 0, 113, 3)),
    },
];
/// The interface of a host.
const HOST: &str = "network";

/// The addresses of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeAddress {
    pub(crate) gossip: SocketAddrV4,
    pub(crate) http: SocketAddrV4,
}

/// The namespaces, with their cables and addresses.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) inner: Arc<Namespace>,
    pub(crate) proxy: Namespace,
    pub(crate) hosts: Vec<Host>,
}

/// The network of a host with a browser.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    /// The proxy's address as this host sees it.
    pub(crate) proxy: Ipv4Addr,
    pub(crate) addr: Ipv4Addr,
    beyond: Beyond,
}

impl Network {
    /// Creates the namespaces, with addresses for `nodes` nodes. `name` tells them from those of other networks of this run.
    pub(crate) fn create(ip: &Path, name: &str, nodes: u8) -> anyhow::Result<Self> {
        namespaces::remove_stale(ip);
        let create = |role| Namespace::create(ip, &format!("{name}-{role}"));
        let inner = create("inner")?;
        let proxy = create("proxy")?;
        namespaces::connect(
            End::new(&inner, NODES, address(0)),
            End::new(&proxy, INSIDE, PROXY_INSIDE),
        )?;
        proxy.add_address(INSIDE, PROXY_ELSEWHERE)?;
        for index in 1..nodes {
            inner.add_address(NODES, address(index))?;
        }
        inner.set_default_route(PROXY_INSIDE)?;
        let mut hosts = Vec::new();
        for plan in HOSTS {
            let namespace = create(plan.name)?;
            namespaces::connect(
                End::new(&proxy, plan.interface, plan.near),
                End::new(&namespace, HOST, plan.far),
            )?;
            if let Beyond::Lost(router) = plan.beyond {
                namespace.add_silent_neighbour(HOST, router)?;
            }
            hosts.push(Host {
                namespace,
                proxy: plan.near,
                addr: plan.far,
                beyond: plan.beyond,
            });
        }
        Ok(Self {
            inner: Arc::new(inner),
            proxy,
            hosts,
        })
    }

    /// Lets the hosts reach the nodes through the proxy's machine as their router, or not.
    pub(crate) fn set_forwarding(&self, forwarding: Forwarding) -> anyhow::Result<()> {
        for Host {
            namespace,
            proxy,
            beyond,
            ..
        } in &self.hosts
        {
            match (forwarding, beyond) {
                (Forwarding::On, _) => namespace.set_default_route(*proxy)?,
                (Forwarding::Off, Beyond::NoRoute) => namespace.remove_default_route()?,
                (Forwarding::Off, Beyond::Lost(router)) => namespace.set_default_route(*router)?,
            }
        }
        self.proxy.set_forwarding(forwarding)
    }

    /// Loses everything that the proxy's machine sends to a node from now on.
    pub(crate) fn silence(&self, index: u8) -> anyhow::Result<()> {
        self.proxy.add_silent_neighbour(INSIDE, address(index))
    }

    /// Lets new connections from the proxy's machine to the nodes come from another of its addresses.
    pub(crate) fn set_source(&self, source: Ipv4Addr) -> anyhow::Result<()> {
        self.proxy.set_source(NODES_NETWORK, INSIDE, source)
    }
}

impl Host {
    /// Plugs the host's cable in, or pulls it out. Its browser notices that, as on a computer.
    pub(crate) fn set_cable(&self, cable: Cable) -> anyhow::Result<()> {
        self.namespace.set_cable(HOST, cable)
    }
}

/// Returns the addresses of the node with an index from 0.
pub(crate) fn node(index: u8) -> NodeAddress {
    let ip = address(index);
    NodeAddress {
        gossip: SocketAddrV4::new(ip, GOSSIP_PORT),
        http: SocketAddrV4::new(ip, HTTP_PORT),
    }
}

fn address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 90, 1, index.saturating_add(11))
}
