//! Measures how the cost of gossip grows with the number of members, beside upstream.
//!
//! `members [N ...]`: all members live in this process and in virtual time. Those of this crate are
//! bare engines, between which every message is encoded and decoded. Those of upstream are whole
//! nodes on its in-memory `ChannelTransport`, on tokio's paused clock: upstream has no engine that
//! can be driven without them. So upstream's CPU time includes its tasks, locks and channels, and the
//! comparison that its transport makes of each message before and after encoding. Bytes and rounds
//! are not affected. Rumours are off, since this is about rounds. Each member has ten keys.
//!
//! Above [`MOST_MEMBERS`] members, only two are run, into which the states of all others are
//! loaded. A round is one exchange then, and convergence is not measured.
//!
//! `members large`: the costs of one engine that knows up to 10,000 live and 10,000 dead members.

mod large;
mod measurement;
mod ours;
mod theirs;

use gossip_benches::clusters::Version;
use gossip_benches::report::write_json;

/// The largest number of members that fit into memory together, as each knows all others.
const MOST_MEMBERS: usize = 1000;

fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("large") {
        let costs = large::print(&[1_250, 2_500, 5_000, 10_000])?;
        println!("\nwrote {}", write_json("members-large", &costs)?.display());
        return Ok(());
    }
    let sizes: Result<Vec<usize>, _> = std::env::args().skip(1).map(|arg| arg.parse()).collect();
    let mut sizes = sizes?;
    if sizes.is_empty() {
        sizes = vec![10, 100, 1000, 5000];
    }
    let mut rows = Vec::new();
    println!(
        "| members | version | engine | bytes per member and round | CPU us per member and round | rounds until all have a change, median (max) |\n\
         |--:|---|---|--:|--:|--:|"
    );
    for members in sizes {
        // Fewer rounds where each takes a long time.
        let measured = if members > 300 { 5 } else { 30 };
        for version in [Version::V0, Version::V1] {
            let fed = members > MOST_MEMBERS;
            let label = if fed {
                format!("2 that know {members}")
            } else {
                members.to_string()
            };
            for row in [
                Some(ours::measure(members, version, measured, fed)?),
                theirs::measure(members, version, measured, fed)?,
            ] {
                let Some(row) = row else {
                    println!("| {label} | {version:?} | chitchat | - | - | never complete |");
                    continue;
                };
                println!(
                    "| {label} | {} | {} | {:.0} | {:.0} | {} |",
                    row.version,
                    row.engine,
                    row.bytes,
                    row.cpu_us,
                    rounds_text(row.rounds.clone()),
                );
                rows.push(row);
            }
        }
    }
    println!("\nwrote {}", write_json("members", &rows)?.display());
    Ok(())
}

fn rounds_text(mut rounds: Vec<u32>) -> String {
    rounds.sort_unstable();
    match rounds.last() {
        Some(last) => format!("{} ({last})", rounds[rounds.len() / 2]),
        None => "-".to_owned(),
    }
}
