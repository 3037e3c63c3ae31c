//! `cargo xtask size`: reports what a browser downloads, by parts, and fails if it has grown.
//!
//! A size is that of the wasm module plus that of its JavaScript, each after gzip at level 9, as a
//! server sends them. One kB is 1,000 bytes. Invariant: each size is compared with `web/size.json`,
//! which only `--acknowledge` changes, so nothing grows unnoticed. A goal that was once reached is a
//! limit from then on; a goal that is missed is reported in every run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::host::workspace::Workspace;
use crate::wasm::module::{self, Module, Optimisers};
use crate::wasm::parts;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write the sizes to web/size.json, with the reason for them
    #[arg(long, value_name = "REASON")]
    acknowledge: Option<String>,
}

/// A download whose size is checked.
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

/// The growth of a size that is allowed without `--acknowledge`, in percent of the acknowledged
/// size.
const TOLERANCE_PERCENT: usize = 2;

/// The file of the acknowledged sizes.
const FILE: &str = "web/size.json";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledged {
    /// The reason for the sizes.
    reason: String,
    /// Bytes after gzip, wasm and JavaScript together, by the name of the download.
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

/// Builds all downloads, prints their tables, and fails if one is larger than acknowledged.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let sizes = measure(workspace)?;
    compare(workspace, &sizes)
}

/// Returns the bytes after gzip of each of [`DOWNLOADS`].
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
        serde_json::from_str(&text).with_context(|| format!("{FILE} has an unexpected form"))?;
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
        return breach(format!("{size} bytes, but {FILE} has no size for it"));
    };
    if size > goal && known <= goal {
        return breach(format!("{size} bytes, which is above the goal of {goal}"));
    }
    let permille = |more: usize| more.saturating_mul(1000) / known.max(1);
    if size.saturating_sub(known).saturating_mul(100) > known.saturating_mul(TOLERANCE_PERCENT) {
        let more = permille(size - known);
        return breach(format!(
            "{size} bytes, {}.{} % more than the acknowledged {known}. If it is worth it: \
             cargo xtask size --acknowledge \"why\"",
            more / 10,
            more % 10
        ));
    }
    let text = if size > known {
        format!("{size} bytes, {} more than acknowledged", size - known)
    } else if (known - size).saturating_mul(100) > known.saturating_mul(TOLERANCE_PERCENT) {
        format!(
            "{size} bytes, {} less than acknowledged; --acknowledge makes that the new limit",
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
    println!("wrote {FILE}; commit it");
    Ok(())
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.root.join(Path::new(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_of_two_percent_passes_and_a_byte_more_fails() {
        assert!(!verdict(10_200, Some(10_000), 20_000).is_breach);
        assert!(verdict(10_201, Some(10_000), 20_000).is_breach);
        assert!(!verdict(9_000, Some(10_000), 20_000).is_breach);
    }

    #[test]
    fn a_goal_that_was_reached_is_a_limit_from_then_on() {
        assert!(!verdict(20_000, Some(20_000), 20_000).is_breach);
        assert!(verdict(20_001, Some(20_000), 20_000).is_breach);
        // A goal that was never reached is reported as missed, and the size must not grow.
        let missed = verdict(21_000, Some(21_000), 20_000);
        assert!(!missed.is_breach && missed.text.contains("missed by 1000"));
        assert!(verdict(22_000, Some(21_000), 20_000).is_breach);
        assert!(verdict(1, None, 20_000).is_breach);
    }
}
