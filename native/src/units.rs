//! Times and sizes as the command line writes them: a number with its unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The units of times, the longest first, in milliseconds.
const TIMES: [(&str, u64); 5] = [
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
/// The units of sizes, the largest first, in bytes.
const SIZES: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A time, such as `200ms`, `1.5s`, `2m`, `24h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period(pub(crate) Duration);

/// A number of bytes, such as `65507`, `64KiB`, `1.5MiB` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "must be a time such as 200ms, 1s, 1.5s, 2m, 24h or 7d";
        let (number, unit) = split(text).ok_or(EXPECTED)?;
        let millis = millis_of(unit).ok_or(EXPECTED)?;
        let seconds = number * millis as f64 / 1000.0;
        let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
        Ok(Self(time))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "must be a number of bytes such as 65507, 64KiB, 4MiB or 1GiB";
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return text.parse().map(Self).map_err(|error| error.to_string());
        }
        let (number, unit) = split(text).ok_or(EXPECTED)?;
        let unit = SIZES.iter().find(|(name, _)| *name == unit);
        let (_, unit) = unit.ok_or(EXPECTED)?;
        let bytes = number * *unit as f64;
        // Above this, not every number of bytes can be expressed.
        if bytes > (1_u64 << 53) as f64 {
            return Err("is too large".to_owned());
        }
        usize::try_from(bytes as u64)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

impl fmt::Display for Period {
    /// Writes the time in the largest unit of which it is a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = TIMES.iter().find_map(|(unit, millis)| {
            let nanos = u128::from(*millis) * 1_000_000;
            let number = self.0.as_nanos().checked_div(nanos)?;
            (number > 0 && self.0.as_nanos().is_multiple_of(nanos)).then_some((number, unit))
        });
        match whole {
            Some((number, unit)) => write!(f, "{number}{unit}"),
            None => write!(f, "{}ms", self.0.as_secs_f64() * 1000.0),
        }
    }
}

impl fmt::Display for Size {
    /// Writes the number in the largest unit of which it is a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as u64;
        let is_whole = |(_, unit): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*unit);
        match SIZES.iter().find(is_whole) {
            Some((name, unit)) => write!(f, "{}{name}", bytes / unit),
            None => write!(f, "{bytes}"),
        }
    }
}

/// Splits a text into its number and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at_checked(unit)?;
    Some((number.parse().ok()?, unit))
}

fn millis_of(unit: &str) -> Option<u64> {
    let found = TIMES.iter().find(|(name, _)| *name == unit);
    found.map(|(_, millis)| *millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_their_texts_are_parsed_back() {
        for (text, millis) in [
            ("0ms", 0),
            ("200ms", 200),
            ("1500ms", 1500),
            ("90s", 90_000),
            ("5m", 300_000),
            ("24h", 24 * 3_600_000),
            ("7d", 7 * 24 * 3_600_000),
        ] {
            let time = Period(Duration::from_millis(millis));
            assert_eq!(text.parse(), Ok(time));
            assert_eq!(time.to_string().parse(), Ok(time), "{time}");
        }
        assert_eq!("1.5s".parse(), Ok(Period(Duration::from_millis(1500))));
        assert_eq!("0.5ms".parse(), Ok(Period(Duration::from_micros(500))));
        assert_eq!(Period(Duration::from_micros(500)).to_string(), "0.5ms");
        assert_eq!(Period(Duration::from_secs(90)).to_string(), "90s");
        assert_eq!(Period(Duration::from_secs(300)).to_string(), "5m");
        let most = "9".repeat(400) + "d";
        for wrong in ["", "1", "s", "1y", "-1s", "1..5s", "1 s", "nans", &most] {
            assert!(wrong.parse::<Period>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit_and_their_texts_are_parsed_back() {
        for (text, bytes) in [
            ("0", 0),
            ("65507", 65_507),
            ("64KiB", 64 << 10),
            ("4MiB", 4 << 20),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)));
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!("1.5KiB".parse(), Ok(Size(1536)));
        let most = "9".repeat(40);
        let much = most.clone() + "GiB";
        for wrong in ["", "4MB", "KiB", "-1", "1.5", "4 MiB", &most, &much] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
