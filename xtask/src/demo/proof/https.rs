//! The page over https, with a certificate by an authority that only the check's browser trusts.

use anyhow::{Context as _, ensure};

use super::Proof;
use crate::browser::home::Home;
use crate::browser::{Browser, Settings};
use crate::demo::tab::Tab;

/// What Chromium says of a certificate by an authority that it does not trust.
const NOT_TRUSTED: &str = "ERR_CERT_AUTHORITY_INVALID";

impl Proof<'_> {
    /// Checks both pages, and that a browser which does not trust the authority does not load them.
    pub(super) fn https(&mut self) -> anyhow::Result<()> {
        let origin = self.cluster.origin()?;
        let title = format!(
            "both pages are secure contexts at {origin}, and each has one connection, by {}",
            wss(&origin)?
        );
        self.step(&title, |proof| {
            let mut tabs = proof.tabs.iter();
            tabs.try_for_each(|tab| is_secure(tab, &origin))
        })?;
        let url = self.cluster.page_url()?;
        let title = "a browser that does not trust the authority does not load the page";
        self.step(title, |proof| {
            let home = Home::new()?;
            let settings = Settings {
                home: Some(&home),
                ..Settings::default()
            };
            let browser = Browser::start(proof.programs, settings)?;
            let tab = Tab::new(&browser.session, browser.session.window()?);
            // Some versions of the driver report it, and others what the browser shows instead.
            let why = match tab.open(&url) {
                Ok(()) => tab.text()?,
                Err(error) => format!("{error:#}"),
            };
            ensure!(why.contains(NOT_TRUSTED), "it shows {why:?}");
            let shown = tab.read()?;
            ensure!(shown.state == "no page", "it shows {shown:?}");
            Ok(())
        })
    }

    /// Checks tab 2, which has lived through all other steps.
    pub(super) fn https_until_the_end(&mut self) -> anyhow::Result<()> {
        let origin = self.cluster.origin()?;
        let title = format!("tab 2 has dialled nothing but {}", wss(&origin)?);
        self.step(&title, |proof| is_secure(&proof.tabs[1], &origin))
    }
}

/// Returns the only URL that the tabs of the page at `origin` dial.
fn wss(origin: &str) -> anyhow::Result<String> {
    let rest = origin.strip_prefix("https:");
    let rest = rest.with_context(|| format!("the page is at {origin}, without TLS"))?;
    Ok(format!("wss:{rest}/"))
}

/// Fails unless a tab shows the page at `origin` as a secure context, and has dialled only the one URL, where it has one
/// connection.
fn is_secure(tab: &Tab<'_>, origin: &str) -> anyhow::Result<()> {
    let url = wss(origin)?;
    let security = tab.security()?;
    ensure!(security.is_secure_context, "it is no secure context");
    ensure!(security.origin == origin, "it is at {}", security.origin);
    let sockets = security.sockets.iter();
    let open = sockets.clone().filter(|socket| socket.is_open).count();
    ensure!(
        open == 1 && sockets.clone().all(|socket| socket.url == url),
        "it has the WebSockets {:?}",
        security.sockets
    );
    Ok(())
}
