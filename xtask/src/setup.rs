//! What a command needs beyond cargo: installed where that is possible without asking, else
//! refused with one line that says what to install.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::workspace::Workspace;
use crate::{command, tools};

/// The target of the browser build.
pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// Makes sure that the toolchain can build for the browser.
pub(crate) fn wasm_target(workspace: &Workspace) -> anyhow::Result<()> {
    let installed = || {
        let folder = Command::new("rustc")
            .args(["--print", "target-libdir", "--target", WASM])
            .current_dir(&workspace.root)
            .output();
        folder.is_ok_and(|output| {
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
        })
    };
    if installed() {
        return Ok(());
    }
    let by_hand = format!("rustup target add {WASM}");
    if tools::find_program("rustup").is_none() {
        bail!("the Rust toolchain lacks {WASM}, and there is no rustup to add it: {by_hand}");
    }
    println!("Adding the target {WASM} to the Rust toolchain");
    let mut add = Command::new("rustup");
    add.args(["target", "add", WASM])
        .current_dir(&workspace.root);
    command::run(&mut add).with_context(|| format!("by hand: {by_hand}"))
}

/// A browser that can be driven by a program.
#[derive(Debug, Clone)]
pub(crate) struct Browser {
    pub(crate) chrome: PathBuf,
    pub(crate) driver: PathBuf,
}

const CHROME_NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];
const BY_HAND: &str = "sudo apt-get update && sudo apt-get install -y --no-install-recommends chromium chromium-driver";

/// Finds Chromium or Chrome and its driver; installs Chromium on Debian and its like, as root.
///
/// `CHROME` and `CHROMEDRIVER` name programs that are not on PATH.
pub(crate) fn browser() -> anyhow::Result<Browser> {
    if let Some(browser) = find_browser()? {
        return Ok(browser);
    }
    let Some(apt) = tools::find_program("apt-get") else {
        bail!(
            "no browser: install Chromium or Chrome and its chromedriver, \
             or set CHROME and CHROMEDRIVER to their programs"
        );
    };
    // Asking for a password is not "without asking".
    if command::output("id", &["-u"]).as_deref() != Some("0") {
        bail!("no browser with its driver (chromium, chromedriver). Install both: {BY_HAND}");
    }
    let _lock = tools::lock(&tools::cache()?)?;
    if let Some(browser) = find_browser()? {
        return Ok(browser);
    }
    println!("Installing chromium and chromium-driver with apt-get (about 440 MB, once)");
    // Another apt may be at work, as on a machine that has just started.
    let patience = ["-o", "DPkg::Lock::Timeout=300"];
    let apt_get = |args: &[&str]| {
        let mut command = Command::new(&apt);
        command
            .args(patience)
            .args(["-qq"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive");
        command::run(&mut command).with_context(|| format!("by hand: {BY_HAND}"))
    };
    apt_get(&["update"])?;
    apt_get(&[
        "install",
        "-y",
        "--no-install-recommends",
        "chromium",
        "chromium-driver",
    ])?;
    find_browser()?.with_context(|| {
        format!(
            "apt-get has installed chromium, but chromium or chromedriver is not on PATH: {BY_HAND}"
        )
    })
}

fn find_browser() -> anyhow::Result<Option<Browser>> {
    let chrome = match named("CHROME")? {
        Some(path) => Some(path),
        None => CHROME_NAMES.into_iter().find_map(tools::find_program),
    };
    let driver = match named("CHROMEDRIVER")? {
        Some(path) => Some(path),
        None => tools::find_program("chromedriver"),
    };
    Ok(chrome
        .zip(driver)
        .map(|(chrome, driver)| Browser { chrome, driver }))
}

/// The program that an environment variable names.
fn named(variable: &str) -> anyhow::Result<Option<PathBuf>> {
    match std::env::var_os(variable).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => {
            let path = PathBuf::from(value);
            if !path.is_file() {
                bail!("{variable} names {}, which is no file", path.display());
            }
            Ok(Some(path))
        }
    }
}
