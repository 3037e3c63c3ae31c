//! What people read: the results of commands as text.
//!
//! Names and values come from other members. Invariant: none of them can move the cursor or add a line.

use std::borrow::Cow;
use std::fmt::Write as _;

use gossip_transport::gossip::Liveness;

use super::items::{
    Connection, Deleted, Entry, Event, KeptWhere, Revoked, Secret, SecretState, Side, State,
    Subject,
};
use crate::member_status::MemberStatus;

/// The characters of an identity in a table, as in the log.
const SHORT_IDENTITY: usize = 10;

/// The keys in a table of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Only their number.
    Counted,
    /// With their values, each on a line.
    Listed,
}

/// Returns a table of members.
pub(super) fn table(members: &[MemberStatus], keys: Keys) -> String {
    let head = ["ID", "STATE", "ADDRESS", "KEYS"].map(Cow::Borrowed);
    let rows = members.iter().map(|member| {
        [
            printable(&member.id),
            state(member).into(),
            member.addr.to_string().into(),
            member.keys.len().to_string().into(),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (id, state, addr) = (width(0), width(1), width(2));
    let mut text = String::new();
    // The table's head belongs to no member.
    let members = std::iter::once(None).chain(members.iter().map(Some));
    for ([a, b, c, d], member) in rows.iter().zip(members) {
        let _ = writeln!(text, "{a:id$}  {b:state$}  {c:addr$}  {d}");
        let Some(member) = member.filter(|_| keys == Keys::Listed) else {
            continue;
        };
        for (key, value) in &member.keys {
            let _ = writeln!(text, "  {} = {}", printable(key), printable(value));
        }
    }
    text
}

fn state(member: &MemberStatus) -> &'static str {
    if member.myself {
        return "self";
    }
    state_of_other(member.superseded, member.live, member.left)
}

/// Returns the name of the state of another member.
fn state_of_other(superseded: bool, live: bool, left: bool) -> &'static str {
    match (superseded, live, left) {
        (true, _, _) => "superseded",
        (false, true, _) => Liveness::Live.as_str(),
        (false, false, true) => Liveness::Left.as_str(),
        (false, false, false) => Liveness::Dead.as_str(),
    }
}

/// Returns a table of secrets.
pub(super) fn secrets(secrets: &[Secret]) -> String {
    let mut text = "ID        STATE     CONNECTIONS  LEAVES\n".to_owned();
    for secret in secrets {
        let state = match secret.state {
            SecretState::Dials => "dials",
            SecretState::Accepted => "accepted",
            SecretState::Removed => "removed",
        };
        let (connections, leaves) = (secret.connections, secret.leaves);
        let id = printable(&secret.secret);
        let _ = writeln!(text, "{id:8}  {state:8}  {connections:<11}  {leaves}");
    }
    text
}

/// Returns a table of revoked invites.
pub(super) fn revoked(revoked: &[Revoked]) -> String {
    let mut text = "ID                          EXPIRES               KEPT\n".to_owned();
    for revoked in revoked {
        let kept = match revoked.kept {
            KeptWhere::Disk => "on disk",
            KeptWhere::Memory => "until the node ends",
            KeptWhere::Nowhere => "no",
        };
        let (id, expires) = (printable(&revoked.id), printable(&revoked.expires));
        let _ = writeln!(text, "{id:26}  {expires:20}  {kept}");
    }
    text
}

/// Returns a table of connections.
pub(super) fn connections(connections: &[Connection]) -> String {
    let head = [
        "ADDRESS",
        "IDENTITY",
        "DIRECTION",
        "PROTOCOL",
        "ALPN",
        "SILENCE",
        "QUEUED",
        "RECEIVED",
        "INVITE",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(connections.iter().map(|connection| {
        let identity = connection.identity.as_deref().unwrap_or("-");
        [
            connection.addr.to_string(),
            printable(identity).chars().take(SHORT_IDENTITY).collect(),
            match connection.direction {
                Side::Incoming => "incoming",
                Side::Outgoing => "outgoing",
            }
            .to_owned(),
            printable(&connection.protocol).into_owned(),
            printable(connection.alpn.as_deref().unwrap_or("-")).into_owned(),
            format!("{:.1}s", connection.silence_seconds),
            connection.queued.to_string(),
            connection.incoming_queued.to_string(),
            printable(connection.invite.as_deref().unwrap_or("-")).into_owned(),
        ]
    }));
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; 9] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

/// Returns a line about an event.
pub(super) fn event(event: &Event) -> String {
    match event {
        Event::Member(member) => {
            let id = printable(&member.id);
            let keys = member.keys.iter();
            let keys = keys.map(|(key, value)| format!(" {}={}", printable(key), printable(value)));
            let keys: String = keys.collect();
            format!("member {id} {} {}{keys}", state(member), member.addr)
        }
        Event::Current {} => "all members are listed, changes follow".to_owned(),
        Event::State(State {
            member,
            live,
            left,
            superseded,
        }) => {
            let state = state_of_other(*superseded, *live, *left);
            format!("{state} {} {}", name(member), member.addr)
        }
        Event::Forgotten(member) => format!("forgotten {} {}", name(member), member.addr),
        Event::Set(Entry {
            member, key, value, ..
        }) => format!(
            "set {} {} = {}",
            name(member),
            printable(key),
            printable(value)
        ),
        Event::Delete(deleted) => self::deleted(deleted),
    }
}

/// Returns a line about a key that was set.
pub(super) fn was_set(entry: &Entry) -> String {
    let Entry {
        member, key, value, ..
    } = entry;
    format!(
        "set {} {} = {}",
        name(member),
        printable(key),
        printable(value)
    )
}

/// Returns a line about a key that was deleted.
pub(super) fn deleted(deleted: &Deleted) -> String {
    let Deleted { member, key } = deleted;
    format!("deleted {} {}", name(member), printable(key))
}

fn name(member: &Subject) -> Cow<'_, str> {
    printable(&member.id)
}

/// Returns `text` with control characters escaped, and with the backslashes then, too, so that one can
/// tell.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    // Besides control characters: marks that change the direction of the text around them.
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            c if is_harmful(c) => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, port: u16, keys: &[(&str, &str)]) -> MemberStatus {
        let keys = keys.iter();
        MemberStatus {
            id: id.to_owned(),
            generation: 1,
            addr: ([127, 0, 0, 1], port).into(),
            live: true,
            left: false,
            superseded: false,
            myself: false,
            heartbeat: 1,
            keys: keys
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_table_is_aligned_and_lists_keys_if_asked() {
        let mut members = [
            member("a", 1, &[("color", "red"), ("kind", "node")]),
            member("n\u{e4}me", 12345, &[]),
            member("c", 3, &[("x", "")]),
        ];
        members[0].myself = true;
        members[2].live = false;
        let counted = "ID    STATE  ADDRESS          KEYS\n\
                       a     self   127.0.0.1:1      2\n\
                       n\u{e4}me  live   127.0.0.1:12345  0\n\
                       c     dead   127.0.0.1:3      1\n";
        assert_eq!(table(&members, Keys::Counted), counted);
        members[2].left = true;
        assert!(table(&members, Keys::Counted).contains("c     left   "));
        members[2].superseded = true;
        let listed = table(&members, Keys::Listed);
        assert!(
            listed.contains("2\n  color = red\n  kind = node\nn"),
            "{listed}"
        );
        assert!(listed.contains("superseded"), "{listed}");
    }

    #[test]
    fn a_table_of_connections_is_aligned() {
        let connection = |addr: &str, identity: Option<&str>| Connection {
            addr: addr.parse().unwrap(),
            network_addr: addr.parse().unwrap(),
            local_addr: addr.parse().unwrap(),
            identity: identity.map(str::to_owned),
            protocol: if identity.is_some() { "noise" } else { "udp" }.to_owned(),
            alpn: identity.map(|_| "chitchat/v1".to_owned()),
            secret: None,
            invite: identity.map(|_| "aaaaaadljhqbabyha4dqobyha4".to_owned()),
            direction: Side::Incoming,
            age_seconds: 7.0,
            silence_seconds: 0.25,
            queued: 3,
            queued_bytes: 300,
            incoming_queued: 0,
        };
        let listed = connections(&[
            connection("127.0.0.1:1", Some("abcdefghijklmnop")),
            connection("192.0.2.200:7946", None),
        ]);
        let expected = "ADDRESS           IDENTITY    DIRECTION  PROTOCOL  ALPN         SILENCE  QUEUED  RECEIVED  INVITE\n\
                        127.0.0.1:1       abcdefghij  incoming   noise     chitchat/v1  0.2s     3       0         aaaaaadljhqbabyha4dqobyha4\n\
                        192.0.2.200:7946  -           incoming   udp       -            0.2s     3       0         -\n";
        assert_eq!(listed, expected);
    }

    #[test]
    fn what_members_choose_cannot_move_the_cursor_or_add_a_line() {
        let evil = "x\u{1b}[2J\r\ny\u{9b}1m\u{202e}z\\";
        let texts = [
            table(&[member(evil, 1, &[(evil, evil)])], Keys::Listed),
            event(&Event::Member(member(evil, 1, &[(evil, evil)]))),
        ];
        for text in texts {
            assert!(
                !text
                    .chars()
                    .any(|c| c.is_control() && c != '\n' || c == '\u{202e}'),
                "{text:?}"
            );
        }
        assert_eq!(printable("a\\b"), "a\\b");
        assert_eq!(printable("a\\b\n"), "a\\\\b\\n");
    }
}
