//! `cargo xtask size`: what a browser downloads, by parts, held against what was agreed.
//!
//! A size is that of the wasm module and its JavaScript after gzip at level 9, each by itself, as
//! a server sends them. One kB is 1,000 bytes. Invariant: nothing grows unnoticed: each size is
//! compared with `web/size.json`, which only `--acknowledge` changes. A goal that was reached is a
//! limit from then on; one that is still missed is named in every run.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::module::{self, Module, Optimisers};
use crate::parts;
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write the sizes to web/size.json, with the reason why they are as they are
    #[arg(long, value_name = "REASON")]
    acknowledge: Option<String>,
}

/// A download that has a limit.
struct Download {
    name: &'static str,
    module: Module,
    /// In bytes.
    goal: usize,
}

const DOWNLOADS: [Download; 2] = [
    Download {
        name: "participant",
        module: module::PARTICIPANT,
        goal: 150_000,
    },
    Download {
        name: "transport",
        module: module::TRANSPORT,
        goal: 90_000,
    },
];

/// What may be added without a word, in percent of what is acknowledged.
const TOLERANCE_PERCENT: usize = 2;

/// The file of what was agreed.
const FILE: &str = "web/size.json";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledged {
    /// Why the sizes are as they are.
    reason: String,
    /// Bytes after gzip, wasm and JavaScript together.
    bytes: BTreeMap<String, usize>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    let sizes = measure(&workspace)?;
    match &options.acknowledge {
        Some(reason) => acknowledge(&workspace, reason, &sizes),
        None => compare(&workspace, &sizes),
    }
}

/// Builds, prints the tables, and fails if a download is larger than was agreed.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let sizes = measure(workspace)?;
    compare(workspace, &sizes)
}

/// Bytes after gzip of each of `DOWNLOADS`.
fn measure(workspace: &Workspace) -> anyhow::Result<Vec<usize>> {
    let optimisers = Optimisers::ensure()?;
    let mut sizes = Vec::new();
    for download in &DOWNLOADS {
        let folder = workspace.output("size")?.join(download.name);
        let named = download
            .module
            .build(workspace, Some(&optimisers), &folder)?;
        let wasm = module::read(&download.module.wasm(&folder))?;
        let glue = module::read(&download.module.glue(&folder))?;
        println!("\n{} ({})", download.name, download.module.package);
        sizes.push(parts::print(&named, &wasm, &glue)?);
    }
    println!();
    Ok(sizes)
}

fn compare(workspace: &Workspace, sizes: &[usize]) -> anyhow::Result<()> {
    let path = path(workspace);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {FILE}"))?;
    let known: Acknowledged =
        serde_json::from_str(&text).with_context(|| format!("{FILE} is not as expected"))?;
    let mut breaches = Vec::new();
    for (download, size) in DOWNLOADS.iter().zip(sizes) {
        let known = known.bytes.get(download.name).copied();
        let verdict = verdict(*size, known, download.goal);
        println!("{}: {}", download.name, verdict.text);
        if verdict.is_breach {
            breaches.push(format!("{}: {}", download.name, verdict.text));
        }
    }
    if !breaches.is_empty() {
        bail!("{}", breaches.join("; "));
    }
    Ok(())
}

struct Verdict {
    text: String,
    is_breach: bool,
}

fn verdict(size: usize, known: Option<usize>, goal: usize) -> Verdict {
    let breach = |text| Verdict {
        text,
        is_breach: true,
    };
    let Some(known) = known else {
        return breach(format!("{size} bytes, and {FILE} does not know it"));
    };
    if size > goal && known <= goal {
        return breach(format!("{size} bytes are more than the goal of {goal}"));
    }
    let permille = |more: usize| more.saturating_mul(1000) / known.max(1);
    if size.saturating_sub(known).saturating_mul(100) > known.saturating_mul(TOLERANCE_PERCENT) {
        let more = permille(size - known);
        return breach(format!(
            "{size} bytes, {}.{} % more than the {known} that are acknowledged. If it is worth it: \
             cargo xtask size --acknowledge \"why\"",
            more / 10,
            more % 10
        ));
    }
    let text = if size > known {
        format!("{size} bytes, {} more than acknowledged", size - known)
    } else if (known - size).saturating_mul(100) > known.saturating_mul(TOLERANCE_PERCENT) {
        format!(
            "{size} bytes, {} less than acknowledged: --acknowledge keeps it so",
            known - size
        )
    } else {
        format!("{size} bytes, {} less than acknowledged", known - size)
    };
    let text = match size.checked_sub(goal) {
        None | Some(0) => text,
        Some(missing) => format!("{text}; the goal of {goal} is missed by {missing}"),
    };
    Verdict {
        text,
        is_breach: false,
    }
}

fn acknowledge(workspace: &Workspace, reason: &str, sizes: &[usize]) -> anyhow::Result<()> {
    let bytes = DOWNLOADS.iter().zip(sizes);
    let bytes = bytes.map(|(download, size)| (download.name.to_owned(), *size));
    let known = Acknowledged {
        reason: reason.to_owned(),
        bytes: bytes.collect(),
    };
    let mut text = serde_json::to_string_pretty(&known)?;
    text.push('\n');
    fs::write(path(workspace), text).with_context(|| format!("cannot write {FILE}"))?;
    println!("{FILE} is written: commit it");
    Ok(())
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.root.join(Path::new(FILE))
}

/// The number of bytes after gzip at its highest level.
pub(crate) fn gzip_len(bytes: &[u8]) -> anyhow::Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_percent_pass_and_a_byte_more_does_not() {
        assert!(!verdict(10_200, Some(10_000), 20_000).is_breach);
        assert!(verdict(10_201, Some(10_000), 20_000).is_breach);
        assert!(!verdict(9_000, Some(10_000), 20_000).is_breach);
    }

    #[test]
    fn a_goal_that_was_reached_is_not_left_again() {
        assert!(!verdict(20_000, Some(20_000), 20_000).is_breach);
        assert!(verdict(20_001, Some(20_000), 20_000).is_breach);
        // One that was never reached is said to be missed, and the size may not grow either.
        let missed = verdict(21_000, Some(21_000), 20_000);
        assert!(!missed.is_breach && missed.text.contains("missed by 1000"));
        assert!(verdict(22_000, Some(21_000), 20_000).is_breach);
        assert!(verdict(1, None, 20_000).is_breach);
    }
}
