//! The time for which a certificate is valid.
//!
//! It reads as much of the DER as leads there (RFC 5280, section 4.1), and verifies nothing. Invariant: whatever the
//! bytes are, it returns, in linear time.

use std::time::Duration;

use super::der::Der;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;

/// The time for which a certificate is valid, since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: Duration,
    pub(super) until: Duration,
}

impl Validity {
    /// Returns the validity that `certificate`, in DER, states, or `None` if it has another form.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let mut certificate = Der(certificate);
        let mut certificate = Der(certificate.take(SEQUENCE)?);
        let mut body = Der(certificate.take(SEQUENCE)?);
        if body.0.first() == Some(&VERSION) {
            body.take(VERSION)?;
        }
        // The serial number, the algorithm of the signature, and the issuer.
        body.take(INTEGER)?;
        body.take(SEQUENCE)?;
        body.take(SEQUENCE)?;
        let mut validity = Der(body.take(SEQUENCE)?);
        Some(Self {
            from: time(&mut validity)?,
            until: time(&mut validity)?,
        })
    }
}

/// Returns the next value of a sequence as a time since 1970-01-01 UTC.
fn time(values: &mut Der<'_>) -> Option<Duration> {
    let (tag, text) = values.next()?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let year: u64 = number(text.get(..2)?)?;
            (if year < 50 { 2000 } else { 1900 } + year, text.get(2..)?)
        }
        GENERALIZED_TIME => (number(text.get(..4)?)?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| number(rest.get(at..at + 2)?);
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    let is_valid = rest.len() == 10
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_valid {
        return None;
    }
    // Nothing that matters was valid before.
    let days = days(year, month, day).unwrap_or(0);
    Some(Duration::from_secs(
        ((days * 24 + hour) * 60 + minute) * 60 + second,
    ))
}

fn number(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Returns the number of days from 1970-01-01 to a day of the Gregorian calendar, or `None` if that is before.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    // Years begin in March, so that a leap day is the last one of a year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let since_year_0 = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1;
    since_year_0.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(from: &[u8], until: &[u8]) -> Vec<u8> {
        let value = |tag: u8, contents: &[u8]| {
            let len = u8::try_from(contents.len()).unwrap();
            [&[tag, 0x81, len], contents].concat()
        };
        let validity = value(SEQUENCE, &[from, until].concat());
        let fields = [
            value(VERSION, &[INTEGER, 1, 2]),
            value(INTEGER, &[1]),
            value(SEQUENCE, b""),
            value(SEQUENCE, b""),
            validity,
            value(SEQUENCE, b"the subject and more"),
        ];
        value(SEQUENCE, &value(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        let from = b"\x17\x0d700101000001Z";
        let until = b"\x18\x0f20501231235959Z";
        let validity = Validity::of(&certificate(from, until)).unwrap();
        assert_eq!(validity.from.as_secs(), 1);
        assert_eq!(validity.until.as_secs(), 2_556_143_999);
        let leap_day = Validity::of(&certificate(b"\x17\x0d240229120000Z", until)).unwrap();
        assert_eq!(leap_day.from.as_secs(), 1_709_208_000);
    }

    #[test]
    fn other_bytes_have_no_validity() {
        let good = certificate(b"\x17\x0d700101000001Z", b"\x18\x0f20501231235959Z");
        for len in 0..good.len() {
            assert_eq!(Validity::of(&good[..len]), None, "{len}");
        }
        for time in [
            &b"\x17\x0d701301000001Z"[..],
            b"\x17\x0d7001010000+1Z",
            b"\x17\x0b7001010000Z",
            b"\x04\x0d700101000001Z",
        ] {
            assert_eq!(Validity::of(&certificate(time, time)), None, "{time:?}");
        }
        assert_eq!(
            Validity::of(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]),
            None
        );
    }
}
