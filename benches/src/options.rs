//! The command-line options of the programs: pairs of a name and a value.

use anyhow::Context as _;

/// Returns each name in `args` with the value that follows it. A name without a value is an error.
pub fn pairs(
    args: impl IntoIterator<Item = String>,
) -> impl Iterator<Item = anyhow::Result<(String, String)>> {
    let mut args = args.into_iter();
    std::iter::from_fn(move || {
        let name = args.next()?;
        let value = args.next();
        let value = value.with_context(|| format!("{name} needs a value"));
        Some(value.map(|value| (name, value)))
    })
}
