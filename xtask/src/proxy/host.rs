//! A host outside the inner network: a browser in a namespace of its own, with tabs that are members
//! of the cluster.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::browser::home::Home;
use crate::browser::webdriver::{ConsoleMessage, Session, Window};
use crate::browser::{Browser, Console, Settings};
use crate::host::freeze::Frozen;
use crate::proxy::certificate::NAME;
use crate::proxy::namespaces::Cable;
use crate::proxy::network;
use crate::proxy::programs::Programs;

/// Runs in every page before the page's own scripts.
const PROBE: &str = include_str!("probe.js");

/// Reads what the probe has recorded since the last time, and counts the live members.
const READ: &str = r"
    const { dials, events } = window.gossipProbe;
    return {
        dials: dials.splice(0),
        events: events.splice(0),
        live: gossipDebug.members().filter((member) => member.live).length,
        id: gossipDebug.members().find((member) => member.self)?.id ?? '',
    };
";

/// A browser on a host, and its tabs. Dropping it ends the browser.
#[derive(Debug)]
pub(crate) struct Host<'a> {
    network: &'a network::Host,
    // `None` only while it is dropped.
    browser: Option<Browser>,
    // Dropped after the browser, which uses it.
    _home: Home,
    tabs: Vec<Window>,
}

/// What a tab has done since it was last read.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Seen {
    /// The URLs that it has dialled.
    pub(crate) dials: Vec<String>,
    /// The kinds of the entries of its log, such as `died` and `back`.
    pub(crate) events: Vec<String>,
    /// The number of live members that it knows, itself included.
    pub(crate) live: usize,
    /// Its own name in the cluster.
    pub(crate) id: String,
}

/// How a host with a tab is away for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// Its cable is pulled out.
    Offline,
    /// It is also asleep: no script runs.
    Asleep,
}

impl<'a> Host<'a> {
    /// Starts a browser that trusts the authority with the certificate in the file `authority`.
    pub(crate) fn start(
        programs: &Programs,
        host: &'a network::Host,
        authority: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let resolver = format!("--host-resolver-rules=MAP {NAME} {}", host.proxy);
        let home = match authority {
            Some(file) => Home::trusting(&programs.certutil, file)?,
            None => Home::new()?,
        };
        let settings = Settings {
            arguments: &[&resolver],
            console: Console::Recorded,
            home: Some(&home),
        };
        let start = || {
            let browser = Browser::start(&programs.browser, settings)?;
            // Where packets are lost, it takes some seconds until it does anything, which is not the time of a tab.
            browser.session.devtools("Page.enable", &json!({}))?;
            anyhow::Ok(browser)
        };
        let browser = host.namespace.run(start)??;
        Ok(Self {
            network: host,
            browser: Some(browser),
            _home: home,
            tabs: Vec::new(),
        })
    }

    pub(crate) fn tabs(&self) -> usize {
        self.tabs.len()
    }

    /// Opens `url` in a new tab.
    pub(crate) fn open_tab(&mut self, url: &str) -> anyhow::Result<()> {
        self.open_tab_with(url, None)
    }

    /// Opens `url` in a new tab, in which `script` runs before the page's own ones.
    pub(crate) fn open_tab_with(&mut self, url: &str, script: Option<&str>) -> anyhow::Result<()> {
        let is_first = self.tabs.is_empty();
        let window = self.with(|session| {
            let window = if is_first {
                session.window()?
            } else {
                session.open_tab()?
            };
            session.switch_to(&window)?;
            session.devtools("Page.enable", &json!({}))?;
            for script in [Some(PROBE), script].into_iter().flatten() {
                let script = json!({ "source": script });
                session.devtools("Page.addScriptToEvaluateOnNewDocument", &script)?;
            }
            session.navigate(url)?;
            Ok(window)
        })?;
        self.tabs.push(window);
        Ok(())
    }

    /// Runs `script` as the body of a function in the tab that was opened last.
    pub(crate) fn execute_in_last_tab(&self, script: &str) -> anyhow::Result<Value> {
        let tab = self.tabs.last().context("no tab")?;
        self.with(|session| {
            session.switch_to(tab)?;
            session.execute(script)
        })
    }

    /// Closes the tab that was opened last. Another one must be left.
    pub(crate) fn close_last_tab(&mut self) -> anyhow::Result<()> {
        let tab = self.tabs.pop().context("no tab")?;
        self.with(|session| {
            session.switch_to(&tab)?;
            session.close_window()
        })?;
        self.select_first_tab()
    }

    /// Reads every tab.
    pub(crate) fn read(&self) -> anyhow::Result<Vec<Seen>> {
        self.with(|session| {
            let tabs = self.tabs.iter().map(|tab| {
                session.switch_to(tab)?;
                let seen = session.execute(READ)?;
                serde_json::from_value(seen).context("the probe has an unexpected form")
            });
            tabs.collect()
        })
    }

    /// Makes the first tab the one that [`set_key`](Self::set_key) changes.
    pub(crate) fn select_first_tab(&self) -> anyhow::Result<()> {
        self.select_tab(0)
    }

    /// Makes a tab the one that [`set_key`](Self::set_key) changes. `index` is its place in the order of opening.
    pub(crate) fn select_tab(&self, index: usize) -> anyhow::Result<()> {
        let tab = self.tabs.get(index).context("no such tab")?;
        self.with(|session| session.switch_to(tab))
    }

    /// Stops the browser, with all of its tabs, until the result is dropped.
    pub(crate) fn freeze(&self) -> anyhow::Result<Frozen> {
        let browser = self.browser.as_ref().context("the browser has ended")?;
        Ok(browser.freeze())
    }

    /// Sets a key of the selected tab through its form, and returns the moment of the change by the
    /// page's clock. The round trip to the browser is not part of it.
    pub(crate) fn set_key(&self, key: &str, value: &str) -> anyhow::Result<SystemTime> {
        let script = format!(
            "document.getElementById('set-key').value = {};
             document.getElementById('set-value').value = {};
             const at = performance.timeOrigin + performance.now();
             document.getElementById('set-form').requestSubmit();
             return at;",
            Value::from(key),
            Value::from(value)
        );
        let at = self.with(|session| session.execute(&script))?;
        let millis = at.as_f64().context("the page returned no time")?;
        let since = Duration::try_from_secs_f64(millis / 1000.0)?;
        Ok(UNIX_EPOCH + since)
    }

    /// Takes the host off its network and, for [`Absence::Asleep`], stops the selected tab as a browser does
    /// with one that it freezes.
    pub(crate) fn go_away(&self, absence: Absence) -> anyhow::Result<()> {
        if absence == Absence::Asleep {
            self.set_lifecycle("frozen")?;
        }
        self.network.set_cable(Cable::Out)
    }

    /// Ends what [`go_away`](Self::go_away) began.
    pub(crate) fn come_back(&self, absence: Absence) -> anyhow::Result<()> {
        self.network.set_cable(Cable::In)?;
        if absence == Absence::Asleep {
            self.set_lifecycle("active")?;
        }
        Ok(())
    }

    fn set_lifecycle(&self, state: &str) -> anyhow::Result<()> {
        let state = json!({ "state": state });
        self.with(|session| session.devtools("Page.setWebLifecycleState", &state))?;
        Ok(())
    }

    /// Returns the console messages of all tabs since the last call.
    pub(crate) fn console(&self) -> anyhow::Result<Vec<ConsoleMessage>> {
        self.with(Session::console)
    }

    fn with<T>(&self, work: impl FnOnce(&Session) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let browser = self.browser.as_ref().context("the browser has ended")?;
        self.network.namespace.run(|| work(&browser.session))?
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        // Only in its namespace can the driver be asked to close the browser.
        let browser = self.browser.take();
        let _ = self.network.namespace.run(|| drop(browser));
    }
}
