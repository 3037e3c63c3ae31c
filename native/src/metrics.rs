//! `/metrics`: the counters in the Prometheus text format, version 0.0.4.
//!
//! Totals only: a label for each peer would grow without bound as tabs come and go.

use std::fmt::Write as _;

use gossip_transport::gossip::{Liveness, Member};
use gossip_transport::transport_layer::{DropCounts, SocketStats};

/// The answer's content type.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole answer.
pub(crate) fn render(members: &[Member], stats: &SocketStats) -> String {
    let mut page = Page(String::new());
    let live = members
        .iter()
        .filter(|member| member.liveness != Liveness::Dead)
        .count();
    let dead = members.len().saturating_sub(live);
    page.metric("gossip_members", "gauge", "Members known, by liveness.");
    page.sample("gossip_members", "state", "live", live as u64);
    page.sample("gossip_members", "state", "dead", dead as u64);

    let total = &stats.total;
    let connections = stats.connections.len() as u64;
    for (name, kind, help, value) in [
        (
            "gossip_connections",
            "gauge",
            "Live connections.",
            connections,
        ),
        ("gossip_dials_total", "counter", "Dials begun.", stats.dials),
        (
            "gossip_dials_failed_total",
            "counter",
            "Dials that failed.",
            stats.dials_failed,
        ),
        (
            "gossip_accepted_total",
            "counter",
            "Peers let in.",
            stats.accepted,
        ),
        (
            "gossip_accept_failed_total",
            "counter",
            "Peers refused.",
            stats.accept_failed,
        ),
        (
            "gossip_submitted_messages_total",
            "counter",
            "Messages to send.",
            total.submitted,
        ),
        (
            "gossip_sent_messages_total",
            "counter",
            "Messages sent.",
            total.sent,
        ),
        (
            "gossip_sent_bytes_total",
            "counter",
            "Bytes sent.",
            total.sent_bytes,
        ),
        (
            "gossip_queued_messages",
            "gauge",
            "Messages waiting to be sent.",
            total.queued,
        ),
        (
            "gossip_queued_bytes",
            "gauge",
            "Bytes waiting to be sent.",
            total.queued_bytes,
        ),
        (
            "gossip_received_messages_total",
            "counter",
            "Messages received.",
            total.received,
        ),
        (
            "gossip_received_bytes_total",
            "counter",
            "Bytes received.",
            total.received_bytes,
        ),
        (
            "gossip_delivered_messages_total",
            "counter",
            "Messages handled.",
            total.delivered,
        ),
        (
            "gossip_incoming_queued_messages",
            "gauge",
            "Received, not handled.",
            total.incoming_queued,
        ),
    ] {
        page.metric(name, kind, help);
        page.value(name, value);
    }
    page.drops(
        "gossip_dropped_messages_total",
        "Messages not sent, by reason.",
        &total.dropped,
    );
    page.drops(
        "gossip_incoming_dropped_messages_total",
        "Messages received and not handled, by reason.",
        &total.incoming_dropped,
    );
    page.0
}

struct Page(String);

// Writing to a `String` cannot fail: the results are dropped.
impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, value: u64) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn sample(&mut self, name: &str, label: &str, label_value: &str, value: u64) {
        let _ = writeln!(self.0, "{name}{{{label}=\"{label_value}\"}} {value}");
    }

    fn drops(&mut self, name: &str, help: &str, counts: &DropCounts) {
        self.metric(name, "counter", help);
        for (reason, count) in counts.iter() {
            self.sample(name, "reason", reason.as_str(), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_announced_once_and_every_line_is_well_formed() {
        let text = render(&[], &SocketStats::default());
        let announced: Vec<_> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        let mut unique = announced.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(announced.len(), unique.len());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("gossip_"), "{line}");
            assert_eq!(value, "0", "{line}");
        }
        assert!(text.contains("gossip_dropped_messages_total{reason=\"overflow\"} 0"));
        assert!(text.ends_with('\n'));
    }
}
