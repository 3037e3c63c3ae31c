//! The table of the phases, in Markdown.

use std::time::Duration;

use crate::proxy::phase::{LATE_AFTER, LOST_AFTER, Phase};

/// The titles of the columns, in the order of [`cells`].
const HEAD: [&str; 14] = [
    "cluster",
    "changes",
    "p50",
    "p90",
    "max",
    "later than 5 s",
    "lost (20 s)",
    "false deaths at nodes",
    "false deaths at tabs",
    "changes of state at tabs",
    "console errors",
    "of them about the proxy",
    "tabs' dials of unreachable addresses",
    "nodes' failed dials",
];

/// A number in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Count(u64),
    Time(Duration),
    /// The phase has no such number.
    None,
}

/// Returns the table of one or several rounds, each with the same phases. With several rounds a
/// number is the median of them, followed by the least and the most.
pub(crate) fn table(rounds: &[Vec<Phase>]) -> String {
    let mut lines = vec![
        row(&HEAD.map(ToOwned::to_owned)),
        format!("|---{}|", "|--:".repeat(HEAD.len() - 1)),
    ];
    let phases = rounds.iter().map(Vec::len).min().unwrap_or(0);
    for index in 0..phases {
        let same: Vec<_> = rounds.iter().filter_map(|round| round.get(index)).collect();
        let name = same.first().map(|phase| phase.name()).unwrap_or_default();
        let cells: Vec<_> = same.iter().map(|phase| cells(phase)).collect();
        let numbers = (0..HEAD.len() - 1).map(|column| {
            let column = cells.iter().filter_map(|cells| cells.get(column));
            summary(column.copied().collect())
        });
        lines.push(row(&[name].into_iter().chain(numbers).collect::<Vec<_>>()));
    }
    lines.join("\n")
}

fn cells(phase: &Phase) -> [Cell; 13] {
    let time = |percent| phase.percentile(percent).map_or(Cell::None, Cell::Time);
    let of_changes = |count| match phase.spreads.as_slice() {
        [] => Cell::None,
        _ => Cell::Count(count),
    };
    let counts = &phase.counts;
    [
        of_changes(phase.changes()),
        time(50),
        time(90),
        time(100),
        of_changes(phase.late()),
        of_changes(phase.lost()),
        Cell::Count(counts.deaths_at_nodes),
        Cell::Count(counts.deaths_at_tabs),
        Cell::Count(counts.flips_at_tabs),
        Cell::Count(counts.console_errors + counts.proxy_errors),
        Cell::Count(counts.proxy_errors),
        Cell::Count(counts.foreign_dials),
        Cell::Count(counts.failed_node_dials),
    ]
}

/// Returns the text of a cell for the numbers of all rounds.
fn summary(mut numbers: Vec<Cell>) -> String {
    numbers.sort_unstable();
    let median = numbers.get(numbers.len().saturating_sub(1) / 2);
    match (median, numbers.first(), numbers.last()) {
        (Some(median), Some(least), Some(most)) if least == most => text(*median),
        (Some(median), Some(least), Some(most)) => {
            format!("{} ({}..{})", text(*median), text(*least), text(*most))
        }
        _ => String::new(),
    }
}

/// Returns what a reader must know besides the table of one round.
pub(crate) fn notes(phases: &[Phase]) -> String {
    let mut lines: Vec<_> = phases
        .iter()
        .map(|phase| {
            let exact = if phase.spreads.is_empty() {
                String::new()
            } else {
                format!(", times exact to {}", milliseconds(phase.uncertainty))
            };
            let seconds = phase.took.as_secs_f64();
            format!(
                "{}: {seconds:.0} s, load {:.1}{exact}",
                phase.name(),
                phase.load
            )
        })
        .collect();
    let lost = LOST_AFTER.as_secs();
    lines.push(format!(
        "A change that takes {lost} s counts as lost, and as {lost} s in the percentiles. Late are \
         changes that take more than {} s.",
        LATE_AFTER.as_secs()
    ));
    lines.join("\n")
}

fn row(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

fn text(cell: Cell) -> String {
    match cell {
        Cell::Count(count) => thousands(count.into()),
        Cell::Time(time) => milliseconds(time),
        Cell::None => "-".to_owned(),
    }
}

/// Returns a time in milliseconds, rounded up.
fn milliseconds(time: Duration) -> String {
    format!("{} ms", thousands(time.as_micros().div_ceil(1000)))
}

/// Returns a number with a comma after the thousands.
fn thousands(number: u128) -> String {
    if number < 1000 {
        number.to_string()
    } else {
        format!("{},{:03}", thousands(number / 1000), number % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::phase::{Counts, Kind, Start};

    fn phase(millis: u64) -> Phase {
        Phase {
            kind: Kind::Proxied,
            start: Start::Complete,
            nodes: 12,
            tabs: 2,
            took: Duration::from_secs(30),
            spreads: vec![Duration::from_millis(millis)],
            uncertainty: Duration::ZERO,
            counts: Counts::default(),
            load: 0.5,
        }
    }

    #[test]
    fn every_row_has_a_cell_for_every_column() {
        let table = table(&[vec![phase(1), phase(2)]]);
        let columns: Vec<_> = table
            .lines()
            .map(|line| line.matches('|').count())
            .collect();
        assert_eq!(columns, [HEAD.len() + 1; 4]);
        assert!(
            table.contains("| 12 nodes, 2 tabs, proxy | 1 | 2 ms |"),
            "{table}"
        );
    }

    #[test]
    fn several_rounds_are_shown_as_median_least_and_most() {
        let table = table(&[vec![phase(30)], vec![phase(10)], vec![phase(20)]]);
        assert!(table.contains("| 1 | 20 ms (10 ms..30 ms) |"), "{table}");
    }

    #[test]
    fn thousands_of_milliseconds_are_separated() {
        assert_eq!(milliseconds(Duration::from_micros(41_200)), "42 ms");
        assert_eq!(milliseconds(Duration::from_millis(20_005)), "20,005 ms");
    }
}
