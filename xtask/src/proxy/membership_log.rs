//! The deaths of members in a node's log.

/// Returns the members that a node has declared dead by the lines that it has logged: for each death
/// the name and the address.
pub(crate) fn deaths(log: &str) -> impl Iterator<Item = (&str, &str)> {
    log.lines().filter_map(|line| {
        let (_, message) = line.split_once("membership_log: dead ")?;
        let field = |name: &str| {
            let mut fields = message.split_whitespace();
            fields.find_map(|field| field.strip_prefix(name))
        };
        // The log quotes a name.
        Some((field("member=")?.trim_matches('"'), field("addr=")?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_named_and_other_lines_are_not() {
        let line = "2026-11-26T03:00:00Z  INFO gossip_node::membership_log:";
        let log = format!(
            "{line} dead member=a addr=10.0.0.1:1 generation=1\n\
             {line} live member=a addr=10.0.0.1:1 generation=1\n\
             {line} discovered member=dead addr=10.0.0.1:1 generation=1\n\
             2026-11-26T03:00:01Z  WARN gossip_transport: dead end\n\
             {line} dead member=\"b\" addr=10.0.0.1:1 generation=1\n"
        );
        assert!(deaths(&log).eq([("a", "10.0.0.1:1"), ("b", "10.0.0.1:1")]));
    }
}
