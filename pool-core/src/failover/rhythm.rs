//! What the probes of one host wait for.

use std::time::Duration;

use super::Failure;
use crate::config::MonitorSettings;

/// How long one attempt may be silent before a fresh connection is tried, at first.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);
/// The least time between two attempts to *open* a connection: each costs the server a process.
const REOPEN: Duration = Duration::from_millis(10);
/// The same after the server refused the login: it will hardly change its mind sooner.
const REOPEN_DENIED: Duration = Duration::from_secs(1);

/// What the probes of one host wait for, besides the [`Pace`](super::Pace): how long one may be silent, and how
/// soon the next may follow.
///
/// ```
/// use std::time::Duration;
/// use leadpool::{Config, failover::{Failure, Rhythm}};
///
/// let config = Config::from_url("postgres://db1,db2/shop")?;
/// let mut rhythm = Rhythm::new(config.pool().connect_timeout);
/// assert_eq!(rhythm.patience(false), Duration::from_secs(1));
/// // A silent attempt is followed at once by one that may be silent for twice as long.
/// assert_eq!(rhythm.ended(Some(&Failure::Silent), config.monitor()), None);
/// assert_eq!(rhythm.patience(false), Duration::from_secs(2));
/// // A host that answers may be asked again after the shortest interval.
/// assert_eq!(rhythm.ended(None, config.monitor()), Some(Duration::from_millis(2)));
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    patience: Duration,
    connect_timeout: Duration,
}

impl Rhythm {
    /// That of a host that has not been asked yet; opening a connection to it may take
    /// `connect_timeout`.
    #[must_use]
    pub fn new(connect_timeout: Duration) -> Self {
        Self {
            patience: FIRST_ATTEMPT,
            connect_timeout,
        }
    }

    /// How long the next probe may be silent before it is given up: over an open connection, or
    /// without one.
    #[must_use]
    pub fn patience(&self, has_session: bool) -> Duration {
        match has_session {
            true => self.patience + self.connect_timeout,
            false => self.patience,
        }
    }

    /// How long an open connection may be silent before a fresh one is asked besides.
    #[must_use]
    pub fn second_try(&self) -> Duration {
        FIRST_ATTEMPT
    }

    /// How long a fresh connection that takes the place of an open one is waited for, before the
    /// open one is asked besides.
    #[must_use]
    pub fn head_start(&self, settings: &MonitorSettings) -> Duration {
        settings.suspect_after / 2
    }

    /// A probe has ended, well or with that failure. Says how long after its beginning the next one
    /// may begin at the earliest; `None` if that follows at once, because the connection may have
    /// been silent, and not the host: who gives a host up must have asked for as long over another
    /// one.
    pub fn ended(
        &mut self,
        failure: Option<&Failure>,
        settings: &MonitorSettings,
    ) -> Option<Duration> {
        self.patience = match failure {
            Some(Failure::Silent) => (self.patience * 2).min(self.connect_timeout),
            _ => FIRST_ATTEMPT,
        };
        match failure {
            Some(Failure::Silent) => None,
            None => Some(settings.fast_interval_min),
            Some(Failure::Denied(_)) => Some(REOPEN_DENIED),
            Some(_) => Some(REOPEN.max(settings.fast_interval_min)),
        }
    }
}
