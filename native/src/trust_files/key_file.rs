//! The content of a file of trusted keys: one on each line.

use gossip_transport::credential::Identity;

use super::lines::{entries, lacks};

/// Returns the keys in `text`.
///
/// # Errors
///
/// Fails if a line is not a key, or if there is neither a key in the file nor one in `given`: so that an
/// empty file does not cut a node off. The text follows the name of the file.
pub(super) fn parse(text: &str, given: &[Identity]) -> Result<Vec<Identity>, String> {
    let keys = entries(text).map(|(line, entry)| {
        entry.parse().map_err(|_| {
            format!(
                ", line {line}: not a key, which is 52 characters of base32 (a-z, 2-7): correct or remove \
                 the line; a node prints its key, its identity, when it starts"
            )
        })
    });
    let keys = keys.collect::<Result<Vec<Identity>, _>>()?;
    if keys.is_empty() && given.is_empty() {
        return Err(format!(
            " {} a key, so that nobody would be trusted: add the key of another node, which it prints when \
             it starts",
            lacks(text)
        ));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_on_lines_of_their_own_and_a_wrong_one_is_reported_with_its_line() {
        let key = |n| Identity::from_bytes([n; 32]);
        let text = format!("# nodes\n{}\n\n{} # b\n", key(1), key(2));
        assert_eq!(parse(&text, &[]), Ok(vec![key(1), key(2)]));
        let wrong = parse(&format!("{text}nonsense"), &[]).unwrap_err();
        assert!(wrong.starts_with(", line 5: not a key"), "{wrong}");
        assert!(!wrong.contains("nonsense"), "{wrong}");
    }

    #[test]
    fn a_list_without_any_key_is_refused_unless_the_command_line_has_one() {
        let none = parse("# nobody\n", &[]).unwrap_err();
        assert!(none.contains("nobody would be trusted"), "{none}");
        let given = [Identity::from_bytes([1; 32])];
        assert_eq!(parse("", &given), Ok(Vec::new()));
    }
}
