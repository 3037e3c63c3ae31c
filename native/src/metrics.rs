//! `/metrics`: the counters in the Prometheus text format, version 0.0.4.
//!
//! Contains totals only. With a label for each peer the output would grow without bound, since tabs
//! come and go.

use std::fmt::Write as _;

use gossip_transport::gossip::{EngineCounts, Liveness, Member};
use gossip_transport::transport_layer::{DropCounts, SocketStats};

use crate::any_network::BridgeCounts;
use crate::http_stats::HttpStats;
use crate::status::leaves;
use crate::tls_status::TlsStatus;

/// The content type of the response.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns the body of the response.
pub(crate) fn render(
    members: &[Member],
    stats: &SocketStats,
    engine: &EngineCounts,
    bridge: &BridgeCounts,
    http: &HttpStats,
    revoked: usize,
    tls: Option<&TlsStatus>,
) -> String {
    let mut text = Exposition(String::new());
    let count = |is_counted: fn(Liveness) -> bool| {
        let counted = members.iter().filter(|member| is_counted(member.liveness));
        counted.count()
    };
    let live = count(Liveness::is_live);
    let left = count(|liveness| liveness == Liveness::Left);
    let dead = members.len().saturating_sub(live + left);
    text.metric("gossip_members", "gauge", "Known members, by liveness.");
    for (liveness, count) in [
        (Liveness::Live, live),
        (Liveness::Left, left),
        (Liveness::Dead, dead),
    ] {
        text.sample("gossip_members", ("state", liveness.as_str()), count as u64);
    }

    let (total, naming) = (&stats.total, &stats.naming);
    let connections = stats.connections.len() as u64;
    for (name, kind, help, value) in [
        (
            "gossip_connections",
            "gauge",
            "Live connections.",
            connections,
        ),
        (
            "gossip_dials_total",
            "counter",
            "Dials that were started.",
            stats.dials,
        ),
        (
            "gossip_dials_failed_total",
            "counter",
            "Dials that failed.",
            stats.dials_failed,
        ),
        (
            "gossip_accepted_total",
            "counter",
            "Incoming connections that were accepted.",
            stats.accepted,
        ),
        (
            "gossip_accept_failed_total",
            "counter",
            "Incoming connections that failed or were refused.",
            stats.accept_failed,
        ),
        (
            "gossip_leaves",
            "gauge",
            "Connected peers that hold an invite.",
            leaves(stats),
        ),
        (
            "gossip_revoked_invites",
            "gauge",
            "Revoked invites that have not expired.",
            revoked as u64,
        ),
        (
            "gossip_leaves_refused_total",
            "counter",
            "Connections of peers with invites that were closed for a quota.",
            stats.leaves_refused,
        ),
        (
            "gossip_stated_addrs_ignored_total",
            "counter",
            "Addresses that peers stated and cannot have.",
            naming.stated_addrs_ignored,
        ),
        (
            "gossip_stated_addrs_contested_total",
            "counter",
            "Addresses that peers stated and that belong to another identity.",
            naming.stated_addrs_contested,
        ),
        (
            "gossip_duplicates_refused_total",
            "counter",
            "Connections refused because another of the same identity was alive.",
            naming.duplicates_refused,
        ),
        (
            "gossip_wrong_identities_total",
            "counter",
            "Dials answered by another identity than the owner of the address.",
            naming.wrong_identities,
        ),
        (
            "gossip_unauthenticated_refused_total",
            "counter",
            "Unauthenticated connections refused because an identity owns their address.",
            naming.unauthenticated_refused,
        ),
        (
            "gossip_downgraded_addrs_total",
            "counter",
            "Addresses of authenticated peers left to unauthenticated ones after a long absence.",
            naming.downgraded,
        ),
        (
            "gossip_udp_fallbacks_total",
            "counter",
            "Uses of UDP for peers that were reached over TCP, which failed.",
            bridge.either.fallbacks,
        ),
        (
            "gossip_udp_fallbacks_refused_total",
            "counter",
            "UDP peers refused because they were reached over TCP, which has not failed.",
            bridge.either.refused,
        ),
        (
            "gossip_submitted_messages_total",
            "counter",
            "Messages submitted for sending.",
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
            "Received messages that were delivered to the participant.",
            total.delivered,
        ),
        (
            "gossip_incoming_queued_messages",
            "gauge",
            "Received messages that wait for delivery.",
            total.incoming_queued,
        ),
        (
            "gossip_partial_message_bytes",
            "gauge",
            "Memory of messages that have been received in part.",
            stats.partial.bytes,
        ),
        (
            "gossip_part_record_bytes",
            "gauge",
            "Memory of connections that wait for the rest of a record.",
            stats.partial.part_record_bytes,
        ),
        (
            "gossip_shared_record_bytes",
            "gauge",
            "Memory of received records that messages share.",
            stats.partial.shared_record_bytes,
        ),
        (
            "gossip_partial_messages_evicted_total",
            "counter",
            "Connections that ended because messages received in part took too much memory.",
            stats.partial.evicted,
        ),
        (
            "gossip_partial_messages_timed_out_total",
            "counter",
            "Connections that ended because the rest of a message did not arrive in time.",
            stats.partial.timed_out,
        ),
        (
            "gossip_rejected_records_total",
            "counter",
            "Connections that ended because a record was changed on its way or broke the protocol.",
            stats.partial.rejected_records,
        ),
        (
            "gossip_limited_messages_total",
            "counter",
            "Gossip messages that were not answered because their sender has sent too much.",
            engine.limited,
        ),
        (
            "gossip_refused_members_total",
            "counter",
            "Members that were heard of and refused, for want of room or for their names.",
            engine.refused_members,
        ),
        (
            "gossip_refused_updates_total",
            "counter",
            "Updates of members that were applied in part or not at all, for want of room or as malformed.",
            engine.refused_keys,
        ),
        (
            "gossip_refused_reserved_keys_total",
            "counter",
            "Keys that only this software may set and that no member with a cluster secret has set.",
            engine.refused_reserved_keys,
        ),
        (
            "gossip_foreign_syns_total",
            "counter",
            "Messages of members of other clusters.",
            engine.foreign_syns,
        ),
        (
            "gossip_rejections_total",
            "counter",
            "Messages of peers that consider this node part of another cluster.",
            engine.rejections,
        ),
        (
            "gossip_http_connections",
            "gauge",
            "Open HTTP connections.",
            http.connections,
        ),
        (
            "gossip_http_requests_total",
            "counter",
            "HTTP requests that were answered.",
            http.requests,
        ),
        (
            "gossip_http_visitors_refused_total",
            "counter",
            "Requests of pages for an invite refused because too many had asked, or because of the host in their link.",
            http.visitors_refused,
        ),
        (
            "gossip_http_evicted_total",
            "counter",
            "HTTP connections that ended because there were too many, or others needed their memory.",
            http.evicted,
        ),
        (
            "gossip_http_timed_out_total",
            "counter",
            "HTTP connections that ended because nothing was read or written.",
            http.timed_out,
        ),
        (
            "gossip_http_refused_total",
            "counter",
            "HTTP requests refused because the responses being sent took too much memory.",
            http.refused,
        ),
        (
            "gossip_http_shortages_total",
            "counter",
            "Times at which the system was too short of resources for an HTTP connection.",
            http.shortages,
        ),
    ] {
        text.metric(name, kind, help);
        text.value(name, value);
    }
    let name = "gossip_accept_failures_total";
    let help = "Incoming connections that failed or were refused, by reason (validation, by a certificate authority, is no failure).";
    text.metric(name, "counter", help);
    for (reason, count) in stats.accept_failures.iter() {
        text.sample(name, ("reason", reason.as_str()), count);
    }
    text.drops(
        "gossip_dropped_messages_total",
        "Messages that were not sent, by reason.",
        &total.dropped,
    );
    text.drops(
        "gossip_incoming_dropped_messages_total",
        "Received messages that were not delivered, by reason.",
        &total.incoming_dropped,
    );
    let name = "gossip_denied_total";
    text.metric(
        name,
        "counter",
        "Parts of gossip messages that were not applied because their sender may not say that, by reason.",
    );
    for (denial, count) in engine.denied.iter() {
        text.sample(name, ("reason", denial.as_str()), count);
    }
    let name = "gossip_udp_dropped_datagrams_total";
    text.metric(
        name,
        "counter",
        "Datagrams that were not received, by reason.",
    );
    let udp = &bridge.udp;
    for (reason, count) in [
        ("malformed", udp.malformed),
        ("refused", udp.refused),
        ("overflowed", udp.overflowed),
        ("overcompressed", udp.overcompressed),
        ("unread", udp.unread),
    ] {
        text.sample(name, ("reason", reason), count);
    }
    let name = "gossip_udp_withheld_messages_total";
    text.metric(
        name,
        "counter",
        "Messages not sent to addresses that may be forged.",
    );
    text.value(name, udp.withheld);
    if let Some(tls) = tls {
        text.tls(tls);
    }
    text.0
}

/// The text of the response so far.
struct Exposition(String);

// The results of `writeln` are ignored, since writing to a `String` cannot fail.
impl Exposition {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, value: u64) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn sample(&mut self, name: &str, (label, label_value): (&str, &str), value: u64) {
        let _ = writeln!(self.0, "{name}{{{label}=\"{label_value}\"}} {value}");
    }

    /// Writes what is known of the certificate, and of its orders.
    fn tls(&mut self, tls: &TlsStatus) {
        let gauge = |text: &mut Self, name, help, value| {
            text.metric(name, "gauge", help);
            text.value(name, value);
        };
        let expiry = tls.certificate.as_ref().and_then(|it| it.expires_at);
        gauge(
            self,
            "gossip_tls_certificate_expiry_timestamp_seconds",
            "Unix time at which the TLS certificate in use expires, 0 if there is none yet.",
            expiry.unwrap_or_default(),
        );
        let name = "gossip_tls_reload_failures_total";
        let help = "Times at which the files of the TLS certificate and its key could not be used; they are tried every second.";
        self.metric(name, "counter", help);
        self.value(name, tls.reload_failures);
        let Some(acme) = &tls.acme else { return };
        gauge(
            self,
            "gossip_acme_next_order_timestamp_seconds",
            "Unix time of the next order of a TLS certificate: a renewal, or another attempt.",
            acme.next_order_at,
        );
        gauge(
            self,
            "gossip_acme_last_attempt_failed",
            "Whether the last attempt to get a TLS certificate failed.",
            u64::from(acme.last_error.is_some()),
        );
        for (name, help, value) in [
            (
                "gossip_acme_orders_total",
                "Orders of a TLS certificate that were begun.",
                acme.orders,
            ),
            (
                "gossip_acme_certificates_total",
                "TLS certificates that were issued and used.",
                acme.issued,
            ),
        ] {
            self.metric(name, "counter", help);
            self.value(name, value);
        }
        let name = "gossip_acme_failures_total";
        let help = "Attempts to get a TLS certificate that failed, by reason.";
        self.metric(name, "counter", help);
        for (reason, count) in &acme.failures {
            self.sample(name, ("reason", reason), *count);
        }
    }

    fn drops(&mut self, name: &str, help: &str, counts: &DropCounts) {
        self.metric(name, "counter", help);
        for (reason, count) in counts.iter() {
            self.sample(name, ("reason", reason.as_str()), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_declared_once_and_every_line_is_well_formed() {
        let text = render(
            &[],
            &SocketStats::default(),
            &EngineCounts::default(),
            &BridgeCounts::default(),
            &HttpStats::default(),
            0,
            Some(&TlsStatus::nothing_yet()),
        );
        let declared: Vec<_> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        let mut unique = declared.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(declared.len(), unique.len());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("gossip_"), "{line}");
            assert_eq!(value, "0", "{line}");
        }
        assert!(text.contains("gossip_dropped_messages_total{reason=\"overflow\"} 0"));
        assert!(text.contains("gossip_denied_total{reason=\"new_member\"} 0"));
        assert!(text.contains("gossip_tls_certificate_expiry_timestamp_seconds 0\n"));
        assert!(text.contains("gossip_acme_failures_total{reason=\"validation\"} 0\n"));
        assert!(text.ends_with('\n'));
    }
}
