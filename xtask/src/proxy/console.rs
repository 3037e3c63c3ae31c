//! The errors among the messages on the tabs' consoles.

use std::collections::BTreeMap;

use crate::browser::webdriver::ConsoleMessage;
use crate::proxy::nginx::WSS_URL;

/// The level of errors.
const ERROR: &str = "SEVERE";
/// The most examples that are shown, and the length of each in characters.
const EXAMPLES: usize = 3;
const EXAMPLE_LEN: usize = 200;

/// Numbers of errors, and examples of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Errors {
    /// Errors that name the URL of the proxy.
    pub(crate) about_proxy: u64,
    pub(crate) others: u64,
    /// The most frequent errors, with their numbers.
    pub(crate) examples: Vec<String>,
}

impl Errors {
    pub(crate) fn of(messages: &[ConsoleMessage]) -> Self {
        let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
        let mut errors = Self {
            about_proxy: 0,
            others: 0,
            examples: Vec::new(),
        };
        for error in messages.iter().filter(|message| message.level == ERROR) {
            *numbers.entry(&error.message).or_default() += 1;
            if error.message.contains(WSS_URL) {
                errors.about_proxy += 1;
            } else {
                errors.others += 1;
            }
        }
        let mut numbers: Vec<_> = numbers.into_iter().collect();
        numbers.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
        let examples = numbers.into_iter().take(EXAMPLES).map(|(text, number)| {
            let text: String = text.chars().take(EXAMPLE_LEN).collect();
            format!("{number} times: {text}")
        });
        errors.examples = examples.collect();
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_about_the_proxy_are_counted_apart_and_other_levels_not_at_all() {
        let message = |level: &str, message: &str| ConsoleMessage {
            level: level.to_owned(),
            message: message.to_owned(),
        };
        let about_proxy = format!("WebSocket connection to '{WSS_URL}' failed");
        let errors = Errors::of(&[
            message(ERROR, &about_proxy),
            message(ERROR, "WebSocket connection to 'ws://10.0.0.1:1/' failed"),
            message(ERROR, "WebSocket connection to 'ws://10.0.0.1:1/' failed"),
            message("INFO", "hello"),
        ]);
        assert_eq!((errors.about_proxy, errors.others), (1, 2));
        assert!(errors.examples[0].starts_with("2 times: "));
    }
}
