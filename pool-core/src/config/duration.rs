//! How long something takes, as people write it: `500ms`, `30s`, `1.5h`.
//!
//! A number and one of PostgreSQL's units
//! ([PostgreSQL documentation, section 20.1.1](https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-NAMES-VALUES)).
//! The unit is no matter of taste: libpq counts some of its times in seconds and others in
//! milliseconds, deadpool in seconds and nanoseconds.

use std::time::Duration;

/// Units and their nanoseconds, the largest first.
const UNITS: [(&str, u128); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// A hundred years. What is longer is a mistake, and could not be added to the present moment.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What to write, for errors.
pub(super) const EXPECTED: &str = "a number with a unit (us, ms, s, min, h or d), as in `30s` or \
                                   `500ms`, at most a hundred years";

/// Reads a duration. Only 0 needs no unit.
pub(crate) fn read(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| -> Option<u128> {
        let only_digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        only_digits.then(|| part.parse::<u64>().ok().map(u128::from))?
    };
    let (whole, parts) = (digits(whole)?, digits(fraction)?);
    let unit = unit.trim_start();
    if unit.is_empty() {
        return (whole == 0 && parts == 0).then_some(Duration::ZERO);
    }
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts = parts.checked_mul(*nanos)?;
    if parts % scale != 0 {
        return None;
    }
    let nanos = whole.checked_mul(*nanos)?.checked_add(parts / scale)?;
    from_nanos(nanos)
}

/// From seconds and nanoseconds, as serde writes a `Duration`.
pub(super) fn from_parts(secs: u64, nanos: u32) -> Option<Duration> {
    let secs = u128::from(secs).checked_mul(1_000_000_000)?;
    from_nanos(secs.checked_add(u128::from(nanos))?)
}

fn from_nanos(nanos: u128) -> Option<Duration> {
    let secs = u64::try_from(nanos / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    let duration = Duration::new(secs, rest);
    (duration <= LONGEST).then_some(duration)
}

/// Writes a duration so that it is read as the same.
pub(super) fn write(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    for (unit, size) in UNITS {
        if nanos % size == 0 {
            return format!("{}{unit}", nanos / size);
        }
    }
    format!("{}.{:03}us", nanos / 1_000, nanos % 1_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_read_and_what_is_not() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("30s", ms(30_000)),
            (" 500 ms ", ms(500)),
            ("1.5s", ms(1_500)),
            ("0.25h", ms(900_000)),
            ("2min", ms(120_000)),
            ("1d", ms(86_400_000)),
            ("250us", Duration::from_micros(250)),
            ("0.001us", Duration::from_nanos(1)),
            ("0", ms(0)),
            ("0.0", ms(0)),
            ("0s", ms(0)),
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "s",
            "30",
            "1.5",
            "-1s",
            "+1s",
            "1 5s",
            "30S",
            "30sec",
            "5m",
            "1h30min",
            ".5s",
            "1.s",
            "1.2.3s",
            "1e3s",
            "0.0001us",
            "36501d",
            "99999999999999999999d",
            "18446744073709551615d",
            "0.00000000000000000000000000000000000000001d",
            "inf",
            "off",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(secs in 0..3_000_000_000_u64, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(secs, nanos);
            prop_assert_eq!(read(&write(duration)), Some(duration));
            let whole = Duration::from_secs(secs);
            prop_assert_eq!(read(&write(whole)), Some(whole));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.]{0,45} ?[a-z]{0,3}") {
            let _read = read(&text);
        }
    }
}
