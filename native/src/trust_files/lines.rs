//! Text files with one entry on each line.
//!
//! Empty lines mean nothing, and neither does what follows a `#`. The entries are parsed elsewhere.

/// Returns the entries of a file, each with the number of its line, which counts from 1.
pub(crate) fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines());
    lines.filter_map(|(number, line)| Some((number, entry(line)?)))
}

/// Returns the entry of a line, if it has one.
pub(super) fn entry(line: &str) -> Option<&str> {
    let entry = line.split('#').next().unwrap_or_default().trim();
    (!entry.is_empty()).then_some(entry)
}

/// Returns whether a line contains nothing but a comment.
pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// Returns what is wrong with a file that has no entry.
pub(crate) fn lacks(text: &str) -> &'static str {
    if text.trim().is_empty() {
        "is empty and does not contain"
    } else {
        "does not contain"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_are_no_entries_and_are_counted_as_lines() {
        let text = "# head\n\n  a \r\n\t#b\nc # d\n  # e";
        let found: Vec<_> = entries(text).collect();
        assert_eq!(found, [(3, "a"), (5, "c")]);
        assert_eq!(entries(" \n#").count(), 0);
        assert!(is_comment("  # e") && !is_comment("c # d") && !is_comment(""));
    }
}
