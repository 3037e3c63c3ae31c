//! Tools from npm, in exact versions, in the same cache as cargo's.
//!
//! They shrink what a browser downloads. Without npm a page still works, only larger: whoever
//! needs them decides whether that is an error.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{command, tools};

/// What to do where [`NpmTool::ensure`] fails.
pub(crate) const BY_HAND: &str =
    "install Node.js 20 or later with npm (on Debian: sudo apt-get install -y nodejs npm)";

/// A package, and the program that is wanted of it.
#[derive(Debug)]
pub(crate) struct NpmTool {
    package: &'static str,
    version: &'static str,
    program: &'static str,
}

/// Binaryen's optimiser. From npm, since Debian's (108) writes modules that do not start, and
/// building it takes eleven minutes.
pub(crate) const WASM_OPT: NpmTool = NpmTool {
    package: "binaryen",
    version: "132.0.0",
    program: "wasm-opt",
};

/// A minifier of JavaScript, without dependencies that have to be built.
pub(crate) const TERSER: NpmTool = NpmTool {
    package: "terser",
    version: "5.51.2",
    program: "terser",
};

impl NpmTool {
    /// The program's path; installs it where it is absent.
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
        // Somebody else may have installed it while we waited.
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
        std::fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let mut install = Command::new("npm");
        install
            .args(["install", "--silent", "--no-audit", "--no-fund"])
            // Neither package has one: nothing of others runs before it is called.
            .arg("--ignore-scripts")
            .arg("--prefix")
            .arg(root)
            .arg(&package)
            .current_dir(root);
        command::run(&mut install)?;
        if !self.is_installed(root) {
            bail!("npm has installed {package}, but not {}", self.program);
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
