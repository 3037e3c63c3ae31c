//! `cargo xtask mutants`: puts defects into the pure code, one at a time, and lists those that no test
//! notices.
//!
//! cargo-mutants does it. This gives it a package of a few modules ([`scratch`]), in which a defect is
//! compiled and tested in seconds. Its reports are in `target/mutants/AREA/mutants.out`, those of a shard
//! in `target/mutants/AREA/K-of-N/mutants.out`; `tests/MUTANTS.md` says what became of the defects found.

mod scratch;

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::host::command;
use crate::host::tools::Tool;
use crate::host::workspace::Workspace;

/// Seconds after which a test run counts as endless. Waiting tests end by this, and tests that compute by
/// [`scratch::MOST_CPU_SECONDS`], which does not depend on how busy the machine is.
const TIMEOUT_SECONDS: &str = "100";
/// What cargo-mutants exits with if all defects were noticed, if some were not, and if some runs were endless.
const FINDINGS: [i32; 3] = [0, 2, 3];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Try only the defects of this area
    #[arg(long, value_name = "AREA")]
    only: Option<Area>,

    /// Try only part K of N, counted from 0: each Nth defect
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,

    /// Arguments that are passed on to cargo-mutants, such as `--list` or `--re TEXT`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Code that is tried by itself.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Area {
    /// The core of the transport layer
    Core,
    /// The gossip engine
    Engine,
    /// The messages
    Message,
    /// The secure channel
    Secure,
}

impl Area {
    const ALL: [Self; 4] = [Self::Core, Self::Engine, Self::Message, Self::Secure];

    /// The folder whose code gets the defects.
    fn folder(self) -> &'static str {
        match self {
            Self::Core => "src/transport_layer/core",
            Self::Engine => "src/gossip/engine",
            Self::Message => "src/message",
            Self::Secure => "src/secure",
        }
    }

    /// The files and folders of the scratch package, besides those that every area needs.
    fn sources(self) -> &'static [&'static str] {
        match self {
            Self::Core => &[
                "src/transport_layer/core",
                "src/transport_layer/config.rs",
                "src/transport_layer/error.rs",
                "src/transport_layer/mod.rs",
                "src/transport_layer/received.rs",
                "src/transport_layer/stats.rs",
            ],
            Self::Engine => &[
                "src/gossip/engine",
                "src/gossip/error.rs",
                "src/gossip/mod.rs",
                "src/gossip/validate.rs",
            ],
            // Without `wire_013.rs`, which opens sockets.
            Self::Message => &[
                "tests/message_memory.rs",
                "tests/native/main.rs",
                "tests/native/message/mod.rs",
                "tests/native/message/properties.rs",
                "tests/native/message/refusals.rs",
                "tests/native/message/wire_011.rs",
                "tests/native/support/messages",
                "tests/native/support/mod.rs",
            ],
            Self::Secure => &[
                "src/secure",
                "tests/native/main.rs",
                "tests/native/secure_channel",
                "tests/native/support/mod.rs",
            ],
        }
    }

    /// The arguments of cargo that choose what is built: nothing but the tests that run.
    fn targets(self) -> &'static [&'static str] {
        match self {
            Self::Core | Self::Engine => &["--lib"],
            Self::Message => &["--lib", "--test=native", "--test=message_memory"],
            Self::Secure => &["--lib", "--test=native"],
        }
    }

    /// The arguments of `cargo test` that choose the tests: the text that their names contain.
    fn tests(self) -> &'static [&'static str] {
        match self {
            Self::Core => &["transport_layer::core"],
            Self::Engine => &["gossip::engine"],
            // With nearly all unit tests, since the measurement of memory has no name in common with them.
            // Those of `host` know no messages, and take longer than all others.
            Self::Message => &["--", "--skip", "host::"],
            Self::Secure => &["secure"],
        }
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    let mutants = Tool::cargo_mutants().ensure()?;
    let areas = options.only.map_or(Area::ALL.to_vec(), |area| vec![area]);
    for area in areas {
        println!("\n== {}", area.folder());
        let folder = workspace.output(&format!("mutants/{area:?}").to_lowercase())?;
        scratch::fill(&workspace, area.sources(), &folder)?;
        try_defects(&mutants, area, &folder, options)?;
    }
    Ok(())
}

/// Runs cargo-mutants in the scratch package, which it changes in place.
fn try_defects(mutants: &Path, area: Area, folder: &Path, options: &Options) -> anyhow::Result<()> {
    let mut command = Command::new(mutants);
    command
        .args(["mutants", "--in-place", "--timeout", TIMEOUT_SECONDS])
        .arg(format!("--file={}/**/*.rs", area.folder()))
        .args(
            area.targets()
                .iter()
                .map(|target| format!("--cargo-arg={target}")),
        );
    if let Some(shard) = &options.shard {
        // Round robin: a part is a sample of all files.
        command
            .args(["--shard", shard, "--sharding", "round-robin", "--output"])
            .arg(shard.replace('/', "-of-"));
        std::fs::create_dir_all(folder.join(shard.replace('/', "-of-")))?;
    }
    command.args(&options.rest).arg("--").args(area.tests());
    command
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .current_dir(folder);
    let status = command::status(&mut command)?;
    if !status.code().is_some_and(|code| FINDINGS.contains(&code)) {
        bail!("cargo-mutants failed ({status})");
    }
    Ok(())
}
