//! Measures throughput, round trips, connecting and idle memory, beside the floor and the peers.
//!
//! `transport [--rounds N] [--only TEXT] [--columns TEXT]`: the floor is always measured; `--only`
//! chooses the others by their names, `--columns` the columns.
//!
//! A round measures one column after another, and for each column all peers within seconds of each
//! other, in an order that differs from round to round. Ratios are taken to the floor of the same
//! round; tables show the median of the rounds, the least and the most.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use gossip_benches::memory::{self, CHILD, CONNECTIONS, RESIDENT};
use gossip_benches::options::pairs;
use gossip_benches::peer::{Filled, Node};
use gossip_benches::peers::{
    Chitchat, Floor, Framed, Noise, OurTcp, OurWebSocket, Ours, PlainUdp, Quic, Tls, WebSocket,
};
use gossip_benches::report::{Samples, Unit, median, order, quantile, write_json};
use gossip_benches::scenario::{self, Throughput};
use gossip_benches::{hand, typed};
use gossip_transport::message::{ChitchatMessage, Message as _, ProtocolVersion};
use serde::Serialize;
use tokio::runtime::Runtime;

/// Duration of a sample of throughput.
const WINDOW: Duration = Duration::from_millis(600);
/// Columns of throughput: senders, bytes of a message, name.
const FLOWS: [(usize, usize, &str); 5] = [
    (1, 64, "64 B"),
    (1, 1 << 10, "1 KiB"),
    (1, 16 << 10, "16 KiB"),
    (1, 64 << 10, "64 KiB"),
    (8, 1 << 10, "8 to 1"),
];
const PING_LEN: usize = 64;
/// Round trips of a sample: p99 is the hundredth worst.
const PINGS: usize = 10_000;
/// Connections of a sample.
const CONNECTS: usize = 100;

/// Takes one sample of many times, in microseconds each.
type Times = fn(&Runtime) -> anyhow::Result<Vec<f64>>;

/// A peer of the comparison, as functions that take one sample each.
struct Contestant {
    name: &'static str,
    throughput: fn(&Runtime, usize, usize) -> anyhow::Result<Throughput>,
    ping: Times,
    connect: Option<Times>,
    memory: Option<fn() -> anyhow::Result<memory::Sample>>,
}

impl Contestant {
    const fn node<N>() -> Self
    where
        N: Node<Message: Filled>,
    {
        Self {
            name: N::NAME,
            throughput: |runtime, senders, len| {
                let message = N::Message::filled(len.min(N::LONGEST));
                runtime.block_on(scenario::throughput::<N>(senders, message, WINDOW))
            },
            ping: |runtime| runtime.block_on(scenario::ping::<N>(PING_LEN, PINGS)),
            connect: if N::CONNECTS {
                Some(|runtime| runtime.block_on(scenario::connect::<N>(CONNECTS)))
            } else {
                None
            },
            memory: if N::CONNECTS {
                Some(|| memory::sample::<N>(CONNECTIONS, false, || 0))
            } else {
                None
            },
        }
    }
}

static CONTESTANTS: [Contestant; 11] = [
    Contestant::node::<Floor>(),
    Contestant {
        name: hand::NAME,
        throughput: |_, senders, len| hand::throughput(senders, len, WINDOW),
        ping: |runtime| hand::ping(runtime, PING_LEN, PINGS),
        connect: Some(|runtime| hand::connect(runtime, CONNECTS)),
        memory: None,
    },
    Contestant::node::<Tls>(),
    Contestant::node::<Noise>(),
    Contestant::node::<Ours>(),
    Contestant::node::<OurWebSocket>(),
    Contestant::node::<Framed>(),
    Contestant::node::<WebSocket>(),
    Contestant::node::<Quic>(),
    Contestant::node::<Chitchat<PlainUdp>>(),
    Contestant::node::<Chitchat<OurTcp>>(),
];

#[derive(Serialize)]
struct Results {
    table: Samples,
    cpu: Samples,
    /// Chitchat's own messages.
    messages: Samples,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [CHILD, name, ..] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        let peer = CONTESTANTS.iter().find(|peer| peer.name == name);
        let sample = peer.and_then(|peer| peer.memory).context("no such peer")?;
        println!("{}", serde_json::to_string(&sample()?)?);
        return Ok(());
    }
    let options = options(args)?;
    let peers: Vec<_> = CONTESTANTS
        .iter()
        .filter(|peer| peer.name == Floor::NAME || wanted(peer.name, options.only.as_ref()))
        .collect();
    let names = || peers.iter().map(|peer| peer.name);
    let mut results = Results {
        table: Samples::new(names()),
        cpu: Samples::new(names()),
        messages: Samples::new(names()),
    };
    let runtime = scenario::runtime()?;
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        let mut run = Run {
            peers: &peers,
            options: &options,
            runtime: &runtime,
            round,
            results: &mut results,
        };
        run.throughputs()?;
        run.pings()?;
        run.connects()?;
        run.memory()?;
        run.messages()?;
    }
    print(&results)
}

fn print(results: &Results) -> anyhow::Result<()> {
    let floor = Floor::NAME;
    println!(
        "Ratio to the floor of the same round, median (least..most); for messages per second more \
         is better, for times and memory less:\n\n{}\n",
        results.table.ratios(floor)
    );
    println!("Absolute:\n\n{}\n", results.table.medians());
    println!(
        "CPU time of all cores per message:\n\n{}\n",
        results.cpu.medians()
    );
    println!(
        "Chitchat's own messages, ratio to the floor with as many bytes:\n\n{}\n",
        results.messages.ratios(floor)
    );
    println!("wrote {}", write_json("transport", results)?.display());
    Ok(())
}

/// One round.
struct Run<'a> {
    peers: &'a [&'static Contestant],
    options: &'a Options,
    runtime: &'a Runtime,
    round: usize,
    results: &'a mut Results,
}

impl Run<'_> {
    fn throughputs(&mut self) -> anyhow::Result<()> {
        for (senders, len, column) in FLOWS {
            for peer in self.turns(column) {
                let sample = (peer.throughput)(self.runtime, senders, len)?;
                let (rate, cpu) = (sample.per_second, sample.cpu_ns);
                self.results
                    .table
                    .add(column, Unit::PerSecond, peer.name, rate);
                self.results.cpu.add(column, Unit::Nanos, peer.name, cpu);
            }
        }
        Ok(())
    }

    fn pings(&mut self) -> anyhow::Result<()> {
        for peer in self.turns("ping") {
            let trips = (peer.ping)(self.runtime)?;
            for (column, share) in [("ping p50", 0.5), ("ping p99", 0.99)] {
                let trip = quantile(&trips, share);
                self.results
                    .table
                    .add(column, Unit::Micros, peer.name, trip);
            }
        }
        Ok(())
    }

    fn connects(&mut self) -> anyhow::Result<()> {
        for peer in self.turns("connect") {
            if let Some(connect) = peer.connect {
                let time = median(&connect(self.runtime)?);
                self.results
                    .table
                    .add("connect", Unit::Micros, peer.name, time);
            }
        }
        Ok(())
    }

    fn memory(&mut self) -> anyhow::Result<()> {
        for peer in self.turns("idle memory") {
            if peer.memory.is_some() {
                let sample = memory::in_child(peer.name, CONNECTIONS, false)?;
                let bytes = sample.idle[RESIDENT];
                self.results
                    .table
                    .add("idle memory", Unit::Bytes, peer.name, bytes);
            }
        }
        Ok(())
    }

    /// Chitchat's own messages, encoded by `send` and decoded by `recv`, beside the floor with as
    /// many bytes.
    fn messages(&mut self) -> anyhow::Result<()> {
        let messages = [
            ("Syn of 100 nodes, V0", typed::syn(ProtocolVersion::V0, 100)),
            ("Syn of 100 nodes, V1", typed::syn(ProtocolVersion::V1, 100)),
            ("Ack of 50 keys", typed::ack(50)),
        ];
        for (name, message) in messages {
            if !wanted(name, self.options.columns.as_ref()) {
                continue;
            }
            let len = message.clone().into_bytes()?.len();
            let column = format!("{name} ({len} B)");
            let floor = scenario::throughput::<Floor>(1, Bytes::filled(len), WINDOW);
            let ours = scenario::throughput::<Ours<ChitchatMessage>>(1, message, WINDOW);
            for (peer, sample) in [
                (Floor::NAME, self.runtime.block_on(floor)?),
                (Ours::<Bytes>::NAME, self.runtime.block_on(ours)?),
            ] {
                self.results
                    .messages
                    .add(&column, Unit::PerSecond, peer, sample.per_second);
            }
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

struct Options {
    rounds: usize,
    only: Option<String>,
    columns: Option<String>,
}

fn options(args: Vec<String>) -> anyhow::Result<Options> {
    let mut options = Options {
        rounds: 5,
        only: None,
        columns: None,
    };
    for pair in pairs(args) {
        let (name, value) = pair?;
        match name.as_str() {
            "--rounds" => options.rounds = value.parse()?,
            "--only" => options.only = Some(value),
            "--columns" => options.columns = Some(value),
            _ => anyhow::bail!("{name}: unknown"),
        }
    }
    Ok(options)
}
