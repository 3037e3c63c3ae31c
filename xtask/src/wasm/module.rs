//! A package as a wasm module with its JavaScript: built by cargo and wasm-bindgen, and shrunk by
//! two optimisers.
//!
//! Invariant: the same sources, tools and lock file produce the same bytes on every machine, so that
//! sizes can be compared. A module contains no path of the machine that built it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::host::tools::Tool;
use crate::host::workspace::Workspace;
use crate::host::{command, npm};
use crate::wasm::glue::Renamed;
use crate::wasm::{sections, target};

/// The profile in the workspace's Cargo.toml that prefers small code to fast code.
const PROFILE: &str = "web";

/// The arguments of wasm-opt with the smallest result after gzip, of those that were tried. Without
/// the size limit, functions with one caller are inlined: 1 % less before compression, 4 % more
/// after it.
const OPTIMISE: [&str; 4] = [
    "-Oz",
    "--one-caller-inline-max-function-size=15",
    // Puts the instances of a generic function next to each other, where gzip finds the repetition:
    // 2 % less.
    "--reorder-functions-by-name",
    "--minify-imports-and-exports-and-modules",
];

/// A package that is built for the browser.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Module {
    pub(crate) package: &'static str,
    /// The stem of its files' names.
    pub(crate) name: &'static str,
}

/// The participant for JavaScript, a member of a cluster.
pub(crate) const PARTICIPANT: Module = Module {
    package: "gossip-web",
    name: "gossip_web",
};

/// The transport for JavaScript, without the gossip engine.
pub(crate) const TRANSPORT: Module = Module {
    package: "gossip-web-transport",
    name: "gossip_web_transport",
};

/// The browser's side of the benchmark.
pub(crate) const BENCH: Module = Module {
    package: "gossip-bench-page",
    name: "gossip_bench_page",
};

/// The programs that shrink a module and its JavaScript.
#[derive(Debug)]
pub(crate) struct Optimisers {
    wasm_opt: PathBuf,
    terser: PathBuf,
}

impl Optimisers {
    /// Finds the programs, after installing those that are missing.
    ///
    /// # Errors
    ///
    /// Fails if there is no npm, or if it cannot install them.
    pub(crate) fn ensure() -> anyhow::Result<Self> {
        Ok(Self {
            wasm_opt: npm::WASM_OPT.ensure()?,
            terser: npm::TERSER.ensure()?,
        })
    }
}

impl Module {
    /// Returns the path of the wasm module in a folder that [`build`](Self::build) wrote to.
    pub(crate) fn wasm(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}_bg.wasm", self.name))
    }

    /// Returns the path of the JavaScript in a folder that [`build`](Self::build) wrote to.
    pub(crate) fn glue(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.js", self.name))
    }

    /// Builds the module and its JavaScript into `folder`, which is created if it is missing.
    ///
    /// Returns the module, function names included. With `optimisers`, the module in the folder has
    /// no names.
    pub(crate) fn build(
        &self,
        workspace: &Workspace,
        optimisers: Option<&Optimisers>,
        folder: &Path,
    ) -> anyhow::Result<Vec<u8>> {
        target::ensure(workspace)?;
        let wasm_bindgen = Tool::wasm_bindgen(workspace)?.ensure()?;
        let mut cargo = workspace.cargo(&["build", "--quiet", "--package", self.package]);
        cargo
            .args(["--target", target::WASM, "--profile", PROFILE])
            .env("CARGO_ENCODED_RUSTFLAGS", without_paths(workspace)?)
            // Incremental builds split the module into units that are optimised separately.
            .env("CARGO_INCREMENTAL", "0");
        command::run(&mut cargo)?;

        let built = workspace.target.join(target::WASM).join(PROFILE);
        let mut bindgen = Command::new(wasm_bindgen);
        bindgen
            .args(["--target", "web", "--no-typescript", "--out-dir"])
            .arg(folder)
            .arg(built.join(format!("{}.wasm", self.name)));
        command::run(&mut bindgen)?;
        if let Some(optimisers) = optimisers {
            self.optimise(optimisers, folder)
        } else {
            read(&self.wasm(folder))
        }
    }

    fn optimise(&self, optimisers: &Optimisers, folder: &Path) -> anyhow::Result<Vec<u8>> {
        let wasm = self.wasm(folder);
        let mut wasm_opt = Command::new(&optimisers.wasm_opt);
        // Keeps the names, which the table of parts needs. They are removed below.
        wasm_opt.args(OPTIMISE).arg("--debuginfo");
        wasm_opt.arg(&wasm).arg("--output").arg(&wasm);
        let renamed = Renamed::parse(&command::run_for_output(&mut wasm_opt)?)?;
        let named = read(&wasm)?;
        let stripped = sections::without_custom(&named)?;
        fs::write(&wasm, stripped).with_context(|| format!("cannot write {}", wasm.display()))?;

        let glue = self.glue(folder);
        let text =
            fs::read_to_string(&glue).with_context(|| format!("cannot read {}", glue.display()))?;
        fs::write(&glue, renamed.apply(&text)?)
            .with_context(|| format!("cannot write {}", glue.display()))?;
        let mut terser = Command::new(&optimisers.terser);
        terser.args(["--module", "--compress", "--mangle", "--output"]);
        terser.arg(&glue).arg("--").arg(&glue);
        command::run(&mut terser)?;
        Ok(named)
    }
}

/// Returns compiler flags that keep the machine's paths out of the messages of panics.
fn without_paths(workspace: &Workspace) -> anyhow::Result<OsString> {
    let home = match std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir()
            .context("no home directory: set CARGO_HOME")?
            .join(".cargo"),
    };
    let mut prefixes = vec![workspace.root.clone()];
    // Cargo has one folder for each registry.
    let registries = fs::read_dir(home.join("registry/src"))
        .into_iter()
        .flatten();
    for registry in registries {
        prefixes.push(registry?.path());
    }
    let mut flags = OsString::new();
    for prefix in prefixes {
        if !flags.is_empty() {
            // The separator of flags in CARGO_ENCODED_RUSTFLAGS.
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(prefix);
        flags.push(std::path::MAIN_SEPARATOR_STR);
        flags.push("=");
    }
    Ok(flags)
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
