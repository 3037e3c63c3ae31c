//! Measures how long a change on one member takes to reach all others, in a cluster of this crate
//! and in one of upstream's, how much both send while nothing changes, and how long it takes until all members of this
//! crate have seen that one leaves, which has joined beside the others before. Upstream has no such message.
//!
//! `spread [--members N] [--sets N] [--leaves N] [--seeds N] [--svg FILE]`: both clusters live in one process
//! and take turns. Times are exact to about 2 ms, since the members are checked every millisecond.

use std::time::{Duration, Instant};

use gossip_benches::clusters::{
    self, Cluster, OurCluster, UpstreamCluster, Version, bytes_at_rest, time_to_everyone,
};
use gossip_benches::curve;
use gossip_benches::options::pairs;
use gossip_benches::report::{median, quantile, write_json};
use serde_json::json;

const REST: Duration = Duration::from_secs(10);
/// The number of members that join at a time, to leave one after the other.
const TOGETHER: usize = 10;

struct Options {
    members: usize,
    sets: usize,
    leaves: usize,
    seeds: u64,
    svg: Option<String>,
}

#[derive(Default)]
struct Measured {
    times: Vec<f64>,
    bytes: Vec<f64>,
    start: Vec<f64>,
    leaves: Vec<f64>,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let options = options()?;
    let mut rows = String::new();
    let mut leaves = String::new();
    let mut results = Vec::new();
    let mut curves = Vec::new();
    for version in [Version::V0, Version::V1] {
        let (mut ours, mut theirs) = (Measured::default(), Measured::default());
        for seed in 0..options.seeds {
            eprintln!("{version:?}, seed {} of {}", seed + 1, options.seeds);
            measure(&options, version, seed, &mut ours, &mut theirs).await?;
        }
        for (name, measured) in [(OurCluster::NAME, ours), (UpstreamCluster::NAME, theirs)] {
            if !measured.leaves.is_empty() {
                leaves.push_str(&left(&format!("{name}, {version:?}"), &measured.leaves));
            }
            rows.push_str(&row(&format!("{name}, {version:?}"), &measured));
            results.push(json!({
                "cluster": name, "version": format!("{version:?}"), "members": options.members,
                "times_ms": measured.times, "bytes_at_rest": measured.bytes, "cold_start_s": measured.start,
                "leaves_ms": measured.leaves,
            }));
            if version == Version::V0 {
                curves.push((name.to_owned(), measured.times));
            }
        }
    }
    println!(
        "{} members, {} changes:\n\n| | p50 | p90 | p99 | max | bytes per member and second at rest | cold start |\n\
         |---|--:|--:|--:|--:|--:|--:|\n{rows}",
        options.members,
        options.sets * options.seeds as usize,
    );
    if !leaves.is_empty() {
        println!(
            "Until all have seen that a member leaves:\n\n| | p50 | p90 | p99 | max |\n|---|--:|--:|--:|--:|\n{leaves}"
        );
    }
    if let Some(path) = &options.svg {
        let title = format!(
            "One change, {} members on one machine, rounds of 1 s",
            options.members
        );
        std::fs::write(path, curve::draw(&title, &curves))?;
        println!("drew {path}");
    }
    println!("wrote {}", write_json("spread", &results)?.display());
    Ok(())
}

async fn measure(
    options: &Options,
    version: Version,
    seed: u64,
    ours: &mut Measured,
    theirs: &mut Measured,
) -> anyhow::Result<()> {
    let members = options.members;
    let mut our_cluster = start::<OurCluster>(members, version, ours).await?;
    let their_cluster = start::<UpstreamCluster>(members, version, theirs).await?;
    // At the same time, since neither disturbs the other while nothing changes.
    let (our_bytes, their_bytes) = tokio::join!(
        bytes_at_rest(&our_cluster, members, REST),
        bytes_at_rest(&their_cluster, members, REST),
    );
    ours.bytes.push(our_bytes);
    theirs.bytes.push(their_bytes);
    let mut rng = fastrand::Rng::with_seed(seed);
    for n in 0..options.sets {
        let (member, value) = (rng.usize(0..members), format!("value-{n}"));
        let time = time_to_everyone(&our_cluster, member, &value).await?;
        ours.times.push(time.as_secs_f64() * 1e3);
        let time = time_to_everyone(&their_cluster, member, &value).await?;
        theirs.times.push(time.as_secs_f64() * 1e3);
        // Changes must fall at all moments of a round.
        tokio::time::sleep(Duration::from_millis(rng.u64(0..1000))).await;
    }
    for n in 0..options.leaves {
        if n % TOGETHER == 0 {
            our_cluster.grow(TOGETHER.min(options.leaves - n)).await?;
        }
        let time = our_cluster.leave().await?;
        ours.leaves.push(time.as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(rng.u64(0..1000))).await;
    }
    Ok(())
}

async fn start<C: Cluster>(
    members: usize,
    version: Version,
    measured: &mut Measured,
) -> anyhow::Result<C> {
    let begin = Instant::now();
    let cluster = C::start(members, version).await?;
    let took = clusters::complete(&cluster, begin).await?;
    measured.start.push(took.as_secs_f64());
    Ok(cluster)
}

fn left(name: &str, times: &[f64]) -> String {
    let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|share| quantile(times, share));
    format!("| {name} | {p50:.0} ms | {p90:.0} ms | {p99:.0} ms | {max:.0} ms |\n")
}

fn row(name: &str, measured: &Measured) -> String {
    let quantile = |share| quantile(&measured.times, share);
    format!(
        "| {name} | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} | {:.1} s |\n",
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(1.0),
        median(&measured.bytes),
        median(&measured.start),
    )
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        members: 100,
        sets: 40,
        leaves: 20,
        seeds: 3,
        svg: None,
    };
    for pair in pairs(std::env::args().skip(1)) {
        let (name, value) = pair?;
        match name.as_str() {
            "--members" => options.members = value.parse()?,
            "--sets" => options.sets = value.parse()?,
            "--leaves" => options.leaves = value.parse()?,
            "--seeds" => options.seeds = value.parse()?,
            "--svg" => options.svg = Some(value),
            _ => anyhow::bail!("{name}: unknown"),
        }
    }
    Ok(options)
}
