//! The time that a checkout has, and what went wrong in it.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::BoxError;

/// The pauses between attempts to connect to a host that lives but gives no session.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The moment so long after another; a far one if that is beyond what the clock can tell.
pub(super) fn after(begun: Instant, time: Duration) -> Instant {
    begun
        .checked_add(time)
        .unwrap_or_else(|| begun + Duration::from_secs(86_400 * 365))
}

/// The deadline of a checkout; the clock is read only once something has to wait.
pub(super) struct Clock {
    timeout: Duration,
    begun: Option<Instant>,
}

impl Clock {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            begun: None,
        }
    }

    /// When it began to wait.
    pub(super) fn begun(&mut self) -> Instant {
        *self.begun.get_or_insert_with(Instant::now)
    }

    pub(super) fn deadline(&mut self) -> Instant {
        after(self.begun(), self.timeout)
    }

    pub(super) fn elapsed(&mut self) -> Duration {
        self.begun().elapsed()
    }
}

/// What went wrong so far in one checkout.
#[derive(Default)]
pub(super) struct Trouble {
    pub(super) last: Option<BoxError>,
    failures: u32,
}

impl Trouble {
    pub(super) fn pause(&mut self) -> Duration {
        let pause = pause_after(self.failures, fastrand::f64());
        self.failures += 1;
        pause
    }
}

/// How long a checkout rests when a host that lives has given it no session: from 10 ms, twice as
/// long with each of its `failures` before, up to 500 ms. Half of that is subject to `share`, 0 to
/// 1, to be drawn at random, so that those who failed together do not come back together.
///
/// ```
/// use std::time::Duration;
/// use leadpool::adapter::pause_after;
///
/// assert_eq!(pause_after(0, 0.0), Duration::from_millis(5));
/// assert_eq!(pause_after(3, 1.0), Duration::from_millis(80));
/// ```
#[must_use]
pub fn pause_after(failures: u32, share: f64) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.min(16))
        .min(LONGEST_PAUSE)
        .mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0)
}
