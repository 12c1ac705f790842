//! How often hosts are asked.

use std::time::Duration;

use crate::config::MonitorSettings;

/// An outage longer than this is not probed for at the fast pace any more: nobody promotes in
/// milliseconds what has been down for minutes, and a cluster without a primary (replicas only)
/// must not be asked twenty times a second for ever.
const LONG_OUTAGE: Duration = Duration::from_secs(300);

/// By which share a pause is stretched at most, so that those who ask do not do so in step.
const JITTER: f64 = 0.1;

/// How often hosts are asked, by what is going on.
///
/// ```
/// use std::time::Duration;
/// use leadpool::{Config, failover::Pace};
///
/// let config = Config::from_url("postgres://db1,db2/shop")?;
/// let since = Duration::from_secs(10);
/// // While a writer is missing, the interval is 1 % of the outage so far.
/// let interval = Pace::Urgent { since }.interval(since + Duration::from_secs(2), config.monitor());
/// assert_eq!(interval, Duration::from_millis(20));
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pace {
    /// There is no writer, or it does not answer, since that time after the monitor's start.
    Urgent {
        /// Since when.
        since: Duration,
    },
    /// The writer has changed lately.
    AfterChange,
    /// The application writes: only a look at the *other* hosts shows that the primary in use has
    /// become a stale one.
    Writing,
    /// Nothing is going on.
    Idle,
}

impl Pace {
    /// The time between two probes of one host, before jitter.
    ///
    /// While a writer is missing the interval is a fixed share of the outage so far. So detection
    /// adds that share to any outage, short ones are noticed within milliseconds, and a long one
    /// costs only logarithmically many probes.
    #[must_use]
    pub fn interval(self, now: Duration, settings: &MonitorSettings) -> Duration {
        match self {
            Self::Urgent { since } => {
                let outage = now.saturating_sub(since);
                let longest = if outage > LONG_OUTAGE {
                    settings.active_interval
                } else {
                    settings.fast_interval_max
                };
                let share = outage.as_secs_f64() * settings.fast_fraction;
                Duration::try_from_secs_f64(share)
                    .unwrap_or(longest)
                    .clamp(settings.fast_interval_min, longest)
            }
            Self::AfterChange => settings.after_change_interval,
            Self::Writing => settings.active_interval,
            Self::Idle => settings.idle_interval,
        }
    }

    /// The time from the beginning of one probe of a host to that of the next: the interval, and up
    /// to a tenth more. `share`, 0 to 1, says how much of that tenth.
    ///
    /// Only ever longer: the idle pace promises at most one probe an interval.
    ///
    /// ```
    /// use std::time::Duration;
    /// use leadpool::{Config, failover::Pace};
    ///
    /// let config = Config::from_url("postgres://db1,db2/shop")?;
    /// let pause = Pace::Idle.pause(Duration::ZERO, config.monitor(), 0.5);
    /// assert_eq!(pause, Duration::from_millis(10_500));
    /// # Ok::<(), leadpool::config::ConfigError>(())
    /// ```
    #[must_use]
    pub fn pause(self, now: Duration, settings: &MonitorSettings, share: f64) -> Duration {
        let stretched = 1.0 + JITTER * share.clamp(0.0, 1.0);
        self.interval(now, settings).mul_f64(stretched)
    }
}
