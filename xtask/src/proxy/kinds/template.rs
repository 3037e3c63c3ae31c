//! The documentation's configurations, with values of a run in the place of those that are printed.

use anyhow::ensure;

/// Returns `text` with each printed value replaced. What was put in is not looked at again.
///
/// # Errors
///
/// Fails if a printed value does not occur, so that the text is not what it was.
pub(crate) fn fill(text: &str, values: &[(&str, String)]) -> anyhow::Result<String> {
    for (printed, _) in values {
        ensure!(
            !printed.is_empty() && text.contains(printed),
            "it does not contain {printed:?}"
        );
    }
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let found = values.iter().filter_map(|(printed, value)| {
            let (before, after) = rest.split_once(printed)?;
            Some((before, value, after))
        });
        let Some((before, value, after)) = found.min_by_key(|(before, ..)| before.len()) else {
            filled.push_str(rest);
            return Ok(filled);
        };
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn every_place_is_filled_once() {
        let values = [
            ("443 ssl", "8443 ssl".to_owned()),
            ("a.b", "443 ssl".to_owned()),
        ];
        let filled = fill("listen 443 ssl; a.b a.b :443 ssl\n", &values).unwrap();
        assert_eq!(filled, "listen 8443 ssl; 443 ssl 443 ssl :8443 ssl\n");
    }

    #[test]
    fn a_text_without_a_printed_value_is_refused() {
        let values = [("a.b", "c".to_owned()), ("missing", "d".to_owned())];
        let error = fill("a.b", &values).unwrap_err().to_string();
        assert!(error.contains("\"missing\""), "{error}");
    }
}
