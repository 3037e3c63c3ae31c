//! Measures what TLS costs: throughput, handshakes and idle memory of connections inside TLS, beside this
//! crate without TLS, other peers inside TLS, and the floor.
//!
//! `tls [--rounds N] [--only TEXT] [--columns TEXT] [--check]`: the floor and this crate without TLS are
//! always measured, since ratios are taken to them; `--only` chooses the others by their names,
//! `--columns` the columns. `--check` takes one round of short samples, without those of the memory, to
//! show that the program works. Its figures mean nothing.
//!
//! Before anything is measured, the handshakes between all pairs of sides are checked to agree on the same
//! version, cipher and key exchange, and to resume no session. Rounds, turns and ratios are those of the
//! program `transport`. Each sample of handshakes has a runtime of its own, so that the connections that
//! it has opened end with it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use gossip_benches::handshakes::{Handshakes, handshakes};
use gossip_benches::memory::{self, CHILD, CONNECTIONS, RESIDENT};
use gossip_benches::options::pairs;
use gossip_benches::peer::{Filled, Node};
use gossip_benches::peers::{
    Floor, Negotiated, OurTls, OurWebSocket, OurWss, OurWssAes, Ours, TlsFrames, TlsWebSocket,
    negotiated,
};
use gossip_benches::report::{Samples, Unit, order, write_json};
use gossip_benches::scenario::{self, Throughput};
use serde::Serialize;

/// Columns of throughput: bytes of a message, name.
const FLOWS: [(usize, &str); 3] = [(64, "64 B"), (1 << 10, "1 KiB"), (64 << 10, "64 KiB")];
/// Columns of handshakes: how many run at a time, name.
const HANDSHAKES: [(usize, &str); 2] = [
    (1, "handshakes, one at a time"),
    (16, "handshakes, 16 at a time"),
];
/// The column of the memory.
const MEMORY: &str = "idle memory";

/// A peer of the comparison, as functions that take one sample each.
struct Contestant {
    name: &'static str,
    throughput: fn(usize, Duration) -> anyhow::Result<Throughput>,
    handshakes: fn(usize, usize) -> anyhow::Result<Handshakes>,
    memory: fn() -> anyhow::Result<memory::Sample>,
}

impl Contestant {
    const fn node<N>() -> Self
    where
        N: Node<Message: Filled>,
    {
        Self {
            name: N::NAME,
            throughput: |len, window| {
                let message = N::Message::filled(len);
                scenario::runtime()?.block_on(scenario::throughput::<N>(1, message, window))
            },
            handshakes: |count, at_once| {
                scenario::runtime()?.block_on(handshakes::<N>(count, at_once))
            },
            memory: || memory::sample::<N>(CONNECTIONS, false, || 0),
        }
    }
}

static CONTESTANTS: [Contestant; 8] = [
    Contestant::node::<Floor>(),
    Contestant::node::<Ours>(),
    Contestant::node::<OurTls>(),
    Contestant::node::<TlsFrames>(),
    Contestant::node::<OurWebSocket>(),
    Contestant::node::<OurWss>(),
    Contestant::node::<OurWssAes>(),
    Contestant::node::<TlsWebSocket>(),
];

/// The peers to which ratios are taken.
const BASES: [&str; 2] = [Floor::NAME, Ours::<bytes::Bytes>::NAME];

#[derive(Serialize)]
struct Results {
    table: Samples,
    cpu: Samples,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [CHILD, name, ..] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        let peer = CONTESTANTS.iter().find(|peer| peer.name == name);
        let sample = (peer.context("no such peer")?.memory)()?;
        println!("{}", serde_json::to_string(&sample)?);
        return Ok(());
    }
    let options = Options::parse(args)?;
    check_handshakes()?;
    let peers: Vec<_> = CONTESTANTS
        .iter()
        .filter(|peer| BASES.contains(&peer.name) || wanted(peer.name, options.only.as_ref()))
        .collect();
    let names = || peers.iter().map(|peer| peer.name);
    let mut results = Results {
        table: Samples::new(names()),
        cpu: Samples::new(names()),
    };
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        let mut run = Run {
            peers: &peers,
            options: &options,
            round,
            results: &mut results,
        };
        run.throughputs()?;
        run.handshakes()?;
        run.memory()?;
    }
    print(&results);
    if !options.check {
        println!("wrote {}", write_json("tls", &results)?.display());
    }
    Ok(())
}

/// Fails unless all sides agree on what the comparison is for.
fn check_handshakes() -> anyhow::Result<()> {
    let expected = Negotiated::expected();
    for (sides, negotiated) in scenario::runtime()?.block_on(negotiated())? {
        ensure!(
            negotiated == expected,
            "{sides}: {negotiated} instead of {expected}"
        );
    }
    println!("All handshakes of TLS: {expected}\n");
    Ok(())
}

fn print(results: &Results) {
    for base in BASES {
        println!(
            "Ratio to \"{base}\" of the same round, median (least..most); for messages and handshakes \
             per second more is better, for memory less:\n\n{}\n",
            results.table.ratios(base)
        );
    }
    println!("Absolute:\n\n{}\n", results.table.medians());
    println!(
        "CPU time of all cores per message and per handshake, both ends:\n\n{}\n",
        results.cpu.medians()
    );
}

/// One round.
struct Run<'a> {
    peers: &'a [&'static Contestant],
    options: &'a Options,
    round: usize,
    results: &'a mut Results,
}

impl Run<'_> {
    fn throughputs(&mut self) -> anyhow::Result<()> {
        for (len, column) in FLOWS {
            for peer in self.turns(column) {
                let sample = (peer.throughput)(len, self.options.effort().window)?;
                let Results { table, cpu } = &mut self.results;
                table.add(column, Unit::PerSecond, peer.name, sample.per_second);
                cpu.add(column, Unit::Nanos, peer.name, sample.cpu_ns);
            }
        }
        Ok(())
    }

    fn handshakes(&mut self) -> anyhow::Result<()> {
        for (at_once, column) in HANDSHAKES {
            for peer in self.turns(column) {
                let sample = (peer.handshakes)(self.options.effort().handshakes, at_once)?;
                let Results { table, cpu } = &mut self.results;
                table.add(column, Unit::PerSecond, peer.name, sample.per_second);
                cpu.add(column, Unit::Micros, peer.name, sample.cpu_us);
            }
        }
        Ok(())
    }

    fn memory(&mut self) -> anyhow::Result<()> {
        if self.options.check {
            // Each sample waits for seconds until the memory does not change.
            return Ok(());
        }
        for peer in self.turns(MEMORY) {
            let sample = memory::in_child(peer.name, CONNECTIONS, false)?;
            let bytes = sample.idle[RESIDENT];
            self.results
                .table
                .add(MEMORY, Unit::Bytes, peer.name, bytes);
        }
        Ok(())
    }

    /// Returns the peers in the order in which they take turns at a column, or none if the column
    /// is not wanted.
    fn turns(&self, column: &str) -> Vec<&'static Contestant> {
        if !wanted(column, self.options.columns.as_ref()) {
            return Vec::new();
        }
        let order = order(self.peers.len(), self.round);
        order.into_iter().map(|index| self.peers[index]).collect()
    }
}

fn wanted(name: &str, filter: Option<&String>) -> bool {
    filter.is_none_or(|text| name.contains(text.as_str()))
}

/// How much is measured in a round.
struct Effort {
    /// Duration of a sample of throughput.
    window: Duration,
    /// Handshakes of a sample.
    handshakes: usize,
}

/// Half a second and more for each sample, which is as long as those of the program `transport`.
const FULL: Effort = Effort {
    window: Duration::from_millis(600),
    handshakes: 500,
};
const CHECK: Effort = Effort {
    window: Duration::from_millis(20),
    handshakes: 20,
};

struct Options {
    rounds: usize,
    only: Option<String>,
    columns: Option<String>,
    check: bool,
}

impl Options {
    const fn effort(&self) -> Effort {
        if self.check { CHECK } else { FULL }
    }

    fn parse(mut args: Vec<String>) -> anyhow::Result<Self> {
        let given = args.len();
        args.retain(|arg| arg != "--check");
        let check = args.len() < given;
        let mut options = Self {
            rounds: if check { 1 } else { 5 },
            only: None,
            columns: None,
            check,
        };
        for pair in pairs(args) {
            let (name, value) = pair?;
            match name.as_str() {
                "--rounds" if !check => options.rounds = value.parse()?,
                // The option that `cargo xtask bench` always passes.
                "--rounds" => {}
                "--only" => options.only = Some(value),
                "--columns" => options.columns = Some(value),
                _ => anyhow::bail!("{name}: unknown"),
            }
        }
        Ok(options)
    }
}
