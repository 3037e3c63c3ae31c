//! The error of a configuration that is out of bounds, and the checks that report it.
//!
//! Each configuration type has a `validate` method that uses these checks. `open` and `join` call
//! it, so an invalid value is reported before anything is bound, dialled or spawned.

use std::borrow::Cow;
use std::time::Duration;

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
    /// The value as text, times with their unit.
    pub value: String,
    /// The bound that the value breaks.
    pub bound: Cow<'static, str>,
}

impl ConfigError {
    pub(crate) fn new(
        field: impl Into<Cow<'static, str>>,
        value: String,
        bound: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            field: field.into(),
            value,
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

/// A value that has a bound, and its text for errors.
///
/// Not `Debug`, which brings the formatting of floating-point numbers and of fractions of a second into
/// a browser's module: 7 kB of it after gzip.
pub(crate) trait Value: PartialOrd + Copy {
    /// The largest value that is accepted in any field.
    const MAX: Self;

    fn text(self) -> String;
}

impl Value for usize {
    const MAX: Self = usize::MAX;

    fn text(self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    const MAX: Self = u64::MAX;

    fn text(self) -> String {
        self.to_string()
    }
}

impl Value for Duration {
    /// 365 days, which stand for "never". Times that are added to the present time cannot overflow.
    const MAX: Self = Duration::from_secs(365 * 24 * 3600);

    /// Returns the time in the largest unit of which it is a whole number.
    fn text(self) -> String {
        // What is longer than 584 years is a whole number of seconds to anyone.
        let Ok(nanos) = u64::try_from(self.as_nanos()) else {
            return format!("{}s", self.as_secs());
        };
        let units = [(1_000_000, "ms"), (1000, "\u{b5}s"), (1, "ns")];
        let whole = |(size, _): &(u64, &str)| nanos.is_multiple_of(*size);
        match units.into_iter().find(whole) {
            Some((size, unit)) if self.subsec_nanos() != 0 => format!("{}{unit}", nanos / size),
            _ if self.is_zero() => "0ns".to_owned(),
            _ => format!("{}s", self.as_secs()),
        }
    }
}

impl Value for f64 {
    const MAX: Self = f64::MAX;

    /// Returns the number, cut off after three decimal places.
    fn text(self) -> String {
        if !self.is_finite() {
            return if self.is_nan() { "NaN" } else { "infinite" }.to_owned();
        }
        let sign = if self < 0.0 { "-" } else { "" };
        let thousandths = (self.abs() * 1000.0) as u64;
        format!("{sign}{}.{:03}", thousandths / 1000, thousandths % 1000)
    }
}

/// Fails if `value` is less than `min`, or more than any value of its type may be ([`Value::MAX`]).
pub(crate) fn at_least<T: Value>(field: &'static str, value: T, min: T) -> Result<(), ConfigError> {
    let (side, bound) = if value > T::MAX {
        ("most", T::MAX)
    } else if value >= min {
        return Ok(());
    } else {
        ("least", min)
    };
    let bound = format!("at {side} {}", bound.text());
    Err(ConfigError::new(field, value.text(), bound))
}

/// Fails with the first row that [`at_least`] refuses. One loop is smaller in a browser's
/// module than a call of [`at_least`] for each field.
pub(crate) fn all_at_least<T: Value>(rows: &[(&'static str, T, T)]) -> Result<(), ConfigError> {
    rows.iter()
        .try_for_each(|(field, value, min)| at_least(field, *value, *min))
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
    use super::*;

    #[test]
    fn an_error_names_the_field_the_value_and_the_bound() {
        let error = at_least("max_messages", 0_usize, 1).unwrap_err();
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
        assert_eq!(at_least("max_messages", 1_usize, 1), Ok(()));
    }

    #[test]
    fn a_time_is_at_most_a_year() {
        let year = Duration::from_secs(31_536_000);
        assert_eq!(at_least("interval", year, year), Ok(()));
        for beyond in [year + Duration::from_nanos(1), Duration::MAX] {
            let error = at_least("interval", beyond, Duration::ZERO).unwrap_err();
            assert_eq!(error.bound, "at most 31536000s");
        }
        let error = at_least("interval", Duration::MAX, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("is 18446744073709551615s, but"));
    }

    #[test]
    fn values_have_a_short_text() {
        let times = [
            (Duration::ZERO, "0ns"),
            (Duration::from_secs(90), "90s"),
            (Duration::from_millis(1500), "1500ms"),
            (Duration::from_micros(7), "7\u{b5}s"),
            (Duration::from_nanos(1_000_001), "1000001ns"),
        ];
        for (time, text) in times {
            assert_eq!(time.text(), text);
        }
        let numbers = [
            (8.0, "8.000"),
            (-0.25, "-0.250"),
            (0.0, "0.000"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "infinite"),
        ];
        for (number, text) in numbers {
            assert_eq!(number.text(), text);
        }
        assert_eq!(1024_usize.text(), "1024");
    }
}
