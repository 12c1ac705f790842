//! How much time a request has.

use std::time::Duration;

use tokio::time::Instant;

use super::Problem;
use crate::config::read_duration;

/// The longest value of a header that is looked at.
const LONGEST: usize = 32;

/// How much time requests of a route have.
///
/// HTTP has no header for it that is a standard. So the limit is the route's, and a client may ask
/// for less in a header that the application names.
///
/// ```
/// use std::time::Duration;
/// use leadpool::web::Deadline;
///
/// let deadline = Deadline::after(Duration::from_secs(5)).header("request-timeout");
/// assert!(deadline.begin([b"1.5".as_slice()]).is_ok()); // seconds
/// assert!(deadline.begin([b"200ms".as_slice()]).is_ok());
/// assert_eq!(deadline.begin([b"soon".as_slice()]).unwrap_err().status(), 400);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    limit: Duration,
    header: Option<String>,
}

impl Deadline {
    /// Each request has this long.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self {
            limit,
            header: None,
        }
    }

    /// A client may ask for less in this header: a number of seconds, or a number with a unit
    /// (`1.5`, `200ms`). The route's limit stays the upper bound.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>) -> Self {
        self.header = Some(name.into().to_ascii_lowercase());
        self
    }

    /// The header that counts, in lower case.
    #[must_use]
    pub fn header_name(&self) -> Option<&str> {
        self.header.as_deref()
    }

    /// The time of a request that came in just now, with the values of the header.
    ///
    /// # Errors
    ///
    /// What is no time, or more than one: 400, with the header's name.
    pub fn begin<'a>(
        &self,
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<TimeLeft, Problem> {
        let mut values = values.into_iter();
        let asked = match (values.next(), values.next()) {
            (None, _) => self.limit,
            (Some(value), None) => read(value).ok_or_else(|| self.refusal())?,
            (Some(_), Some(_)) => return Err(self.refusal()),
        };
        Ok(TimeLeft {
            until: Instant::now().checked_add(asked.min(self.limit)),
        })
    }

    fn refusal(&self) -> Problem {
        let name = self.header.as_deref().unwrap_or_default();
        let detail = format!(
            "The header {name} must be there once, as a number of seconds, or a number with a unit, \
             as in 1.5 or 200ms."
        );
        Problem::refused(400, detail)
    }
}

fn read(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if text.len() > LONGEST {
        return None;
    }
    let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
    match has_unit {
        true => read_duration(text),
        false => read_duration(&format!("{text}s")),
    }
}

/// What is left of a request's time.
///
/// ```
/// use std::time::Duration;
/// use leadpool::web::TimeLeft;
///
/// let unlimited = TimeLeft::default();
/// assert_eq!(unlimited.within(Duration::from_secs(30)), Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeLeft {
    /// `None`: without a limit.
    until: Option<Instant>,
}

impl TimeLeft {
    /// How long it is; `None` without a limit, zero when it is over.
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        let until = self.until?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// The time for something that may take `limit` at most.
    #[must_use]
    pub fn within(self, limit: Duration) -> Duration {
        self.left().map_or(limit, |left| left.min(limit))
    }

    /// The shorter one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let until = match (self.until, other.until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { until }
    }

    /// The same as [`left`](Self::left), for what is begun with it.
    ///
    /// # Errors
    ///
    /// 504 when it is over.
    pub fn begin(self) -> Result<Option<Duration>, Problem> {
        match self.left() {
            Some(Duration::ZERO) => Err(Problem::deadline()),
            left => Ok(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_may_ask_for() {
        let deadline = Deadline::after(Duration::from_secs(10)).header("Request-Timeout");
        assert_eq!(deadline.header_name(), Some("request-timeout"));
        for (value, most) in [
            ("2", 2),
            ("0.5", 1),
            (" 200ms ", 1),
            ("1min", 10),
            ("86400", 10),
        ] {
            let left = deadline.begin([value.as_bytes()]).unwrap().left().unwrap();
            assert!(left <= Duration::from_secs(most), "{value}: {left:?}");
            assert!(left > Duration::ZERO, "{value}");
        }
        let over = deadline.begin([b"0".as_slice()]).unwrap();
        assert_eq!(over.begin(), Err(Problem::deadline()));
    }

    #[test]
    fn what_is_no_time_is_refused_by_the_headers_name() {
        let deadline = Deadline::after(Duration::from_secs(10)).header("Request-Timeout");
        let long = "1".repeat(33);
        for value in [
            "", "-1", "soon", "1e9", "\u{661}", "1 2", "1;2", "NaN", "inf", "1S", &long,
        ] {
            let refused = deadline.begin([value.as_bytes()]).unwrap_err();
            assert_eq!(refused.status(), 400, "{value}");
            assert!(refused.detail().contains("request-timeout"), "{refused}");
        }
        assert!(deadline.begin([b"\xff".as_slice()]).is_err());
        assert!(deadline.begin([b"1".as_slice(), b"2".as_slice()]).is_err());
    }

    #[test]
    fn the_shorter_of_two_counts() {
        let short = Deadline::after(Duration::from_secs(1)).begin([]).unwrap();
        let long = Deadline::after(Duration::from_secs(60)).begin([]).unwrap();
        assert_eq!(short.and(long), short);
        assert_eq!(long.and(short), short);
        assert_eq!(TimeLeft::default().and(short), short);
        assert_eq!(short.and(TimeLeft::default()), short);
    }
}
