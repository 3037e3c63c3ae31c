//! Network namespaces: network stacks of their own on this machine.
//!
//! The machine's own network is not changed, since every interface is created inside a namespace.
//! Invariant: dropping a [`Namespace`] removes it, and with it its interfaces. What a killed run has
//! left is removed by the next run.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::host::command;

/// The first part of every name. The process id of the run follows.
const PREFIX: &str = "gossip-proxy-";
/// The folder in which `ip netns` keeps the namespaces.
const FOLDER: &str = "/run/netns";

/// A network namespace. Dropping it removes it; processes in it must have ended before.
#[derive(Debug)]
pub(crate) struct Namespace {
    ip: PathBuf,
    name: String,
    file: File,
}

/// One end of a cable between two namespaces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    namespace: &'a Namespace,
    interface: &'static str,
    /// The address in a network of 256 addresses.
    addr: Ipv4Addr,
}

impl<'a> End<'a> {
    pub(crate) const fn new(
        namespace: &'a Namespace,
        interface: &'static str,
        addr: Ipv4Addr,
    ) -> Self {
        Self {
            namespace,
            interface,
            addr,
        }
    }
}

impl Namespace {
    /// Creates a namespace with only a loopback interface. `ip` is the program of iproute2.
    pub(crate) fn create(ip: &Path, role: &str) -> anyhow::Result<Self> {
        let name = format!("{PREFIX}{}-{role}", std::process::id());
        run(ip, &["netns", "add", &name])?;
        let opened = File::open(Path::new(FOLDER).join(&name));
        let file = opened.inspect_err(|_| delete(ip, &name));
        let namespace = Self {
            ip: ip.to_path_buf(),
            file: file.with_context(|| format!("cannot open the network namespace {name}"))?,
            name,
        };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Calls `work` with this namespace as the network of the calling thread. Sockets and processes
    /// that it creates stay in the namespace.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> anyhow::Result<T> {
        let home = File::open("/proc/thread-self/ns/net").context("cannot open the own network")?;
        enter(&self.file).with_context(|| format!("cannot enter {}", self.name))?;
        let _home = Home(home);
        Ok(work())
    }

    /// Adds an address to an interface.
    pub(crate) fn add_address(&self, interface: &str, addr: Ipv4Addr) -> anyhow::Result<()> {
        self.ip(&["addr", "add", &format!("{addr}/24"), "dev", interface])
    }

    /// Sends packets to other networks to `router`.
    pub(crate) fn set_default_route(&self, router: Ipv4Addr) -> anyhow::Result<()> {
        self.ip(&["route", "replace", "default", "via", &router.to_string()])
    }

    /// Uses the own address `source` for new connections to a network at an interface.
    pub(crate) fn set_source(
        &self,
        network: &str,
        interface: &str,
        source: Ipv4Addr,
    ) -> anyhow::Result<()> {
        let source = source.to_string();
        self.ip(&[
            "route", "replace", network, "dev", interface, "proto", "kernel", "scope", "link",
            "src", &source,
        ])
    }

    /// Adds a neighbour that does not exist: what is sent to it is lost.
    pub(crate) fn add_silent_neighbour(
        &self,
        interface: &str,
        addr: Ipv4Addr,
    ) -> anyhow::Result<()> {
        let addr = addr.to_string();
        let lladdr = "02:00:00:00:00:01";
        self.ip(&[
            "neigh",
            "replace",
            &addr,
            "lladdr",
            lladdr,
            "nud",
            "permanent",
            "dev",
            interface,
        ])
    }

    /// Leaves only the networks that the namespace is connected to.
    pub(crate) fn remove_default_route(&self) -> anyhow::Result<()> {
        self.ip(&["route", "flush", "default"])
    }

    /// Plugs the cable of an interface in, or pulls it out.
    pub(crate) fn set_cable(&self, interface: &str, cable: Cable) -> anyhow::Result<()> {
        let state = match cable {
            Cable::In => "up",
            Cable::Out => "down",
        };
        self.ip(&["link", "set", interface, state])
    }

    /// Lets the namespace pass packets between its networks, or drop them.
    pub(crate) fn set_forwarding(&self, forwarding: Forwarding) -> anyhow::Result<()> {
        let value = match forwarding {
            Forwarding::On => "1",
            Forwarding::Off => "0",
        };
        // The file shows the setting of the namespace of the thread that opens it.
        self.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", value))?
            .with_context(|| format!("cannot set the forwarding of {}", self.name))
    }

    fn ip(&self, args: &[&str]) -> anyhow::Result<()> {
        run(&self.ip, &[&["-n", &self.name], args].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.ip, &self.name);
    }
}

/// Whether a namespace passes packets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarding {
    On,
    Off,
}

/// Whether a cable is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cable {
    In,
    Out,
}

/// Connects two namespaces with a cable.
pub(crate) fn connect(a: End<'_>, b: End<'_>) -> anyhow::Result<()> {
    a.namespace.ip(&[
        "link",
        "add",
        a.interface,
        "type",
        "veth",
        "peer",
        "name",
        b.interface,
        "netns",
        &b.namespace.name,
    ])?;
    for end in [a, b] {
        end.namespace.add_address(end.interface, end.addr)?;
        end.namespace.ip(&["link", "set", end.interface, "up"])?;
    }
    Ok(())
}

/// Removes the namespaces of runs that have ended without doing so.
pub(crate) fn remove_stale(ip: &Path) {
    let Ok(entries) = std::fs::read_dir(FOLDER) else {
        return;
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    for name in names.filter_map(|name| name.into_string().ok()) {
        if run_of(&name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            println!("Removing {name}, which an earlier run has left");
            delete(ip, &name);
        }
    }
}

/// Returns the process id of the run that has created a namespace, or `None` if it is not of this
/// program.
fn run_of(name: &str) -> Option<u32> {
    let (pid, _role) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

/// Brings the thread back to the namespace that it came from, also while it panics.
struct Home(File);

impl Drop for Home {
    fn drop(&mut self) {
        // Cannot fail: it needs the same permission as the way there.
        let _ = enter(&self.0);
    }
}

#[cfg(target_os = "linux")]
fn enter(file: &File) -> std::io::Result<()> {
    use std::os::fd::AsFd as _;

    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn enter(_file: &File) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn run(ip: &Path, args: &[&str]) -> anyhow::Result<()> {
    command::run(Command::new(ip).args(args))
}

/// Removes a namespace, also after a signal to this process, when [`command::run`] would fail.
fn delete(ip: &Path, name: &str) {
    if command::output(ip, &["netns", "del", name]).is_none() {
        eprintln!("cannot remove the network namespace {name}; by hand: ip netns del {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::run_of;

    #[test]
    fn only_a_name_of_this_program_tells_the_run_that_created_it() {
        assert_eq!(run_of("gossip-proxy-4711-inner"), Some(4711));
        assert_eq!(run_of("gossip-proxy-inner"), None);
        assert_eq!(run_of("blue"), None);
    }
}
