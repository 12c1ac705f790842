//! How long connections live.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

use crate::config::LimitSettings;

/// By how much of it the limits of connections differ.
const JITTER: f64 = 0.1;
/// How often to look, at most and at least.
const OFTEN: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_secs(30);
/// The same where a minimum is kept up: a connection that is lost is missed soon.
const KEEPING: Duration = Duration::from_secs(1);

/// The moments in the life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Stamp {
    /// When it was opened.
    pub opened: Instant,
    /// When it was last taken, if ever.
    pub taken: Option<Instant>,
}

impl Stamp {
    /// The moments of a connection.
    #[must_use]
    pub fn new(opened: Instant, taken: Option<Instant>) -> Self {
        Self { opened, taken }
    }
}

/// The limits. Each connection has a share of its own of them, which follows from the moment at
/// which it was opened: nothing has to be remembered.
#[derive(Debug)]
pub(super) struct Lives {
    idle_timeout: Option<Duration>,
    max_lifetime: Option<Duration>,
    /// Nobody below this age has lived for too long.
    surely_young: Duration,
    shares: RandomState,
}

impl Lives {
    pub(super) fn new(limits: &LimitSettings) -> Self {
        Self {
            idle_timeout: limits.idle_timeout,
            max_lifetime: limits.max_lifetime,
            surely_young: limits
                .max_lifetime
                .map_or(Duration::MAX, |limit| limit.mul_f64(1.0 - JITTER)),
            shares: RandomState::new(),
        }
    }

    /// Whether a connection that has just been taken is too old to be handed out. Reads no clock:
    /// the driver has just done so.
    #[inline]
    pub(super) fn is_over_when_taken(&self, stamp: Option<Stamp>) -> bool {
        match stamp {
            Some(Stamp {
                opened,
                taken: Some(now),
            }) => self.is_over(opened, now),
            _ => false,
        }
    }

    /// Whether a connection has lived for too long.
    #[inline]
    pub(super) fn is_over(&self, opened: Instant, now: Instant) -> bool {
        // Cheaper than its age.
        let young = opened.checked_add(self.surely_young);
        young.is_some_and(|until| now >= until) && {
            let age = now.saturating_duration_since(opened);
            self.is_beyond(self.max_lifetime, opened, age)
        }
    }

    /// Whether a connection has been idle for too long.
    pub(super) fn is_idle_over(&self, opened: Instant, idle: Duration) -> bool {
        self.is_beyond(self.idle_timeout, opened, idle)
    }

    #[cold]
    fn is_beyond(&self, limit: Option<Duration>, opened: Instant, time: Duration) -> bool {
        let random = (self.shares.hash_one(opened) >> 32) as f64 / f64::from(u32::MAX);
        limit.is_some_and(|limit| time >= limit.mul_f64(1.0 - JITTER * random))
    }

    /// How often to look after connections; `None` if there is nothing to look for.
    pub(super) fn interval(&self, keeps_minimum: bool) -> Option<Duration> {
        let limits = [self.idle_timeout, self.max_lifetime];
        let by_limit = limits.into_iter().flatten().map(|limit| limit / 10);
        let by_minimum = keeps_minimum.then_some(KEEPING);
        let soonest = by_limit.chain(by_minimum).min()?;
        Some(soonest.clamp(OFTEN, SELDOM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(idle: u64, lifetime: u64) -> Lives {
        Lives::new(&LimitSettings {
            idle_timeout: Some(Duration::from_secs(idle)),
            max_lifetime: Some(Duration::from_secs(lifetime)),
            ..LimitSettings::default()
        })
    }

    #[test]
    fn those_opened_together_do_not_end_together() {
        let lives = lives(60, 1000);
        let begun = Instant::now();
        let opened: Vec<Instant> = (0..1000)
            .map(|at| begun + Duration::from_nanos(at))
            .collect();
        let over = |age| {
            let now = begun + Duration::from_secs(age);
            opened
                .iter()
                .filter(|opened| lives.is_over(**opened, now))
                .count()
        };
        assert_eq!(over(899), 0);
        assert!((200..800).contains(&over(950)), "{}", over(950));
        assert_eq!(over(1001), 1000);
    }

    #[test]
    fn what_was_just_opened_is_young() {
        let opened = Instant::now();
        let lives = lives(60, 1);
        let at = |taken| lives.is_over_when_taken(Some(Stamp { opened, taken }));
        assert!(!at(None));
        assert!(!at(Some(opened)));
        assert!(at(Some(opened + Duration::from_secs(2))));
        assert!(!lives.is_over_when_taken(None));
    }

    #[test]
    fn without_limits_nobody_has_to_look() {
        let lives = Lives::new(&LimitSettings {
            idle_timeout: None,
            max_lifetime: None,
            ..LimitSettings::default()
        });
        assert_eq!(lives.interval(false), None);
        assert_eq!(lives.interval(true), Some(KEEPING));
        let far = Instant::now() + Duration::from_secs(1 << 30);
        assert!(!lives.is_over(Instant::now(), far));
    }
}
