//! Measures the memory of connections, both ends together, beside the floor and the peers: while
//! they are idle, and again after a burst of messages.
//!
//! `memory [--peers transport|tls] [--rounds N] [--connections N] [--only TEXT]`: `--peers` names the
//! program with whose peers the memory is measured, `transport` by default. The floor is always
//! measured; `--only` chooses the others by their names. `gossip_benches::memory` describes how it is
//! measured.

use anyhow::Context as _;
use gossip_benches::memory::{ALLOCATED, CHILD, CONNECTIONS, RESIDENT, Sample, in_child, sample};
use gossip_benches::options::pairs;
use gossip_benches::peer::Node as _;
use gossip_benches::peers::{
    Floor, Framed, Noise, OurTls, OurWebSocket, OurWss, OurWssAes, Ours, Quic, Tls, TlsFrames,
    TlsWebSocket, WebSocket,
};
use gossip_benches::report::{Samples, Unit, order, write_json};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

type Sampler = fn(usize, bool, fn() -> u64) -> anyhow::Result<Sample>;

type Peers = &'static [(&'static str, Sampler)];

/// The peers of the program `transport` that have connections.
const TRANSPORT: Peers = &[
    (Floor::NAME, sample::<Floor>),
    (Tls::NAME, sample::<Tls>),
    (Noise::NAME, sample::<Noise>),
    (Ours::<bytes::Bytes>::NAME, sample::<Ours>),
    (OurWebSocket::NAME, sample::<OurWebSocket>),
    (Framed::NAME, sample::<Framed>),
    (WebSocket::NAME, sample::<WebSocket>),
    (Quic::NAME, sample::<Quic>),
];

/// The peers of the program `tls`.
const TLS: Peers = &[
    (Floor::NAME, sample::<Floor>),
    (Ours::<bytes::Bytes>::NAME, sample::<Ours>),
    (OurTls::NAME, sample::<OurTls>),
    (TlsFrames::NAME, sample::<TlsFrames>),
    (OurWebSocket::NAME, sample::<OurWebSocket>),
    (OurWss::NAME, sample::<OurWss>),
    (OurWssAes::NAME, sample::<OurWssAes>),
    (TlsWebSocket::NAME, sample::<TlsWebSocket>),
];

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [CHILD, name, connections, burst] =
        args.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        let mut peers = TRANSPORT.iter().chain(TLS);
        let sampler = peers.find(|(known, _)| *known == name);
        let (_, sampler) = sampler.context("an unknown peer")?;
        let allocated = || ALLOCATOR.current_usage() as u64;
        let sample = sampler(connections.parse()?, burst.parse()?, allocated)?;
        println!("{}", serde_json::to_string(&sample)?);
        return Ok(());
    }
    let options = options(args)?;
    let peers: Vec<_> = options
        .peers
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| {
            *name == Floor::NAME || options.only.as_ref().is_none_or(|text| name.contains(text))
        })
        .collect();
    let mut samples = Samples::new(peers.iter().copied());
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for index in order(peers.len(), round) {
            let name = peers[index];
            let Sample { idle, after_burst } = in_child(name, options.connections, true)?;
            for (column, value) in [
                ("allocated", idle[ALLOCATED]),
                ("allocated after a burst", after_burst[ALLOCATED]),
                ("resident", idle[RESIDENT]),
                ("resident after a burst", after_burst[RESIDENT]),
            ] {
                samples.add(column, Unit::Bytes, name, value);
            }
        }
    }
    println!(
        "Memory of a connection, both ends, ratio to the floor of the same round (less is better), \
         median (least..most):\n\n{}\n",
        samples.ratios(Floor::NAME)
    );
    println!("Absolute:\n\n{}\n", samples.medians());
    println!("wrote {}", write_json(options.file, &samples)?.display());
    Ok(())
}

struct Options {
    peers: Peers,
    /// The name of the file of results.
    file: &'static str,
    rounds: usize,
    connections: usize,
    only: Option<String>,
}

fn options(args: Vec<String>) -> anyhow::Result<Options> {
    let mut options = Options {
        peers: TRANSPORT,
        file: "memory",
        rounds: 3,
        connections: CONNECTIONS,
        only: None,
    };
    for pair in pairs(args) {
        let (name, value) = pair?;
        match name.as_str() {
            "--peers" => {
                (options.peers, options.file) = match value.as_str() {
                    "transport" => (TRANSPORT, "memory"),
                    "tls" => (TLS, "memory-tls"),
                    _ => anyhow::bail!("--peers must be transport or tls"),
                };
            }
            "--rounds" => options.rounds = value.parse()?,
            "--connections" => options.connections = value.parse()?,
            "--only" => options.only = Some(value),
            _ => anyhow::bail!("{name}: unknown"),
        }
    }
    Ok(options)
}
