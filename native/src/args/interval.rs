//! The gossip interval as the command line writes it.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use gossip_transport::gossip::GossipConfig;

use crate::units::Period;

/// The bounds of an interval.
const BOUNDS: RangeInclusive<Duration> =
    GossipConfig::MIN_RECOMMENDED_INTERVAL..=GossipConfig::MAX_RECOMMENDED_INTERVAL;

/// Time between gossip rounds, from 10 ms to 60 minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval(Duration);

impl Interval {
    pub(crate) fn get(self) -> Duration {
        self.0
    }
}

impl Default for Interval {
    fn default() -> Self {
        Self(GossipConfig::DEFAULT_INTERVAL)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Period(self.0).fmt(f)
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Period(interval) = text.parse()?;
        if !BOUNDS.contains(&interval) {
            return Err("must be between 10ms and 60m".to_owned());
        }
        Ok(Self(interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_parsed_with_their_units_and_anything_else_is_refused() {
        for (text, millis) in [
            ("200ms", 200),
            ("1s", 1000),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            let interval = Interval(Duration::from_millis(millis));
            assert_eq!(text.parse(), Ok(interval));
        }
        for text in ["", "1", "s", "2h", "-1s", "1..5s", "0s", "1ms", "999m"] {
            assert!(text.parse::<Interval>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_error_states_the_bounds() {
        let error = "must be between 10ms and 60m".to_owned();
        for (bound, beyond) in [("10ms", "9ms"), ("60m", "61m")] {
            assert!(bound.parse::<Interval>().is_ok(), "{bound}");
            assert_eq!(beyond.parse::<Interval>(), Err(error.clone()));
        }
    }

    #[test]
    fn the_default_is_the_librarys_and_its_text_is_parsed_back() {
        let default = Interval::default();
        assert_eq!(default.get(), GossipConfig::DEFAULT_INTERVAL);
        assert_eq!(default.to_string(), "1s");
        assert_eq!(default.to_string().parse(), Ok(default));
    }
}
