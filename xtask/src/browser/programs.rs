//! Chromium and Firefox and their drivers: found on this machine, or installed if that needs no question to
//! the user.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::host::apt::{self, Apt, Unavailable};
use crate::host::tools::{self, Tool};

/// The programs of a browser that can be remote-controlled.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) chrome: PathBuf,
    pub(crate) driver: PathBuf,
}

const CHROME_NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];
/// Debian's packages of both programs.
const PACKAGES: [&str; 2] = ["chromium", "chromium-driver"];

impl Programs {
    /// Finds Chromium or Chrome and its driver. Installs Chromium if both are missing, this is
    /// Debian or a derivative, and this process runs as root.
    ///
    /// The environment variables `CHROME` and `CHROMEDRIVER` name programs that are not on PATH.
    ///
    /// # Errors
    ///
    /// Fails with what to install if a program is missing and cannot be installed.
    pub(crate) fn ensure() -> anyhow::Result<Self> {
        if let Some(programs) = Self::find()? {
            return Ok(programs);
        }
        let apt = match Apt::find() {
            Ok(apt) => apt,
            Err(Unavailable::NoAptGet) => bail!(
                "no browser: install Chromium or Chrome and its chromedriver, \
                 or set CHROME and CHROMEDRIVER to their programs"
            ),
            Err(Unavailable::NotRoot) => bail!(
                "no browser with its driver (chromium, chromedriver). Install both: {}",
                apt::by_hand(&PACKAGES)
            ),
        };
        let _lock = tools::lock(&tools::cache()?)?;
        if let Some(programs) = Self::find()? {
            return Ok(programs);
        }
        apt.install(&PACKAGES, "about 440 MB")?;
        Self::find()?.with_context(|| {
            format!(
                "apt-get has installed chromium, but chromium or chromedriver is not on PATH: {}",
                apt::by_hand(&PACKAGES)
            )
        })
    }

    fn find() -> anyhow::Result<Option<Self>> {
        let chrome = match from_variable("CHROME")? {
            Some(path) => Some(path),
            None => CHROME_NAMES.into_iter().find_map(tools::find_program),
        };
        let driver = match from_variable("CHROMEDRIVER")? {
            Some(path) => Some(path),
            None => tools::find_program("chromedriver"),
        };
        Ok(chrome
            .zip(driver)
            .map(|(chrome, driver)| Self { chrome, driver }))
    }
}

/// The programs of Firefox.
#[derive(Debug, Clone)]
pub(crate) struct Firefox {
    pub(crate) firefox: PathBuf,
    pub(crate) driver: PathBuf,
}

const FIREFOX_NAMES: [&str; 2] = ["firefox-esr", "firefox"];
const FIREFOX_PACKAGE: [&str; 1] = ["firefox-esr"];

impl Firefox {
    /// Finds Firefox, or installs it as [`Programs::ensure`] does Chromium, and builds its driver.
    ///
    /// The environment variables `FIREFOX` and `GECKODRIVER` name programs that are not on PATH.
    ///
    /// # Errors
    ///
    /// Fails with what to install if a program is missing and cannot be installed.
    pub(crate) fn ensure() -> anyhow::Result<Self> {
        let find = || -> anyhow::Result<Option<PathBuf>> {
            let found = || FIREFOX_NAMES.into_iter().find_map(tools::find_program);
            Ok(from_variable("FIREFOX")?.or_else(found))
        };
        let firefox = match find()? {
            Some(firefox) => firefox,
            None => {
                let Ok(apt) = Apt::find() else {
                    bail!(
                        "no Firefox: install it, or set FIREFOX to its program (on Debian: {})",
                        apt::by_hand(&FIREFOX_PACKAGE)
                    );
                };
                let lock = tools::lock(&tools::cache()?)?;
                apt.install(&FIREFOX_PACKAGE, "about 250 MB")?;
                drop(lock);
                find()?.context("apt-get has installed Firefox, but it is not on PATH")?
            }
        };
        let driver = match from_variable("GECKODRIVER")? {
            Some(driver) => driver,
            None => Tool::geckodriver().ensure()?,
        };
        Ok(Self { firefox, driver })
    }
}

/// Returns the program that an environment variable names. Fails if it is not a file.
fn from_variable(variable: &str) -> anyhow::Result<Option<PathBuf>> {
    match std::env::var_os(variable).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => {
            let path = PathBuf::from(value);
            if !path.is_file() {
                bail!("{variable} is {}, which is not a file", path.display());
            }
            Ok(Some(path))
        }
    }
}
