//! A package that contains a few modules of the library, their tests, and nothing else.
//!
//! Invariant: each file has the path and the line numbers that it has in the library.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::host::workspace::Workspace;

/// What every package needs: its manifest, and the modules below the others.
const COMMON: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "aead",
    "rust-toolchain.toml",
    "src/config.rs",
    "src/credential",
    "src/host",
    "src/message",
    "src/net",
    "src/rt",
];

/// The modules of the library that a package may contain.
const MODULES: [&str; 9] = [
    "config",
    "credential",
    "gossip",
    "host",
    "message",
    "net",
    "rt",
    "secure",
    "transport_layer",
];

/// What `src/lib.rs` exports of the modules that are in every package.
const EXPORTS: &str = "\
pub use config::ConfigError;
pub use credential::{ClusterSecret, Identity, NetCredential, Role, Trust};
pub use message::{ChitchatMessage, Message};
";

/// CPU time of a test run after which it counts as endless. All tests of an area take less than a second
/// of it.
pub(super) const MOST_CPU_SECONDS: u32 = 10;

/// Fills `folder` with the package of [`COMMON`] and `sources`. What cargo has built there stays. Where
/// `sources` names the file of a module instead of the whole folder, it loses its absent submodules.
pub(super) fn fill(workspace: &Workspace, sources: &[&str], folder: &Path) -> anyhow::Result<()> {
    for old in ["src", "tests"] {
        let old = folder.join(old);
        if old.exists() {
            fs::remove_dir_all(&old)?;
        }
    }
    for source in COMMON.iter().chain(sources) {
        copy(&workspace.root.join(source), &folder.join(source))?;
    }
    for source in sources {
        if source.ends_with("/mod.rs") || source.ends_with("/main.rs") {
            drop_absent_modules(&folder.join(source))?;
        }
    }
    fs::write(folder.join("src/lib.rs"), lib(&folder.join("src")))?;
    let manifest = folder.join("Cargo.toml");
    fs::write(&manifest, alone(&fs::read_to_string(&manifest)?))?;
    fs::create_dir_all(folder.join(".cargo"))?;
    fs::write(folder.join(".cargo/config.toml"), settings())?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot copy {}", from.display());
    if from.is_dir() {
        for entry in fs::read_dir(from).with_context(context)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(context)?;
    Ok(())
}

/// Returns the manifest of the package, to which the other members of the workspace and the examples do
/// not belong.
fn alone(manifest: &str) -> String {
    let mut in_example = false;
    let mut kept = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_example = line == "[[example]]";
        }
        if line.starts_with("members = ") {
            kept += "members = [\"aead\"]\n";
        } else if !in_example {
            kept += line;
            kept += "\n";
        }
    }
    kept
}

fn lib(src: &Path) -> String {
    let mut text = "//! Some modules of the library.\n#![allow(warnings)]\n".to_owned();
    for module in MODULES {
        if is_module(src, module) {
            text += &format!("pub mod {module};\n");
        }
    }
    text + EXPORTS
}

/// Settings that make a build quick, and a test run quick and never endless.
fn settings() -> String {
    format!(
        "[build]\n\
         target-dir = \"target\"\n\
         incremental = true\n\
         [profile.dev]\n\
         debug = false\n\
         [target.'cfg(target_os = \"linux\")']\n\
         runner = [\"prlimit\", \"--cpu={MOST_CPU_SECONDS}\", \"--as=8000000000\", \"--\"]\n\
         [env]\n\
         PROPTEST_CASES = \"32\"\n\
         PROPTEST_MAX_SHRINK_ITERS = \"0\"\n\
         PROPTEST_DISABLE_FAILURE_PERSISTENCE = \"true\"\n"
    )
}

/// Empties the lines of `file` that declare or export a module whose file is not in the package.
fn drop_absent_modules(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().context("a source is in a folder")?;
    let text = fs::read_to_string(file)?;
    fs::write(file, without(&text, |module| !is_module(folder, module)))?;
    Ok(())
}

fn is_module(folder: &Path, name: &str) -> bool {
    folder.join(format!("{name}.rs")).exists() || folder.join(name).join("mod.rs").exists()
}

/// Returns `text` with empty lines in place of the items that declare or export an absent module, and of
/// the attributes above them.
fn without(text: &str, is_absent: impl Fn(&str) -> bool) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut in_dropped_item = false;
    for line in text.lines() {
        let starts_dropped_item = named_module(line).is_some_and(&is_absent);
        if starts_dropped_item {
            for attribute in kept
                .iter_mut()
                .rev()
                .take_while(|line| line.starts_with("#["))
            {
                *attribute = "";
            }
        }
        let drop = in_dropped_item || starts_dropped_item;
        in_dropped_item = drop && !line.ends_with(';');
        kept.push(if drop { "" } else { line });
    }
    kept.join("\n") + "\n"
}

/// Returns the module that a line at the top level declares, or of which it begins to export something.
fn named_module(line: &str) -> Option<&str> {
    let item = ["pub(crate) ", "pub(super) ", "pub "]
        .into_iter()
        .find_map(|visibility| line.strip_prefix(visibility));
    let declared = item.unwrap_or(line).strip_prefix("mod ");
    let declared = declared.and_then(|rest| rest.strip_suffix(';'));
    declared
        .or_else(|| Some(item?.strip_prefix("use ")?.split_once("::")?.0))
        .filter(|name| !["crate", "self", "super"].contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_modules_leave_empty_lines_for_what_declares_and_exports_them() {
        let text = "mod a;\n#[cfg(x)]\nmod b;\npub use a::A;\npub use b::{\n    B, C,\n};\nuse crate::b::D;\n";
        let kept = without(text, |name| name == "b");
        assert_eq!(kept, "mod a;\n\n\npub use a::A;\n\n\n\nuse crate::b::D;\n");
    }

    #[test]
    fn the_manifest_has_neither_members_nor_examples_that_are_not_copied() {
        let manifest =
            "[workspace]\nmembers = [\"aead\", \"web\"]\n[[example]]\nname = \"e\"\n[features]\n";
        let expected = "[workspace]\nmembers = [\"aead\"]\n[features]\n";
        assert_eq!(alone(manifest), expected);
    }
}
