//! What was found about each proxy: a table of texts, some of which say what is wrong.
//!
//! Plain values only.

use std::time::Duration;

use crate::proxy::phase::{LOST_AFTER, limit, percentile};

/// What was found: a text for the table, or what is wrong.
pub(crate) type Check = Result<String, String>;

/// The titles of the columns in the table of times, after the name of the proxy.
pub(crate) const TIMES: &[&str] = &[JOINED, PAGE, P50, P90];
/// The titles of the columns in the table about connections.
pub(crate) const CONNECTIONS: &[&str] = &[
    RELOAD,
    RESTART,
    NODE_LOST,
    SILENT_NODE,
    TRUSTED,
    FORGED,
    UNTRUSTED,
    QUIET,
    WOKEN,
];
pub(crate) const JOINED: &str = "joined after";
pub(crate) const PAGE: &str = "joined from the page of a node after";
const P50: &str = "p50";
const P90: &str = "p90";
pub(crate) const RELOAD: &str = "reload";
pub(crate) const RESTART: &str = "back after a restart";
pub(crate) const NODE_LOST: &str = "back after the loss of a node";
pub(crate) const SILENT_NODE: &str = "joined beside a silent node after";
pub(crate) const TRUSTED: &str = "client, proxy trusted";
pub(crate) const FORGED: &str = "client that states another address";
pub(crate) const UNTRUSTED: &str = "client, proxy not trusted";
pub(crate) const QUIET: &str = "silence survived";
pub(crate) const WOKEN: &str = "change after it";

/// The first row, with which the others are compared.
pub(crate) const DIRECT: &str = "no proxy";

/// A row for each proxy, in the order in which they were first named.
#[derive(Debug, Default)]
pub(crate) struct Sheet(Vec<Row>);

#[derive(Debug)]
struct Row {
    name: &'static str,
    checks: Vec<(&'static str, Check)>,
}

impl Sheet {
    pub(crate) fn put(&mut self, name: &'static str, column: &'static str, check: Check) {
        let check = (column, check);
        match self.0.iter_mut().find(|row| row.name == name) {
            Some(row) => row.checks.push(check),
            None => self.0.push(Row {
                name,
                checks: vec![check],
            }),
        }
    }

    /// Takes the times of changes, by row. Those of [`DIRECT`] are the first. Only the median is compared with its: the
    /// others of a few changes vary too much.
    pub(crate) fn put_times(&mut self, times: &[(&'static str, Vec<Duration>)]) {
        let direct = times.iter().find(|(name, _)| *name == DIRECT);
        let direct = direct.and_then(|(_, times)| percentile(times, 50));
        for (name, times) in times {
            let [p50, p90] = [50, 90].map(|percent| percentile(times, percent).unwrap_or_default());
            let most = limit(direct.unwrap_or_default());
            let lost = times.iter().filter(|time| **time >= LOST_AFTER).count();
            self.put(
                name,
                P50,
                match p50 {
                    slow if *name != DIRECT && slow > most => {
                        Err(format!("{}, more than {}", millis(slow), millis(most)))
                    }
                    fine => Ok(millis(fine)),
                },
            );
            self.put(
                name,
                P90,
                match lost {
                    0 => Ok(millis(p90)),
                    _ => Err(format!("{lost} of {} changes were lost", times.len())),
                },
            );
        }
    }

    /// Returns what is wrong, one sentence each.
    pub(crate) fn broken(&self) -> Vec<String> {
        let checks = self.0.iter().flat_map(|row| {
            let checks = row.checks.iter();
            checks.map(|(column, check)| (row.name, column, check))
        });
        let broken = checks.filter_map(|(name, column, check)| {
            let wrong = check.as_ref().err()?;
            Some(format!("{name}: {column}: {wrong}"))
        });
        broken.collect()
    }

    /// Returns a table with these columns in Markdown.
    pub(crate) fn table(&self, columns: &[&str]) -> String {
        let line = |cells: Vec<&str>| format!("| {} |", cells.join(" | "));
        let mut lines = vec![
            line([&["proxy"][..], columns].concat()),
            format!("|---{}|", "|--:".repeat(columns.len())),
        ];
        for row in &self.0 {
            let cells = columns.iter().map(|title| {
                let mut checks = row.checks.iter().filter(|(column, _)| column == title);
                match checks.next() {
                    Some((_, Ok(text))) => text.as_str(),
                    Some((_, Err(_))) => "**failed**",
                    None => "",
                }
            });
            lines.push(line([row.name].into_iter().chain(cells).collect()));
        }
        lines.join("\n")
    }
}

/// Returns a time for the table.
pub(crate) fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(millis: &[u64]) -> Vec<Duration> {
        millis.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn the_median_may_be_half_as_much_again_as_without_a_proxy_and_no_change_may_be_lost() {
        let broken = |behind: &[u64]| {
            let mut sheet = Sheet::default();
            sheet.put_times(&[(DIRECT, times(&[10, 10, 900])), ("nginx", times(behind))]);
            sheet.broken()
        };
        assert_eq!(broken(&[30, 30, 4_000]), [""; 0]);
        assert_eq!(
            broken(&[31, 31, 31]),
            ["nginx: p50: 31 ms, more than 30 ms"]
        );
        assert_eq!(
            broken(&[30, 30, 20_000]),
            ["nginx: p90: 1 of 3 changes were lost"]
        );
    }

    #[test]
    fn the_table_has_a_row_for_each_proxy_and_says_what_failed() {
        let mut sheet = Sheet::default();
        sheet.put("nginx", RELOAD, Ok("kept".to_owned()));
        sheet.put("Caddy", RESTART, Err("never".to_owned()));
        sheet.put("nginx", JOINED, Ok("5 ms".to_owned()));
        assert!(sheet.table(TIMES).contains("\n| nginx | 5 ms |  |  |  |\n"));
        let table = sheet.table(&[RELOAD, RESTART]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[2], "| nginx | kept |  |");
        assert_eq!(lines[3], "| Caddy |  | **failed** |");
        assert_eq!(sheet.broken(), ["Caddy: back after a restart: never"]);
        let cells = lines.iter().map(|line| line.matches('|').count());
        assert!(cells.eq([4; 4]), "{table}");
    }
}
