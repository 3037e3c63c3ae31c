//! A headless Chromium under remote control.
//!
//! It starts and ends the browser and its driver, and does not look at what a page shows.

pub(crate) mod home;
pub(crate) mod programs;
pub(crate) mod webdriver;

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::browser::home::Home;
use crate::browser::programs::{Firefox, Programs};
use crate::browser::webdriver::Session;
use crate::host::freeze::Frozen;
use crate::host::http::Client;
use crate::host::process::Process;
use crate::host::{wait, workspace};

/// Limit from the start of the driver until it prints its port.
const DRIVER_WITHIN: Duration = Duration::from_secs(20);

/// Attempts to start a driver that ends at once.
const DRIVER_STARTS: u32 = 5;

/// Arguments for a machine without a screen. They also keep the browser from contacting servers of
/// its vendor.
const ARGUMENTS: [&str; 10] = [
    "--headless",
    // Chromium's sandbox does not work as root, nor in containers without user namespaces. The
    // pages that are opened are this workspace's own.
    "--no-sandbox",
    "--disable-gpu",
    // In containers /dev/shm usually has 64 MB.
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// Only one of two tabs can be in front. In the other, timers would be throttled to one a second and
/// the page would not be drawn, but the demo's check is about the cluster, not about throttling.
const ALL_TABS_AWAKE: [&str; 3] = [
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
];

/// What happens to the messages that a page writes to its console.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Console {
    #[default]
    Ignored,
    /// The driver keeps them for [`Session::console`].
    Recorded,
}

/// What distinguishes a browser from others.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Settings<'a> {
    /// Arguments besides those of every browser.
    pub(crate) arguments: &'a [&'a str],
    pub(crate) console: Console,
    /// The home folder. `None` for that of this program.
    pub(crate) home: Option<&'a Home>,
}

/// A browser and its driver. Dropping it ends both and removes the profile.
#[derive(Debug)]
pub(crate) struct Browser {
    pub(crate) session: Session,
    // Dropped after the session, which needs the driver.
    driver: Process,
    _dir: TempDir,
}

impl Browser {
    /// Starts the driver on a free port, and a browser with a new profile.
    pub(crate) fn start(programs: &Programs, settings: Settings<'_>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("gossip-browser.")
            .tempdir()?;
        let log = dir.path().join("chromedriver.log");
        let (driver, url) = start_driver(&programs.driver, settings.home, &log)?;
        let arguments: Vec<String> = ARGUMENTS
            .iter()
            .chain(&ALL_TABS_AWAKE)
            .chain(settings.arguments)
            .map(|&argument| argument.to_owned())
            .chain([
                "--window-size=1280,900".to_owned(),
                format!("--user-data-dir={}", dir.path().join("profile").display()),
            ])
            .collect();
        let mut capabilities = capabilities(programs, &arguments);
        if settings.console == Console::Recorded
            && let Some(fields) = capabilities.as_object_mut()
        {
            fields.insert("goog:loggingPrefs".to_owned(), json!({ "browser": "ALL" }));
        }
        let session = Session::start(Client::new(), &url, &capabilities)
            .with_context(|| workspace::tail(&log, 5))?;
        Ok(Self {
            session,
            driver,
            _dir: dir,
        })
    }

    /// Stops the browser, with all of its tabs, until the result is dropped. Its driver goes on.
    pub(crate) fn freeze(&self) -> Frozen {
        Frozen::descendants_of(self.driver.id())
    }
}

/// Returns the WebDriver capabilities of a new session.
fn capabilities(programs: &Programs, arguments: &[String]) -> Value {
    json!({ "goog:chromeOptions": { "binary": programs.chrome, "args": arguments } })
}

/// Returns the WebDriver capabilities with which wasm-bindgen's test runner, which adds arguments of its
/// own, starts Chromium.
pub(crate) fn chromium_capabilities(programs: &Programs) -> Value {
    capabilities(programs, &ARGUMENTS.map(ToOwned::to_owned))
}

/// Returns the WebDriver capabilities with which wasm-bindgen's test runner starts Firefox.
pub(crate) fn firefox_capabilities(programs: &Firefox) -> Value {
    json!({ "moz:firefoxOptions": { "binary": programs.firefox, "args": ["-headless"] } })
}

/// Starts the driver and returns it with its URL, after at most [`DRIVER_STARTS`] attempts.
///
/// With `--port=0` chromedriver takes a port that is free on `::1`, and ends if any program uses it on
/// 127.0.0.1.
fn start_driver(
    program: &Path,
    home: Option<&Home>,
    log: &Path,
) -> anyhow::Result<(Process, String)> {
    let mut last = None;
    for _ in 0..DRIVER_STARTS {
        let mut driver = spawn_driver(program, home, log)?;
        match driver_port_within(&mut driver, log)? {
            Ok(port) => return Ok((driver, format!("http://127.0.0.1:{port}"))),
            Err(status) => last = Some(status),
        }
    }
    let status = last.map_or_else(String::new, |status| status.to_string());
    bail!(
        "chromedriver ended at once ({status}), {DRIVER_STARTS} times: {}",
        workspace::tail(log, 5)
    )
}

/// Starts the driver, whose browser has its environment.
fn spawn_driver(program: &Path, home: Option<&Home>, log: &Path) -> anyhow::Result<Process> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(program);
    command
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    if let Some(home) = home {
        command.env("HOME", home.path());
    }
    Process::spawn(&mut command)
}

/// Waits until the driver has logged the port on which it listens, or has ended.
fn driver_port_within(driver: &mut Process, log: &Path) -> anyhow::Result<Result<u16, ExitStatus>> {
    wait::until(DRIVER_WITHIN, || {
        if let Some(status) = driver.ended() {
            return Ok(Ok(Err(status)));
        }
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let port = driver_port(&text).map(Ok);
        Ok(port.ok_or_else(|| "chromedriver has not logged its port".to_owned()))
    })
}

/// Finds the port in the line "... started successfully on port N.".
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
    use super::{driver_port, start_driver};

    #[test]
    fn the_port_is_read_from_the_line_that_reports_the_drivers_start() {
        let log = "Starting ChromeDriver 140.0 on port 0\n\
                   ChromeDriver was started successfully on port 41235.\n";
        assert_eq!(driver_port(log), Some(41235));
        assert_eq!(driver_port("Starting ChromeDriver on port 0\n"), None);
    }

    /// A program that ends with "Address already in use" until it has been started `starts` times.
    #[cfg(unix)]
    fn driver_that_starts_after(starts: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("driver");
        let text = format!(
            "#!/bin/sh\n\
             echo >> \"$0.starts\"\n\
             test $(wc -l < \"$0.starts\") -ge {starts} || {{ echo 'bind() failed: Address already in use (98)'; exit 1; }}\n\
             echo \"$0 was started successfully on port 41235.\"\n\
             exec sleep 60\n"
        );
        let draft = dir.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        // By another process. A file that this one has open for writing may be open in a process that another
        // test starts just then, and cannot be run while it is.
        let mut install = std::process::Command::new("install");
        install.args(["-m", "700"]).args([&draft, &program]);
        assert!(install.status().unwrap().success());
        (dir, program)
    }

    #[cfg(unix)]
    #[test]
    fn a_driver_whose_port_another_program_has_taken_is_started_again() {
        let (dir, program) = driver_that_starts_after(3);
        let (_driver, url) = start_driver(&program, None, &dir.path().join("log")).unwrap();
        assert_eq!(url, "http://127.0.0.1:41235");
    }

    #[cfg(unix)]
    #[test]
    fn a_driver_that_never_starts_is_an_error_with_its_last_words() {
        let (dir, program) = driver_that_starts_after(100);
        let error = start_driver(&program, None, &dir.path().join("log"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("5 times"), "{error}");
        assert!(error.contains("Address already in use"), "{error}");
    }
}
