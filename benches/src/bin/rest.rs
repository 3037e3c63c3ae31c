//! Measures what a cluster costs while nothing changes, and what one change costs on top of that:
//! CPU time, packets, bytes and messages, of this crate and of upstream.
//!
//! `rest [--members N] [--rounds N] [--sets N] [--settle SECONDS] [--only TEXT]`: each cluster lives in a process of its
//! own with a network namespace of its own, one after another. It settles for 90 s, in which almost all
//! members have met. It is then measured for 20 s at rest, with one change per second while nobody
//! looks, for 20 s at rest again, and at last with one change per second while the time is measured
//! until all members have it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use gossip_benches::clusters::{
    self, Cluster, OurCluster, UpstreamCluster, Version, time_to_everyone,
};
use gossip_benches::namespace::{Place, carried};
use gossip_benches::options::pairs;
use gossip_benches::process::{cpu_times, raise_descriptors};
use gossip_benches::report::{median, order, quantile, write_json};
use serde::{Deserialize, Serialize};

/// The argument that makes this program measure one cluster in its own process.
const CHILD: &str = "--measure-cluster";
const CLUSTERS: [&str; 3] = ["ours", "upstream V0", "upstream V1"];
const REST: Duration = Duration::from_secs(20);
const BETWEEN_CHANGES: Duration = Duration::from_secs(1);

/// What a cluster has taken in some time, or takes per second.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Cost {
    user_ms: f64,
    system_ms: f64,
    packets: f64,
    wire_bytes: f64,
    messages: f64,
    message_bytes: f64,
}

/// The measurements of one cluster in one round.
#[derive(Debug, Serialize, Deserialize)]
struct Sample {
    /// Per second, of all members together.
    rest: Cost,
    /// Of one change, in addition to rest.
    change: Cost,
    /// The time until all members have a change.
    times_ms: Vec<f64>,
}

struct Options {
    members: usize,
    rounds: usize,
    sets: usize,
    /// Time between the first moment at which all members know each other and the measurement.
    settle: Duration,
    only: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let (child, options) = match args.as_slice() {
        [first, name, rest @ ..] if first == CHILD => (Some(name.clone()), options(rest)?),
        all => (None, options(all)?),
    };
    if let Some(name) = child {
        let sample = in_this_process(&name, &options)?;
        println!("{}", serde_json::to_string(&sample)?);
        return Ok(());
    }
    let place = Place::find();
    if !place.is_separate() {
        println!("No network namespace can be made, which takes root: packets are not measured.\n");
    }
    let names: Vec<_> = CLUSTERS
        .into_iter()
        .filter(|name| options.only.as_ref().is_none_or(|text| name.contains(text)))
        .collect();
    let mut samples: Vec<_> = names.iter().map(|name| (*name, Vec::new())).collect();
    for round in 0..options.rounds {
        for index in order(names.len(), round) {
            eprintln!(
                "round {} of {}: {}",
                round + 1,
                options.rounds,
                names[index]
            );
            samples[index]
                .1
                .push(in_child(place, names[index], &options)?);
        }
    }
    print(&options, place, &samples);
    println!("wrote {}", write_json("rest", &samples)?.display());
    Ok(())
}

fn in_child(place: Place, name: &str, options: &Options) -> anyhow::Result<Sample> {
    let output = place
        .this_program()?
        .args([CHILD, name, "--members", &options.members.to_string()])
        .args(["--sets", &options.sets.to_string()])
        .args(["--settle", &options.settle.as_secs().to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "{name}: no sample");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn in_this_process(name: &str, options: &Options) -> anyhow::Result<Sample> {
    // Both ends of a connection between any two members, and some more.
    raise_descriptors((options.members * options.members) as u64 + 1000)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match name {
        "ours" => runtime.block_on(measure::<OurCluster>(options, Version::V0)),
        "upstream V0" => runtime.block_on(measure::<UpstreamCluster>(options, Version::V0)),
        "upstream V1" => runtime.block_on(measure::<UpstreamCluster>(options, Version::V1)),
        _ => anyhow::bail!("{name}: unknown"),
    }
}

async fn measure<C: Cluster>(options: &Options, version: Version) -> anyhow::Result<Sample> {
    let (members, sets) = (options.members, options.sets);
    let begin = Instant::now();
    let cluster = C::start(members, version).await?;
    clusters::complete(&cluster, begin).await?;
    tokio::time::sleep(options.settle).await;
    let rest_before = at_rest(&cluster).await?;

    let mut rng = fastrand::Rng::with_seed(1);
    let (begin, before) = Cost::at_begin(&cluster)?;
    for n in 0..sets {
        cluster
            .set(rng.usize(0..members), &format!("unseen-{n}"))
            .await?;
        tokio::time::sleep(BETWEEN_CHANGES).await;
    }
    let (seconds, after) = (begin.elapsed().as_secs_f64(), Cost::at_end(&cluster)?);
    // Both, since what happens at rest may still change.
    let rest_after = at_rest(&cluster).await?;
    let rest = rest_before.combine(rest_after, f64::midpoint);
    let change = after
        .without(before)
        .without(rest.per(1.0 / seconds))
        .per(sets as f64);

    let mut times_ms = Vec::with_capacity(sets);
    for n in 0..sets {
        let (member, value) = (rng.usize(0..members), format!("seen-{n}"));
        let time = time_to_everyone(&cluster, member, &value).await?;
        times_ms.push(time.as_secs_f64() * 1e3);
        // Changes must fall at all moments of a round.
        tokio::time::sleep(BETWEEN_CHANGES.mul_f64(0.5 + rng.f64())).await;
    }
    Ok(Sample {
        rest,
        change,
        times_ms,
    })
}

/// Returns what the cluster takes per second.
async fn at_rest(cluster: &impl Cluster) -> anyhow::Result<Cost> {
    let (begin, before) = Cost::at_begin(cluster)?;
    tokio::time::sleep(REST).await;
    let (seconds, after) = (begin.elapsed().as_secs_f64(), Cost::at_end(cluster)?);
    Ok(after.without(before).per(seconds))
}

impl Cost {
    /// Returns what this process, which holds all members, has taken so far, and the time. Both are those after the
    /// counters were read, which takes CPU time, too.
    fn at_begin(cluster: &impl Cluster) -> anyhow::Result<(Instant, Self)> {
        let cost = Self::counters(cluster)?.with_times(cpu_times()?);
        Ok((Instant::now(), cost))
    }

    /// Returns what this process, which holds all members, has taken so far, before the counters were read.
    fn at_end(cluster: &impl Cluster) -> anyhow::Result<Self> {
        let times = cpu_times()?;
        Ok(Self::counters(cluster)?.with_times(times))
    }

    /// Returns all but the CPU time.
    fn counters(cluster: &impl Cluster) -> anyhow::Result<Self> {
        let carried = carried()?;
        Ok(Self {
            packets: carried.packets as f64,
            wire_bytes: carried.bytes as f64,
            messages: cluster.sent_messages() as f64,
            message_bytes: cluster.sent_bytes() as f64,
            ..Self::default()
        })
    }

    fn with_times(self, [user, system]: [f64; 2]) -> Self {
        Self {
            user_ms: user * 1e3,
            system_ms: system * 1e3,
            ..self
        }
    }

    fn without(self, other: Self) -> Self {
        self.combine(other, |a, b| a - b)
    }

    fn per(self, count: f64) -> Self {
        self.combine(self, |a, _| a / count)
    }

    fn combine(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            user_ms: f(self.user_ms, other.user_ms),
            system_ms: f(self.system_ms, other.system_ms),
            packets: f(self.packets, other.packets),
            wire_bytes: f(self.wire_bytes, other.wire_bytes),
            messages: f(self.messages, other.messages),
            message_bytes: f(self.message_bytes, other.message_bytes),
        }
    }
}

fn print(options: &Options, place: Place, samples: &[(&str, Vec<Sample>)]) {
    let members = options.members as f64;
    let number = |value: f64| format!("{value:.1}");
    let on_wire = |value: f64, digits: usize| {
        if place.is_separate() {
            format!("{value:.digits$}")
        } else {
            "-".to_owned()
        }
    };
    println!(
        "{members} members at rest, medians of {} rounds:\n\n\
         | | CPU of all members per second (user + system) | packets per member and second \
         | kB per member and second on the wire | messages per member and second \
         | kB of messages per member and second |\n|---|--:|--:|--:|--:|--:|",
        options.rounds
    );
    for (name, samples) in samples {
        let of = |field: fn(&Cost) -> f64| {
            median(&samples.iter().map(|s| field(&s.rest)).collect::<Vec<_>>())
        };
        println!(
            "| {} | {:.0} ms ({:.0} + {:.0}) | {} | {} | {} | {} |",
            title(name),
            of(|cost| cost.user_ms + cost.system_ms),
            of(|cost| cost.user_ms),
            of(|cost| cost.system_ms),
            on_wire(of(|cost| cost.packets) / members, 1),
            on_wire(of(|cost| cost.wire_bytes) / members / 1e3, 1),
            number(of(|cost| cost.messages) / members),
            number(of(|cost| cost.message_bytes) / members / 1e3),
        );
    }
    println!(
        "\nOne change, in addition to rest, {} changes:\n\n\
         | | CPU of all members | packets | kB on the wire | messages | kB of messages \
         | all members have it, p50 | p99 |\n|---|--:|--:|--:|--:|--:|--:|--:|",
        options.rounds * options.sets
    );
    for (name, samples) in samples {
        let of = |field: fn(&Cost) -> f64| {
            median(&samples.iter().map(|s| field(&s.change)).collect::<Vec<_>>())
        };
        let times: Vec<_> = samples.iter().flat_map(|s| s.times_ms.clone()).collect();
        println!(
            "| {} | {:.1} ms | {} | {} | {:.0} | {:.0} | {:.1} ms | {:.1} ms |",
            title(name),
            of(|cost| cost.user_ms + cost.system_ms),
            on_wire(of(|cost| cost.packets), 0),
            on_wire(of(|cost| cost.wire_bytes) / 1e3, 0),
            of(|cost| cost.messages),
            of(|cost| cost.message_bytes) / 1e3,
            quantile(&times, 0.5),
            quantile(&times, 0.99),
        );
    }
    println!();
}

fn title(name: &str) -> String {
    match name.strip_prefix("upstream ") {
        Some(version) => format!("{}, {version}", UpstreamCluster::NAME),
        None => format!("**{}**", OurCluster::NAME),
    }
}

fn options(args: &[String]) -> anyhow::Result<Options> {
    let mut options = Options {
        members: 100,
        rounds: 3,
        sets: 40,
        settle: Duration::from_secs(90),
        only: None,
    };
    for pair in pairs(args.iter().cloned()) {
        let (name, value) = pair?;
        match name.as_str() {
            "--members" => options.members = value.parse()?,
            "--rounds" => options.rounds = value.parse()?,
            "--sets" => options.sets = value.parse()?,
            "--settle" => options.settle = Duration::from_secs(value.parse()?),
            "--only" => options.only = Some(value),
            _ => anyhow::bail!("{name}: unknown"),
        }
    }
    Ok(options)
}
