//! A browser that opens the page of the node.
//!
//! No certificate error is ignored.

use std::path::Path;

use anyhow::Context as _;

use super::programs::Programs;
use crate::browser::home::Home;
use crate::browser::{Browser, Settings};

/// Returns the state of the page, or nothing while there is no page.
const READ_STATE: &str =
    "return document.querySelector('[data-testid=status]')?.dataset.state ?? document.title";

/// Returns the text of a page.
const READ_TEXT: &str = "return document.body.innerText";

/// A browser with one tab.
#[derive(Debug)]
pub(super) struct Visitor {
    browser: Browser,
    // Dropped after the browser, which uses it.
    _home: Home,
}

impl Visitor {
    /// Starts a browser that trusts the authority whose certificate is in the file `root`, if there is one. `name` leads to
    /// 127.0.0.1.
    pub(super) fn start(
        programs: &Programs,
        root: Option<&Path>,
        name: &str,
    ) -> anyhow::Result<Self> {
        let home = match root {
            Some(root) => Home::trusting(&programs.certutil, root)?,
            None => Home::new()?,
        };
        let resolver = format!("--host-resolver-rules=MAP {name} 127.0.0.1");
        let settings = Settings {
            arguments: &[&resolver],
            home: Some(&home),
            ..Settings::default()
        };
        Ok(Self {
            browser: Browser::start(&programs.browser, settings)?,
            _home: home,
        })
    }

    pub(super) fn open(&self, url: &str) -> anyhow::Result<()> {
        self.browser.session.navigate(url)
    }

    /// Returns the text of the page, that of an error included.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        let text = self.browser.session.execute(READ_TEXT)?;
        let text = text.as_str().map(ToOwned::to_owned);
        text.context("the page has no text")
    }

    /// Returns `connected` once the page is, and else what it shows.
    pub(super) fn state(&self) -> anyhow::Result<String> {
        let state = self.browser.session.execute(READ_STATE)?;
        let state = state.as_str().map(ToOwned::to_owned);
        state.context("the page has an unexpected form")
    }
}
