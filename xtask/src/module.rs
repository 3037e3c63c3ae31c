//! Builds a module for the browser: cargo, wasm-bindgen, and the two optimisers.
//!
//! Invariant: the same sources, tools and lock file give the same bytes on every machine, so that
//! sizes can be compared. No path of the machine gets into a module.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::glue::Renamed;
use crate::tools::Tool;
use crate::workspace::Workspace;
use crate::{command, npm, sections, setup};

/// The profile in the workspace's Cargo.toml: small before fast.
const PROFILE: &str = "web";

/// Smallest after gzip of what was tried. Without the limit, functions with one caller grow into
/// each other: 1 % less before compression, 4 % more after it.
const OPTIMISE: [&str; 4] = [
    "-Oz",
    "--one-caller-inline-max-function-size=15",
    // Instances of one generic function side by side, where gzip finds them: 2 % less.
    "--reorder-functions-by-name",
    "--minify-imports-and-exports-and-modules",
];

/// A package that is built for the browser.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Module {
    pub(crate) package: &'static str,
    /// What its files are called.
    pub(crate) name: &'static str,
}

/// A member of a cluster.
pub(crate) const PARTICIPANT: Module = Module {
    package: "gossip-web",
    name: "gossip_web",
};

/// The transport without the engine.
pub(crate) const TRANSPORT: Module = Module {
    package: "gossip-web-transport",
    name: "gossip_web_transport",
};

/// Our side of the benchmark in a browser.
pub(crate) const BENCH: Module = Module {
    package: "gossip-bench-page",
    name: "gossip_bench_page",
};

/// The programs that make a module small.
#[derive(Debug)]
pub(crate) struct Optimisers {
    wasm_opt: PathBuf,
    terser: PathBuf,
}

impl Optimisers {
    /// Installs what is missing.
    ///
    /// # Errors
    ///
    /// There is no npm, or it cannot install them.
    pub(crate) fn ensure() -> anyhow::Result<Self> {
        Ok(Self {
            wasm_opt: npm::WASM_OPT.ensure()?,
            terser: npm::TERSER.ensure()?,
        })
    }
}

impl Module {
    /// The module in a folder that [`build`](Self::build) wrote to.
    pub(crate) fn wasm(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}_bg.wasm", self.name))
    }

    /// The JavaScript beside it.
    pub(crate) fn glue(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.js", self.name))
    }

    /// Builds into `folder`, which is made if absent. Gives the module with the names of its
    /// functions, which the one in the folder does not have if it is optimised.
    pub(crate) fn build(
        &self,
        workspace: &Workspace,
        optimisers: Option<&Optimisers>,
        folder: &Path,
    ) -> anyhow::Result<Vec<u8>> {
        setup::wasm_target(workspace)?;
        let wasm_bindgen = Tool::wasm_bindgen(workspace)?.ensure()?;
        let mut cargo = workspace.cargo(&["build", "--quiet", "--package", self.package]);
        cargo
            .args(["--target", setup::WASM, "--profile", PROFILE])
            .env("CARGO_ENCODED_RUSTFLAGS", without_paths(workspace)?)
            // Would cut the module into pieces that are optimised one by one.
            .env("CARGO_INCREMENTAL", "0");
        command::run(&mut cargo)?;

        let built = workspace.target.join(setup::WASM).join(PROFILE);
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
        // With names, for the table of parts; they are cut off below.
        wasm_opt.args(OPTIMISE).arg("--debuginfo");
        wasm_opt.arg(&wasm).arg("--output").arg(&wasm);
        let renamed = Renamed::read(&command::run_for_output(&mut wasm_opt)?)?;
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

/// Compiler flags that leave the places of sources out of the messages of panics.
fn without_paths(workspace: &Workspace) -> anyhow::Result<OsString> {
    let home = match std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir()
            .context("where is cargo's home? Set CARGO_HOME")?
            .join(".cargo"),
    };
    let mut prefixes = vec![workspace.root.clone()];
    // One folder for each registry.
    let registries = fs::read_dir(home.join("registry/src"))
        .into_iter()
        .flatten();
    for registry in registries {
        prefixes.push(registry?.path());
    }
    let mut flags = OsString::new();
    for prefix in prefixes {
        if !flags.is_empty() {
            // What separates flags in CARGO_ENCODED_RUSTFLAGS.
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(prefix);
        flags.push(std::path::MAIN_SEPARATOR_STR);
        flags.push("=");
    }
    Ok(flags)
}

/// A file's bytes.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
