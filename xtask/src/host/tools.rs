//! Command-line tools in exact versions, built once and kept in a cache of their own.
//!
//! Each version has its own folder outside cargo's home, so that two projects that pin different
//! versions of wasm-bindgen do not overwrite each other's. A tool on PATH is used if its version is
//! the pinned one.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::host::command;
use crate::host::workspace::Workspace;

/// A tool that `cargo install` builds.
#[derive(Debug)]
pub(crate) struct Tool {
    /// The package on crates.io.
    package: &'static str,
    program: &'static str,
    version: String,
    /// The arguments that make the program print its version as the last word.
    version_args: &'static [&'static str],
    install_args: &'static [&'static str],
    /// Build time on two cores, shown to the user.
    takes: &'static str,
}

impl Tool {
    /// Returns wasm-bindgen in the version of the library in Cargo.lock. The two must be equal.
    pub(crate) fn wasm_bindgen(workspace: &Workspace) -> anyhow::Result<Self> {
        Ok(Self {
            package: "wasm-bindgen-cli",
            program: "wasm-bindgen",
            version: workspace.locked_version("wasm-bindgen")?,
            version_args: &["--version"],
            // The default features are a TLS client for commands that are not used here. Without
            // `--locked`, because the lock file published with 0.2.130 names a yanked version.
            install_args: &["--no-default-features"],
            takes: "about two minutes",
        })
    }

    /// Returns wasm-pack, which runs tests in a browser.
    pub(crate) fn wasm_pack() -> Self {
        Self {
            package: "wasm-pack",
            program: "wasm-pack",
            version: "0.15.1".to_owned(),
            version_args: &["--version"],
            install_args: &["--locked"],
            takes: "about two minutes",
        }
    }

    /// Returns geckodriver, through which tests run in Firefox.
    pub(crate) fn geckodriver() -> Self {
        Self {
            package: "geckodriver",
            program: "geckodriver",
            version: "0.37.1".to_owned(),
            version_args: &["--version"],
            install_args: &["--locked"],
            takes: "about four minutes",
        }
    }

    /// Returns cargo-deny, which checks the licences, bans, sources and advisories in deny.toml.
    pub(crate) fn cargo_deny() -> Self {
        Self {
            package: "cargo-deny",
            program: "cargo-deny",
            version: "0.20.2".to_owned(),
            version_args: &["--version"],
            install_args: &["--locked"],
            takes: "about three minutes",
        }
    }

    /// Returns cargo-machete, which finds dependencies that no source file names.
    pub(crate) fn cargo_machete() -> Self {
        Self {
            package: "cargo-machete",
            program: "cargo-machete",
            version: "0.9.2".to_owned(),
            version_args: &["--version"],
            install_args: &["--locked"],
            takes: "about a minute",
        }
    }

    /// Returns cargo-mutants, which tries whether the tests notice defects that it puts in.
    pub(crate) fn cargo_mutants() -> Self {
        Self {
            package: "cargo-mutants",
            program: "cargo-mutants",
            version: "27.1.0".to_owned(),
            version_args: &["mutants", "--version"],
            install_args: &["--locked"],
            takes: "about two minutes",
        }
    }

    /// Returns the program's path, after building it if it is missing.
    pub(crate) fn ensure(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = find_program(self.program)
            && self.is_version(&path)
        {
            return Ok(path);
        }
        let cache = cache()?;
        let root = cache.join(format!("{}-{}", self.package, self.version));
        let program =
            root.join("bin")
                .join(format!("{}{}", self.program, std::env::consts::EXE_SUFFIX));
        if self.is_version(&program) {
            return Ok(program);
        }
        let _lock = lock(&cache)?;
        // Another run may have built it while this one waited for the lock.
        if !self.is_version(&program) {
            self.install(&root)?;
        }
        Ok(program)
    }

    fn install(&self, root: &Path) -> anyhow::Result<()> {
        println!(
            "Building {} {} ({}, once) into {}",
            self.package,
            self.version,
            self.takes,
            root.display()
        );
        // A separate folder, so that neither the workspace's build output nor its lock is touched.
        let build = tempfile::tempdir().context("cannot create a temporary folder")?;
        let mut install = std::process::Command::new("cargo");
        install
            .args(["install", self.package, "--version", &self.version])
            .args(self.install_args)
            .arg("--force")
            .arg("--root")
            .arg(root)
            .env("CARGO_TARGET_DIR", build.path())
            // The workspace's settings are meant for its own packages only.
            .env_remove("RUSTFLAGS")
            .current_dir(build.path());
        command::run(&mut install).with_context(|| {
            format!(
                "cannot build {}; by hand: cargo install {} --version {} {}",
                self.program,
                self.package,
                self.version,
                self.install_args.join(" ")
            )
        })
    }

    fn is_version(&self, path: &Path) -> bool {
        command::output(path, self.version_args)
            .is_some_and(|text| text.split_whitespace().last() == Some(&self.version))
    }
}

/// Returns the path of a program on PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(&file))
        .find(|path| path.is_file())
}

/// Returns PATH with `folders` in front.
pub(crate) fn path_with(folders: &[&Path]) -> anyhow::Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let before = folders.iter().map(|folder| folder.to_path_buf());
    std::env::join_paths(before.chain(std::env::split_paths(&path)))
        .context("the name of a folder cannot be part of PATH")
}

/// Locks the cache until the returned file is dropped, so that two runs install one after the
/// other.
pub(crate) fn lock(cache: &Path) -> anyhow::Result<File> {
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        println!("Waiting for another run to finish installing");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Returns the folder of all tools, after creating it if it is missing.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let path = if let Some(path) = set("GOSSIP_TRANSPORT_TOOLS") {
        PathBuf::from(path)
    } else if let Some(path) = set("XDG_CACHE_HOME") {
        Path::new(&path).join("gossip-transport/tools")
    } else {
        let home = std::env::home_dir()
            .context("no home directory: set GOSSIP_TRANSPORT_TOOLS to a folder for tools")?;
        home.join(".cache/gossip-transport/tools")
    };
    std::fs::create_dir_all(&path).with_context(|| {
        format!(
            "cannot create {}; GOSSIP_TRANSPORT_TOOLS can name another folder",
            path.display()
        )
    })?;
    Ok(path)
}
