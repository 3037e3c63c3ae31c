//! Throughput, latency and the cost of a connection, beside the floor and the peers.
//!
//! `transport [--rounds N] [--only TEXT] [--columns TEXT]`: the floor is always measured, `--only`
//! chooses the others by their names, `--columns` the scenarios.

use std::time::Duration;

use gossip_benches::peer::Node;
use gossip_benches::peers::{
    Chitchat, Floor, Framed, OurTcp, OurWebSocket, Ours, PlainUdp, Quic, Tls, WebSocket,
};
use gossip_benches::report::{Samples, write_json};
use gossip_benches::scenario;
use gossip_benches::typed;
use gossip_transport::message::{ChitchatMessage, ProtocolVersion};
use serde::Serialize;

const WINDOW: Duration = Duration::from_millis(400);
const SIZES: [(usize, &str); 4] = [
    (64, "64 B"),
    (1 << 10, "1 KiB"),
    (16 << 10, "16 KiB"),
    (64 << 10, "64 KiB"),
];
const PINGS: usize = 3000;
const CONNECTIONS: usize = 40;

struct Options {
    rounds: usize,
    only: Option<String>,
    columns: Option<String>,
}

#[derive(Default, Serialize)]
struct Results {
    rates: Samples,
    times: Samples,
    cpu: Samples,
}

fn main() -> anyhow::Result<()> {
    let options = options()?;
    let runtime = scenario::runtime()?;
    let mut results = Results::default();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        let mut run = Run {
            options: &options,
            runtime: &runtime,
            results: &mut results,
        };
        run.node::<Floor>()?;
        run.node::<Ours>()?;
        run.messages()?;
        run.node::<OurWebSocket>()?;
        run.node::<Framed>()?;
        run.node::<Tls>()?;
        run.node::<WebSocket>()?;
        run.node::<Quic>()?;
        run.node::<Chitchat<PlainUdp>>()?;
        run.node::<Chitchat<OurTcp>>()?;
    }
    let floor = Floor::NAME;
    println!(
        "Messages a second, ratio to the floor (more is better):\n\n{}\n",
        results.rates.ratios(floor)
    );
    println!("Messages a second:\n\n{}\n", results.rates.medians());
    println!(
        "Times, ratio to the floor (less is better):\n\n{}\n",
        results.times.ratios(floor)
    );
    println!("Times, us:\n\n{}\n", results.times.medians());
    println!(
        "CPU time of all cores, ns a message:\n\n{}\n",
        results.cpu.medians()
    );
    println!("wrote {}", write_json("transport", &results)?.display());
    Ok(())
}

struct Run<'a> {
    options: &'a Options,
    runtime: &'a tokio::runtime::Runtime,
    results: &'a mut Results,
}

impl Run<'_> {
    fn node<N: Node>(&mut self) -> anyhow::Result<()> {
        let wanted = |name: &str, filter: &Option<String>| {
            filter
                .as_ref()
                .is_none_or(|text| name.contains(text.as_str()))
        };
        if N::NAME != Floor::NAME && !wanted(N::NAME, &self.options.only) {
            return Ok(());
        }
        let columns = &self.options.columns;
        for (len, name) in SIZES {
            if wanted(name, columns) {
                self.throughput::<N>(name, 1, len)?;
            }
        }
        if wanted("8 to 1, 1 KiB", columns) {
            self.throughput::<N>("8 to 1, 1 KiB", 8, 1 << 10)?;
        }
        if wanted("ping p50", columns) {
            let sample = self.runtime.block_on(scenario::ping::<N>(64, PINGS))?;
            self.results.times.add("ping p50", N::NAME, sample);
        }
        if N::CONNECTS && wanted("connect", columns) {
            let sample = self.runtime.block_on(scenario::connect::<N>(CONNECTIONS))?;
            self.results.times.add("connect", N::NAME, sample);
        }
        Ok(())
    }

    /// Chitchat's own messages, beside the floor with as many bytes.
    fn messages(&mut self) -> anyhow::Result<()> {
        let messages: [(&str, ChitchatMessage); 3] = [
            ("Syn of 100 nodes, V0", typed::syn(ProtocolVersion::V0, 100)),
            ("Syn of 100 nodes, V1", typed::syn(ProtocolVersion::V1, 100)),
            ("Ack of 50 keys", typed::ack(50)),
        ];
        for (name, message) in messages {
            if self
                .options
                .columns
                .as_ref()
                .is_some_and(|text| !name.contains(text.as_str()))
            {
                continue;
            }
            let len = typed::bytes(message.clone())?.len();
            let column = format!("{name} ({len} B)");
            self.throughput::<Floor>(&column, 1, len)?;
            let sample = self.runtime.block_on(typed::throughput(message, WINDOW))?;
            self.results
                .rates
                .add(&column, Ours::NAME, sample.per_second);
            self.results.cpu.add(&column, Ours::NAME, sample.cpu_ns);
        }
        Ok(())
    }

    fn throughput<N: Node>(
        &mut self,
        column: &str,
        senders: usize,
        len: usize,
    ) -> anyhow::Result<()> {
        let sample = scenario::throughput::<N>(senders, len, WINDOW);
        let sample = self.runtime.block_on(sample)?;
        self.results.rates.add(column, N::NAME, sample.per_second);
        self.results.cpu.add(column, N::NAME, sample.cpu_ns);
        Ok(())
    }
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        rounds: 5,
        only: None,
        columns: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next();
        match (arg.as_str(), value) {
            ("--rounds", Some(value)) => options.rounds = value.parse()?,
            ("--only", value @ Some(_)) => options.only = value,
            ("--columns", value @ Some(_)) => options.columns = value,
            (arg, _) => anyhow::bail!("{arg}: unknown, or without its value"),
        }
    }
    Ok(options)
}
