//! Chromium and its driver: found on this machine, or installed if that needs no question to the
//! user.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::host::apt::{self, Apt, Unavailable};
use crate::host::tools;

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
