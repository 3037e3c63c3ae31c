//! Medians, ratios, tables, and the order in which peers take turns.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

/// Returns the median of `values`, or NaN if there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
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

/// Returns the smallest of `values` that is at least as large as `share` of them (0.99 for p99), or
/// NaN if there are none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    let quantile = values.get(rank.saturating_sub(1)).or(values.last());
    quantile.copied().unwrap_or(f64::NAN)
}

/// Returns the order in which `count` peers are measured in a round.
///
/// The order is a zigzag (first, last, second, last but one, ...) that each round shifts by one, as
/// in a Williams design: every peer has each place once in `count` rounds, and its predecessors
/// change from round to round.
pub fn order(count: usize, round: usize) -> Vec<usize> {
    (0..count)
        .map(|place| {
            let half = place.div_ceil(2);
            let zigzag = if place % 2 == 0 { half } else { count - half };
            (zigzag + round) % count
        })
        .collect()
}

/// The unit of the samples of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Events per second.
    PerSecond,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
    /// Bytes.
    Bytes,
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Self::PerSecond if value >= 1e6 => format!("{} M/s", digits(value / 1e6)),
            Self::PerSecond if value >= 1e3 => format!("{} k/s", digits(value / 1e3)),
            Self::PerSecond => format!("{}/s", digits(value)),
            Self::Micros => format!("{} us", digits(value)),
            Self::Nanos => format!("{} ns", digits(value)),
            Self::Bytes => format!("{} KiB", digits(value / 1024.0)),
        }
    }
}

/// Returns `value` with three significant digits.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0..0.095 => format!("{value:.3}"),
        0.095..9.995 => format!("{value:.2}"),
        9.995..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The samples of a run: for each column and peer, one for each round.
#[derive(Debug, Default, Serialize)]
pub struct Samples {
    columns: Vec<(String, Unit)>,
    peers: Vec<String>,
    samples: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

impl Samples {
    /// Returns a table with a row for each of `peers`, in this order. Peers that are not among them
    /// follow in the order of their first samples.
    pub fn new(peers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            peers: peers.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Adds one round's sample.
    pub fn add(&mut self, column: &str, unit: Unit, peer: &str, sample: f64) {
        if !self.columns.iter().any(|(known, _)| known == column) {
            self.columns.push((column.to_owned(), unit));
        }
        if !self.peers.iter().any(|known| known == peer) {
            self.peers.push(peer.to_owned());
        }
        let by_peer = self.samples.entry(column.to_owned()).or_default();
        by_peer.entry(peer.to_owned()).or_default().push(sample);
    }

    /// Returns the samples of a peer, one for each round.
    pub fn of(&self, column: &str, peer: &str) -> Option<&[f64]> {
        Some(self.samples.get(column)?.get(peer)?)
    }

    /// Returns the ratios of a peer to `base`, one for each round.
    pub fn ratios_of(&self, column: &str, peer: &str, base: &str) -> Option<Vec<f64>> {
        let rounds = self.of(column, peer)?.iter().zip(self.of(column, base)?);
        Some(rounds.map(|(sample, base)| sample / base).collect())
    }

    /// Returns a Markdown table of ratios to `base` within the same round: the median of the rounds
    /// and the spread. The first row has the absolute figures of `base`.
    pub fn ratios(&self, base: &str) -> String {
        let first = format!("{base}, absolute");
        let others = self.peers.iter().filter(|peer| *peer != base);
        let rows: Vec<_> = std::iter::once(&first).chain(others).collect();
        self.table(&rows, |column, unit, peer| {
            if peer == first {
                return with_spread(self.of(column, base)?, |value| unit.text(value));
            }
            with_spread(&self.ratios_of(column, peer, base)?, digits)
        })
    }

    /// Returns a Markdown table of absolute figures: the median of the rounds and the spread.
    pub fn medians(&self) -> String {
        let rows: Vec<_> = self.peers.iter().collect();
        self.table(&rows, |column, unit, peer| {
            with_spread(self.of(column, peer)?, |value| unit.text(value))
        })
    }

    fn table(&self, rows: &[&String], cell: impl Fn(&str, Unit, &str) -> Option<String>) -> String {
        let mut table = String::from("|");
        for (column, _) in &self.columns {
            let _ = write!(table, " | {column}");
        }
        table.push_str(" |\n|---|");
        table.push_str(&"--:|".repeat(self.columns.len()));
        for peer in rows {
            let cells: Vec<_> = self
                .columns
                .iter()
                .map(|(column, unit)| cell(column, *unit, peer))
                .collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(table, "\n| {peer} |");
            for cell in cells {
                let _ = write!(table, " {} |", cell.as_deref().unwrap_or("-"));
            }
        }
        table
    }
}

/// Returns the median and, of more than one value, the least and the most of them.
fn with_spread(values: &[f64], text: impl Fn(f64) -> String) -> Option<String> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    let most = values.iter().copied().max_by(f64::total_cmp)?;
    let median = text(median(values));
    Some(if values.len() > 1 {
        format!("{median} ({}..{})", text(least), text(most))
    } else {
        median
    })
}

/// Writes `value` to `target/bench/<name>.json` and returns the path.
pub fn write_json(name: &str, value: &impl Serialize) -> anyhow::Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(name).with_extension("json");
    std::fs::write(&path, serde_json::to_vec_pretty(value)?)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut samples = Samples::new(["floor", "peer"]);
        for (floor, peer) in [(10.0, 5.0), (20.0, 10.0), (1000.0, 400.0)] {
            samples.add("64 B", Unit::PerSecond, "floor", floor);
            samples.add("64 B", Unit::PerSecond, "peer", peer);
        }
        let table = samples.ratios("floor");
        assert_eq!(
            table,
            "| | 64 B |\n|---|--:|\n\
             | floor, absolute | 20.0/s (10.0/s..1.00 k/s) |\n\
             | peer | 0.50 (0.40..0.50) |"
        );
    }

    #[test]
    fn every_peer_has_every_place_once() {
        for count in 1..12 {
            for place in 0..count {
                let mut peers: Vec<_> = (0..count).map(|n| order(count, n)[place]).collect();
                peers.sort_unstable();
                assert_eq!(peers, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn no_peer_follows_the_same_one_in_most_rounds() {
        for count in 5..12 {
            let mut pairs: HashMap<_, u32> = HashMap::new();
            for round in 0..5 {
                for pair in order(count, round).windows(2) {
                    *pairs.entry((pair[0], pair[1])).or_default() += 1;
                }
            }
            assert!(pairs.values().all(|times| *times <= 2), "{count}");
        }
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<_> = (1..=200).map(f64::from).collect();
        assert!((quantile(&values, 0.99) - 198.0).abs() < f64::EPSILON);
        assert!((quantile(&values, 1.0) - 200.0).abs() < f64::EPSILON);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
