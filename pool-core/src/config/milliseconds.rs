//! Times as the server counts them.

use std::{fmt, time::Duration};

/// A time limit in whole milliseconds, as `statement_timeout` takes it
/// ([PostgreSQL documentation, section 19.11](https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-STATEMENT-TIMEOUT)):
/// a part of one counts as one, since 0 is no limit, and the most is some 24 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Milliseconds(i32);

impl From<Duration> for Milliseconds {
    fn from(limit: Duration) -> Self {
        let whole = limit.as_nanos().div_ceil(1_000_000);
        Self(i32::try_from(whole).unwrap_or(i32::MAX))
    }
}

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_never_becomes_none_by_rounding() {
        let shown = |limit: Duration| Milliseconds::from(limit).to_string();
        assert_eq!(shown(Duration::ZERO), "0");
        assert_eq!(shown(Duration::from_nanos(1)), "1");
        assert_eq!(shown(Duration::from_micros(1_500)), "2");
        assert_eq!(shown(Duration::from_secs(2)), "2000");
        assert_eq!(shown(Duration::MAX), "2147483647");
    }
}
