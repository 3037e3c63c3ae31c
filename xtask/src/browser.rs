//! A headless Chromium with its driver: started, told how to behave, and ended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Client;
use crate::process::Process;
use crate::webdriver::Session;
use crate::{setup, wait, workspace};

const DRIVER_WITHIN: Duration = Duration::from_secs(20);

/// For a machine without a screen, and without a word to the outside.
pub(crate) const ARGUMENTS: [&str; 10] = [
    "--headless",
    // Chromium refuses its sandbox to root, and containers have no user namespaces for it. The
    // page is our own.
    "--no-sandbox",
    "--disable-gpu",
    // Containers give /dev/shm 64 MB.
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// Two tabs of one browser, of which only one can be in front: timers of the other would be
/// throttled to one a second, and its page would not be drawn. The check is about the cluster.
const ALL_TABS_AWAKE: [&str; 3] = [
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
];

/// A browser and its driver. Dropping it ends both, and removes the profile.
#[derive(Debug)]
pub(crate) struct Browser {
    pub(crate) session: Session,
    // After the session, which it serves.
    _driver: Process,
    _dir: TempDir,
}

impl Browser {
    /// Starts the driver on a port of its own choice, and a browser with a new profile and `more`
    /// arguments.
    pub(crate) fn start(programs: &setup::Browser, more: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("gossip-browser.")
            .tempdir()?;
        let log = dir.path().join("chromedriver.log");
        let mut driver = start_driver(programs, &log)?;
        let url = driver_url(&mut driver, &log)?;
        let arguments: Vec<String> = ARGUMENTS
            .iter()
            .chain(&ALL_TABS_AWAKE)
            .chain(more)
            .map(|&argument| argument.to_owned())
            .chain([
                "--window-size=1280,900".to_owned(),
                format!("--user-data-dir={}", dir.path().join("profile").display()),
            ])
            .collect();
        let session = Session::start(Client::new(), &url, &capabilities(programs, &arguments))
            .with_context(|| workspace::tail(&log, 5))?;
        Ok(Self {
            session,
            _driver: driver,
            _dir: dir,
        })
    }
}

/// What a driver is asked for; also what wasm-pack's test runner takes from a file.
fn capabilities(programs: &setup::Browser, arguments: &[String]) -> Value {
    json!({ "goog:chromeOptions": { "binary": programs.chrome, "args": arguments } })
}

/// Writes the capabilities for wasm-bindgen's test runner, which adds its own arguments.
pub(crate) fn write_capabilities(
    programs: &setup::Browser,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let path = folder.join("webdriver.json");
    let arguments = ARGUMENTS.map(ToOwned::to_owned);
    std::fs::write(&path, capabilities(programs, &arguments).to_string())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn start_driver(programs: &setup::Browser, log: &Path) -> anyhow::Result<Process> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(&programs.driver);
    command
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    Process::spawn(&mut command)
}

/// The driver says on which port it listens, in a line that ends in "on port N.".
fn driver_url(driver: &mut Process, log: &Path) -> anyhow::Result<String> {
    let port = wait::until(DRIVER_WITHIN, || {
        if let Some(status) = driver.ended() {
            bail!(
                "chromedriver ended at once ({status}): {}",
                workspace::tail(log, 5)
            );
        }
        let text = std::fs::read_to_string(log).unwrap_or_default();
        Ok(driver_port(&text).ok_or_else(|| "chromedriver does not say its port".to_owned()))
    })?;
    Ok(format!("http://127.0.0.1:{port}"))
}

fn driver_port(log: &str) -> Option<u16> {
    log.lines()
        .filter(|line| line.contains("started successfully"))
        .find_map(|line| {
            let (_, port) = line.trim_end().trim_end_matches('.').rsplit_once("port ")?;
            port.parse().ok()
        })
}

#[cfg(test)]
mod tests {
    use super::driver_port;

    #[test]
    fn the_port_is_read_from_the_line_that_says_that_the_driver_has_started() {
        let log = "Starting ChromeDriver 140.0 on port 0\n\
                   ChromeDriver was started successfully on port 41235.\n";
        assert_eq!(driver_port(log), Some(41235));
        assert_eq!(driver_port("Starting ChromeDriver on port 0\n"), None);
    }
}
