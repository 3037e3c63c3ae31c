//! Command-line tools in exact versions, built once and kept in a cache of our own.
//!
//! Each version has a folder of its own outside cargo's home: two projects that pin different
//! versions of wasm-bindgen do not take them from one another. A tool on PATH is used where its
//! version is the right one.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::command;
use crate::workspace::Workspace;

/// A tool that `cargo install` can build.
#[derive(Debug)]
pub(crate) struct Tool {
    /// The package on crates.io.
    package: &'static str,
    /// The program, which says its version as the second word of `--version`.
    program: &'static str,
    version: String,
    install_args: &'static [&'static str],
    /// What building it took on two cores, for the user's patience.
    takes: &'static str,
}

impl Tool {
    /// wasm-bindgen in the version that Cargo.lock has for the library: the two must be equal.
    pub(crate) fn wasm_bindgen(workspace: &Workspace) -> anyhow::Result<Self> {
        Ok(Self {
            package: "wasm-bindgen-cli",
            program: "wasm-bindgen",
            version: workspace.locked_version("wasm-bindgen")?,
            // Without the default features, which are a TLS client for other commands. Not
            // `--locked`: 0.2.130 was published with a lock file that names a yanked version.
            install_args: &["--no-default-features"],
            takes: "about two minutes",
        })
    }

    /// wasm-pack, which runs tests in a browser.
    pub(crate) fn wasm_pack() -> Self {
        Self {
            package: "wasm-pack",
            program: "wasm-pack",
            version: "0.15.1".to_owned(),
            install_args: &["--locked"],
            takes: "about two minutes",
        }
    }

    /// The program's path; builds it where it is absent.
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
        // Somebody else may have built it while we waited.
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
        // Of its own, so that neither the workspace's build output nor its lock is touched.
        let build = tempfile::tempdir().context("cannot make a temporary folder")?;
        let mut install = std::process::Command::new("cargo");
        install
            .args(["install", self.package, "--version", &self.version])
            .args(self.install_args)
            .arg("--force")
            .arg("--root")
            .arg(root)
            .env("CARGO_TARGET_DIR", build.path())
            // The workspace's settings are not meant for other people's programs.
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
        command::output(path, &["--version"])
            .is_some_and(|text| text.split_whitespace().nth(1) == Some(&self.version))
    }
}

/// A program on PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(&file))
        .find(|path| path.is_file())
}

/// PATH with `folders` before everything else.
pub(crate) fn path_with(folders: &[&Path]) -> anyhow::Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let before = folders.iter().map(|folder| folder.to_path_buf());
    std::env::join_paths(before.chain(std::env::split_paths(&path)))
        .context("a folder's name cannot stand in PATH")
}

/// Held while something is installed: two runs at once take turns.
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

/// Where tools are kept, made if absent.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let path = if let Some(path) = set("GOSSIP_TRANSPORT_TOOLS") {
        PathBuf::from(path)
    } else if let Some(path) = set("XDG_CACHE_HOME") {
        Path::new(&path).join("gossip-transport/tools")
    } else {
        let home = std::env::home_dir()
            .context("where to keep tools? Set GOSSIP_TRANSPORT_TOOLS to a folder")?;
        home.join(".cache/gossip-transport/tools")
    };
    std::fs::create_dir_all(&path).with_context(|| {
        format!(
            "cannot make {}; GOSSIP_TRANSPORT_TOOLS may name another folder",
            path.display()
        )
    })?;
    Ok(path)
}
