//! Checks of the dependencies: what the browser's build contains, what is unused, and what
//! `deny.toml` allows.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::host::interrupt::Interrupted;
use crate::host::process::Process;
use crate::host::tools::Tool;
use crate::host::workspace::Workspace;
use crate::host::{command, wait};
use crate::wasm::target::WASM;

/// The version of wasm-bindgen that libp2p-swarm requires exactly.
const PINNED_BY_OTHERS: &str = "0.2.108";
/// Limit for fetching the advisory database. A git clone of it takes a few seconds.
const FETCHED_WITHIN: Duration = Duration::from_secs(60);

/// Fails if the library's build for the browser contains a native runtime or a second stack of
/// cryptography or compression.
pub(crate) fn wasm(workspace: &Workspace) -> anyhow::Result<()> {
    let mut tree = workspace.cargo(&["tree", "--target", WASM, "--package", "gossip-transport"]);
    tree.args(["--edges", "normal", "--prefix", "none"]);
    let text = command::run_for_output(&mut tree)?;
    let mut names: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    for banned in ["tokio", "tokio-util", "mio", "ring", "zstd-sys"] {
        if names.contains(&banned) {
            bail!(
                "{banned} is in the browser's build of gossip-transport; \
                 `cargo tree --target {WASM} --package gossip-transport --invert {banned}` shows why"
            );
        }
    }
    println!("{} packages, no tokio", names.len());
    Ok(())
}

/// Fails if the library does not build beside a library that pins another version of wasm-bindgen than
/// Cargo.lock names, as libp2p does.
pub(crate) fn beside_pinned(workspace: &Workspace) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("gossip-beside.")
        .tempdir()?;
    let library = workspace.root.display();
    let manifest = format!(
        "[package]\nname = \"beside\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         gossip-transport.path = {:?}\nwasm-bindgen = \"={PINNED_BY_OTHERS}\"\n",
        library.to_string()
    );
    std::fs::write(folder.path().join("Cargo.toml"), manifest)?;
    std::fs::create_dir(folder.path().join("src"))?;
    std::fs::write(
        folder.path().join("src/lib.rs"),
        "use gossip_transport as _;\n",
    )?;
    let mut check = workspace.cargo(&[]);
    check
        .args(["check", "--quiet", "--target", WASM])
        .env("CARGO_TARGET_DIR", workspace.output("beside")?)
        .current_dir(folder.path());
    command::run(&mut check)
}

/// Fails if a package declares a dependency that none of its sources names.
pub(crate) fn unused(workspace: &Workspace) -> anyhow::Result<()> {
    let mut machete = Command::new(Tool::cargo_machete().ensure()?);
    machete
        .arg("--skip-target-dir")
        .current_dir(&workspace.root);
    command::run(&mut machete)
}

/// Fails if a dependency breaks `deny.toml`.
///
/// Advisories are left out, with a line that says so, on a machine that cannot fetch their database.
pub(crate) fn allowed(workspace: &Workspace) -> anyhow::Result<()> {
    let deny = Tool::cargo_deny().ensure()?;
    let deny = |args: &[&str]| {
        let mut command = Command::new(&deny);
        command.args(args).current_dir(&workspace.root);
        command
    };
    let check = ["check", "--hide-inclusion-graph"];
    command::run(&mut deny(
        &[&check[..], &["licenses", "bans", "sources"]].concat(),
    ))?;
    match fetch(&mut deny(&["fetch", "db"])) {
        Ok(()) => {
            let advisories = [&check[..], &["--disable-fetch", "advisories"]].concat();
            command::run(&mut deny(&advisories))
        }
        Err(error) if error.is::<Interrupted>() => Err(error),
        Err(error) => {
            println!("advisories not checked: {error:#}");
            Ok(())
        }
    }
}

/// Runs the command that fetches the advisory database. A process of its own group, since it starts
/// git, which must not outlive the limit.
fn fetch(command: &mut Command) -> anyhow::Result<()> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut process = Process::spawn(command)?;
    let status = wait::until(FETCHED_WITHIN, || {
        Ok(process
            .ended()
            .ok_or_else(|| "the fetch does not end".to_owned()))
    })
    .context("cannot fetch their database")?;
    ensure!(
        status.success(),
        "cannot fetch their database (`cargo deny fetch db` shows why)"
    );
    Ok(())
}
