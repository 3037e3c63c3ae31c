//! Checks that are left out where a program is missing.

use crate::host::interrupt::Interrupted;

/// Whether a check may be left out because something that it needs is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skips {
    Allowed,
    /// As in CI, where nobody would notice that the check did not run.
    Refused,
}

impl Skips {
    /// Returns [`Refused`](Self::Refused) if the environment variable CI is set.
    pub(crate) fn here() -> Self {
        let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        if is_ci { Self::Refused } else { Self::Allowed }
    }

    /// Returns what was found. If `what` may be left out, it is `None` after a line about an error.
    pub(crate) fn or_skip<T>(
        self,
        what: &str,
        found: anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is::<Interrupted>() => Err(error),
            Err(error) if self == Self::Refused => {
                Err(error.context(format!("{what} cannot be checked")))
            }
            Err(error) => {
                println!("skipped: {what}: {error:#}");
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_skipped_only_where_skips_are_allowed_and_a_signal_is_no_skip() {
        let missing = || -> anyhow::Result<u8> { anyhow::bail!("install caddy") };
        assert_eq!(Skips::Allowed.or_skip("Caddy", missing()).unwrap(), None);
        let error = Skips::Refused.or_skip("Caddy", missing()).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "Caddy cannot be checked: install caddy"
        );
        for skips in [Skips::Allowed, Skips::Refused] {
            assert_eq!(skips.or_skip("Caddy", Ok(7)).unwrap(), Some(7));
            let interrupted = Err::<u8, _>(Interrupted.into());
            let error = skips.or_skip("Caddy", interrupted).unwrap_err();
            assert!(error.is::<Interrupted>(), "{error:#}");
        }
    }
}
