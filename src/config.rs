//! The error of a configuration that is out of bounds, and the checks that report it.
//!
//! Each configuration type has a `validate` method that uses these checks. `open` and `join` call
//! it, so an invalid value is reported before anything is bound, dialled or spawned.

use std::borrow::Cow;
use std::fmt::Debug;

/// A configuration value that is out of bounds.
///
/// Its text names the field, the value and the bound, for example
/// `outgoing.max_messages is 0, but must be at least 1`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, but must be {bound}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The field, with dots between nested names.
    pub field: Cow<'static, str>,
    /// The value, as `Debug` prints it.
    pub value: String,
    /// The bound that the value breaks.
    pub bound: Cow<'static, str>,
}

impl ConfigError {
    pub(crate) fn new(
        field: impl Into<Cow<'static, str>>,
        value: &dyn Debug,
        bound: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            field: field.into(),
            value: format!("{value:?}"),
            bound: bound.into(),
        }
    }

    /// Prefixes the field with the name of the field that contains it.
    pub(crate) fn inside(self, outer: &str) -> Self {
        Self {
            field: format!("{outer}.{}", self.field).into(),
            ..self
        }
    }
}

/// Fails if `value` is less than `min`.
pub(crate) fn at_least<T: PartialOrd + Debug>(
    field: &'static str,
    value: T,
    min: T,
) -> Result<(), ConfigError> {
    if value >= min {
        return Ok(());
    }
    Err(ConfigError::new(field, &value, format!("at least {min:?}")))
}

/// Generates a chainable setter for each listed field of a configuration.
macro_rules! setters {
    ($($setter:ident => $field:ident: $type:ty),+ $(,)?) => { $(
        #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
        #[must_use]
        pub fn $setter(mut self, value: $type) -> Self {
            self.$field = value;
            self
        }
    )+ };
}
pub(crate) use setters;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_error_names_the_field_the_value_and_the_bound() {
        let error = at_least("max_messages", 0, 1).unwrap_err();
        assert_eq!(
            error.inside("outgoing").to_string(),
            "outgoing.max_messages is 0, but must be at least 1"
        );
        let limit = Duration::from_secs(1);
        let error = at_least("interval", Duration::ZERO, limit).unwrap_err();
        assert_eq!(
            error.to_string(),
            "interval is 0ns, but must be at least 1s"
        );
        assert_eq!(at_least("max_messages", 1, 1), Ok(()));
    }
}
