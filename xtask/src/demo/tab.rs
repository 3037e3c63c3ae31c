//! A tab with the live page, used as a user would: reads what it shows and fills in its form.
//!
//! Finds elements by their `data-testid` attributes, and never looks at the program behind the
//! document, except for the WebSockets that it opens.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::browser::webdriver::{Session, Window};
use crate::demo::node::MemberStatus;

/// Time that the drawing takes to move its shapes to their new places. The screenshot is for people
/// to look at; nothing is asserted about it, so there is no condition to wait for.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(1500);

/// Reads the page.
const READ: &str = r"
    const status = document.querySelector('[data-testid=status]');
    const members = [...document.querySelectorAll('[data-testid=member]')].map((row) => ({
        id: row.dataset.id,
        addr: row.dataset.addr,
        live: row.dataset.live === 'true',
        self: row.dataset.self === 'true',
        keys: Object.fromEntries([...row.querySelectorAll('[data-testid=key]')]
            .map((key) => [key.dataset.key, key.dataset.value])),
    }));
    return {
        state: status ? status.dataset.state : 'no page',
        text: status ? status.innerText : document.title,
        members,
    };
";

/// Records the WebSockets that a page opens. It runs before the page's own scripts, which do not notice.
const RECORD_SOCKETS: &str = r"
    window.gossipSockets = [];
    window.WebSocket = class extends window.WebSocket {
        constructor(...args) {
            super(...args);
            window.gossipSockets.push(this);
        }
    };
";

/// Reads what [`RECORD_SOCKETS`] has recorded, and what the browser says of the page.
const READ_SECURITY: &str = r"
    return {
        is_secure_context: window.isSecureContext,
        origin: location.origin,
        sockets: window.gossipSockets.map((socket) => ({
            url: socket.url,
            is_open: socket.readyState === WebSocket.OPEN,
        })),
    };
";

/// How the page was loaded, and how it is connected.
#[derive(Debug, Deserialize)]
pub(crate) struct Security {
    pub(crate) is_secure_context: bool,
    pub(crate) origin: String,
    /// All WebSockets that the page has opened since it was loaded.
    pub(crate) sockets: Vec<Socket>,
}

/// A WebSocket of the page.
#[derive(Debug, Deserialize)]
pub(crate) struct Socket {
    pub(crate) url: String,
    pub(crate) is_open: bool,
}

/// The content of the page.
#[derive(Debug, Deserialize)]
pub(crate) struct Shown {
    /// `connected`, `connecting` or `disconnected`.
    pub(crate) state: String,
    /// The status text, or the document's title if there is no status.
    pub(crate) text: String,
    pub(crate) members: Vec<MemberStatus>,
}

/// The size of the visible part of the page, in CSS pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Viewport {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) device: Device,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    Desktop,
    /// Two pixels to a CSS pixel. A screenshot shows the whole page.
    Phone,
}

/// One tab.
#[derive(Debug)]
pub(crate) struct Tab<'a> {
    session: &'a Session,
    window: Window,
}

impl<'a> Tab<'a> {
    pub(crate) fn new(session: &'a Session, window: Window) -> Self {
        Self { session, window }
    }

    /// Returns the session after making this tab the current one. Every command must go through
    /// here.
    fn session(&self) -> anyhow::Result<&'a Session> {
        self.session.switch_to(&self.window)?;
        Ok(self.session)
    }

    pub(crate) fn open(&self, url: &str) -> anyhow::Result<()> {
        self.session()?.navigate(url)
    }

    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        self.session()?.reload()
    }

    /// Closes the tab and opens another one at `url`, which takes its place here.
    pub(crate) fn replace(&mut self, url: &str) -> anyhow::Result<()> {
        let session = self.session()?;
        let next = session.open_tab()?;
        session.close_window()?;
        self.window = next;
        self.open(url)
    }

    /// Opens another tab, which is empty.
    pub(crate) fn open_another(&self) -> anyhow::Result<Self> {
        let session = self.session()?;
        Ok(Self::new(session, session.open_tab()?))
    }

    /// Closes the tab, as a user would.
    pub(crate) fn close(self) -> anyhow::Result<()> {
        self.session()?.close_window()
    }

    /// Makes the tab one of a page that has no locks, as on plain http, from its next load on.
    pub(crate) fn disable_locks(&self) -> anyhow::Result<()> {
        self.run_first("Object.defineProperty(Navigator.prototype, 'locks', { value: undefined });")
    }

    /// Records the WebSockets of the page for [`security`](Self::security), from its next load on.
    pub(crate) fn record_sockets(&self) -> anyhow::Result<()> {
        self.run_first(RECORD_SOCKETS)
    }

    /// Runs a script before those of the page, from its next load on.
    fn run_first(&self, script: &str) -> anyhow::Result<()> {
        let session = self.session()?;
        session.devtools(
            "Page.addScriptToEvaluateOnNewDocument",
            &json!({ "source": script }),
        )?;
        Ok(())
    }

    /// Returns how the page was loaded and is connected. Its WebSockets must be recorded.
    pub(crate) fn security(&self) -> anyhow::Result<Security> {
        let security = self.session()?.execute(READ_SECURITY)?;
        serde_json::from_value(security).context("the page has an unexpected form")
    }

    /// Returns the errors on the consoles of all tabs since the last call.
    pub(crate) fn console_errors(&self) -> anyhow::Result<Vec<String>> {
        let messages = self.session()?.console()?.into_iter();
        Ok(messages
            .filter(|message| message.level == "SEVERE")
            .map(|message| message.message)
            .collect())
    }

    /// Returns all text that is shown, whatever page it is.
    pub(crate) fn text(&self) -> anyhow::Result<String> {
        let text = self.session()?.execute("return document.body.innerText")?;
        serde_json::from_value(text).context("the page has no text")
    }

    pub(crate) fn read(&self) -> anyhow::Result<Shown> {
        let shown = self.session()?.execute(READ)?;
        serde_json::from_value(shown).context("the page has an unexpected form")
    }

    /// Sets a key of this tab through the form.
    pub(crate) fn set_key(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let session = self.session()?;
        session.type_into("[data-testid=set-key]", key)?;
        session.type_into("[data-testid=set-value]", value)?;
        session.click("[data-testid=set-button]")
    }

    /// Deletes a key of this tab with its button.
    pub(crate) fn delete_key(&self, key: &str) -> anyhow::Result<()> {
        self.session()?
            .click(&format!("[data-testid=delete-button][data-key='{key}']"))
    }

    /// Writes a screenshot of the page to `path`, as a PNG.
    pub(crate) fn screenshot(&self, viewport: Viewport, path: &Path) -> anyhow::Result<()> {
        let session = self.session()?;
        let is_phone = viewport.device == Device::Phone;
        session.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({
                "width": viewport.width,
                "height": viewport.height,
                "deviceScaleFactor": if is_phone { 2 } else { 1 },
                "mobile": is_phone,
            }),
        )?;
        // The layout and the drawing take a moment to adapt to the new width.
        session.execute("window.scrollTo(0, 0); document.activeElement?.blur(); return document.body.offsetHeight")?;
        std::thread::sleep(SETTLE);
        let picture = session.devtools(
            "Page.captureScreenshot",
            &json!({ "format": "png", "captureBeyondViewport": is_phone }),
        );
        session.devtools("Emulation.clearDeviceMetricsOverride", &json!({}))?;
        let picture = picture?;
        let text = picture
            .get("data")
            .and_then(Value::as_str)
            .context("the browser returned no screenshot")?;
        let bytes = data_encoding::BASE64
            .decode(text.as_bytes())
            .context("the browser's screenshot is not base64")?;
        fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }
}
