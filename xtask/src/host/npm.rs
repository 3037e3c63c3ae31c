//! Tools from npm, in exact versions, in the same cache as cargo's.
//!
//! They shrink what a browser downloads. A page that was built without them works as well, but is
//! larger, so each caller decides whether their absence is an error.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::host::{command, tools};

/// Advice to the user for when [`NpmTool::ensure`] fails.
const BY_HAND: &str =
    "install Node.js 20 or later with npm (on Debian: sudo apt-get install -y nodejs npm)";

/// An npm package, and the program in it that is used.
#[derive(Debug)]
pub(crate) struct NpmTool {
    package: &'static str,
    version: &'static str,
    program: &'static str,
}

/// Binaryen's optimiser. It comes from npm because Debian's version (108) writes modules that do
/// not start, and because building it takes eleven minutes.
pub(crate) const WASM_OPT: NpmTool = NpmTool {
    package: "binaryen",
    version: "132.0.0",
    program: "wasm-opt",
};

/// A JavaScript minifier whose dependencies need no build step.
pub(crate) const TERSER: NpmTool = NpmTool {
    package: "terser",
    version: "5.51.2",
    program: "terser",
};

impl NpmTool {
    /// Returns the program's path, after installing it if it is missing.
    pub(crate) fn ensure(&self) -> anyhow::Result<PathBuf> {
        for program in ["node", "npm"] {
            if tools::find_program(program).is_none() {
                bail!("{program} is not on PATH: {BY_HAND}");
            }
        }
        let cache = tools::cache()?;
        let root = cache.join(format!("{}-{}", self.package, self.version));
        if self.is_installed(&root) {
            return Ok(self.path(&root));
        }
        let _lock = tools::lock(&cache)?;
        // Another run may have installed it while this one waited for the lock.
        if !self.is_installed(&root) {
            self.install(&root)?;
        }
        Ok(self.path(&root))
    }

    fn install(&self, root: &Path) -> anyhow::Result<()> {
        let package = format!("{}@{}", self.package, self.version);
        println!(
            "Installing {package} with npm (once) into {}",
            root.display()
        );
        std::fs::create_dir_all(root)
            .with_context(|| format!("cannot create {}", root.display()))?;
        let mut install = Command::new("npm");
        install
            .args(["install", "--silent", "--no-audit", "--no-fund"])
            // Neither package has install scripts, so no foreign code runs during the install.
            .arg("--ignore-scripts")
            .arg("--prefix")
            .arg(root)
            .arg(&package)
            .current_dir(root);
        command::run(&mut install)?;
        if !self.is_installed(root) {
            bail!(
                "npm installed {package}, which does not contain {}",
                self.program
            );
        }
        Ok(())
    }

    fn path(&self, root: &Path) -> PathBuf {
        root.join("node_modules/.bin").join(self.program)
    }

    fn is_installed(&self, root: &Path) -> bool {
        // npm writes this file last.
        root.join("node_modules/.package-lock.json").is_file() && self.path(root).exists()
    }
}
