//! Medians, ratios and tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

/// The middle of `values`; NaN if there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (
        values.len() % 2,
        values.get(middle),
        values.get(middle.wrapping_sub(1)),
    ) {
        (1, Some(value), _) => *value,
        (_, Some(above), Some(below)) => f64::midpoint(*above, *below),
        _ => f64::NAN,
    }
}

/// The samples of a run: by column and peer, one for each round.
#[derive(Debug, Default, Serialize)]
pub struct Samples {
    columns: Vec<String>,
    peers: Vec<String>,
    samples: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

impl Samples {
    /// Adds one round's sample.
    pub fn add(&mut self, column: &str, peer: &str, sample: f64) {
        if !self.columns.iter().any(|known| known == column) {
            self.columns.push(column.to_owned());
        }
        if !self.peers.iter().any(|known| known == peer) {
            self.peers.push(peer.to_owned());
        }
        let by_peer = self.samples.entry(column.to_owned()).or_default();
        by_peer.entry(peer.to_owned()).or_default().push(sample);
    }

    /// The median of a peer's samples.
    pub fn median(&self, column: &str, peer: &str) -> Option<f64> {
        let samples = self.samples.get(column)?.get(peer)?;
        Some(median(samples.clone()))
    }

    /// The median of the ratios of a peer to `base`, each of one round.
    pub fn ratio(&self, column: &str, peer: &str, base: &str) -> Option<f64> {
        let by_peer = self.samples.get(column)?;
        let ratios = by_peer.get(peer)?.iter().zip(by_peer.get(base)?);
        let ratios: Vec<_> = ratios.map(|(sample, base)| sample / base).collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }

    /// A Markdown table of ratios to `base`.
    pub fn ratios(&self, base: &str) -> String {
        self.table(|column, peer| {
            let ratio = self.ratio(column, peer, base)?;
            Some(if ratio < 0.095 {
                format!("{ratio:.3}")
            } else if ratio < 9.95 {
                format!("{ratio:.2}")
            } else {
                format!("{ratio:.0}")
            })
        })
    }

    /// A Markdown table of medians.
    pub fn medians(&self) -> String {
        self.table(|column, peer| {
            let median = self.median(column, peer)?;
            Some(if median < 10.0 {
                format!("{median:.2}")
            } else if median < 10_000.0 {
                format!("{median:.0}")
            } else if median < 1e6 {
                format!("{:.0} k", median / 1e3)
            } else {
                format!("{:.2} M", median / 1e6)
            })
        })
    }

    fn table(&self, cell: impl Fn(&str, &str) -> Option<String>) -> String {
        let mut table = String::from("|");
        for column in &self.columns {
            let _ = write!(table, " | {column}");
        }
        table.push_str(" |\n|---|");
        table.push_str(&"--:|".repeat(self.columns.len()));
        for peer in &self.peers {
            let _ = write!(table, "\n| {peer} |");
            for column in &self.columns {
                let cell = cell(column, peer).unwrap_or_else(|| "-".to_owned());
                let _ = write!(table, " {cell} |");
            }
        }
        table
    }
}

/// Writes `value` as `target/bench/<name>.json`, for whoever wants to go on from there.
pub fn write_json(name: &str, value: &impl Serialize) -> anyhow::Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(name).with_extension("json");
    std::fs::write(&path, serde_json::to_vec_pretty(value)?)?;
    Ok(path)
}
