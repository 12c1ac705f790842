//! When the connection over which a host is probed is replaced by a fresh one.

use std::time::Duration;

use super::Pace;

/// For how long a connection is used for probes, at most.
const LIFETIME: Duration = Duration::from_secs(30);
/// By which share that may be shorter, so that those who opened theirs together do not replace them
/// together.
const SPREAD: f64 = 1.0 / 3.0;
/// The same while a writer is missing, at least, and twice as long at most: a host that can't be it
/// is looked at again soon.
const LIFETIME_WHILE_MISSING: Duration = Duration::from_secs(1);

/// When the connection over which a host is probed is replaced: its name may lead to another server
/// by now, and an open connection would never tell.
///
/// Each fresh one costs the server a process, and after a failover thousands may ask for theirs. So
/// in an outage it is not replaced at once, not by all at the same moment, and where it can't be
/// replaced in time the next try waits twice as long.
///
/// ```
/// use std::time::Duration;
/// use leadpool::failover::{Pace, Renewal};
///
/// let secs = Duration::from_secs;
/// let mut renewal = Renewal::new(0.0);
/// // Opened 29 s ago, while all is well; and when a standby has to be looked for.
/// assert!(!renewal.is_due(Pace::Idle, secs(100), secs(29), false));
/// let missing = Pace::Urgent { since: secs(99) };
/// assert!(renewal.is_due(missing, secs(100), secs(29), false));
/// // That did not work out in time: not again 1 s later, but 2 s.
/// renewal.put_off();
/// assert!(!renewal.is_due(missing, secs(101), secs(1), false));
/// assert!(renewal.is_due(missing, secs(102), secs(2), false));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    share: f64,
    failures: u32,
}

impl Renewal {
    /// That of a connection just opened. `share`, 0 to 1, to be drawn at random, says how this one
    /// differs from others.
    #[must_use]
    pub fn new(share: f64) -> Self {
        Self {
            share: share.clamp(0.0, 1.0),
            failures: 0,
        }
    }

    /// Whether it is time for a fresh connection.
    ///
    /// `now` is the time since the monitor's start; `age` that since the connection was opened, or
    /// since it was last [tried](Self::put_off) to replace it; `is_writable` says that the host has
    /// last been a primary that accepts writes.
    #[must_use]
    pub fn is_due(&self, pace: Pace, now: Duration, age: Duration, is_writable: bool) -> bool {
        let soon = LIFETIME_WHILE_MISSING.mul_f64(1.0 + self.share);
        let lifetime = LIFETIME.mul_f64(1.0 - SPREAD * self.share);
        let (age, lifetime) = match pace {
            // What an outage of less than that needs is the host's answer, not its address.
            Pace::Urgent { since } if !is_writable => (age.min(now.saturating_sub(since)), soon),
            _ => (age, lifetime),
        };
        let lifetime = match self.failures {
            0 => lifetime,
            failures => soon.saturating_mul(1 << failures.min(5)).min(LIFETIME),
        };
        age >= lifetime
    }

    /// A fresh connection is being tried for. If it does not come in time, the next try waits for
    /// longer: a server that is slow to open one is not helped by more of them.
    pub fn put_off(&mut self) {
        self.failures += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    /// How old a connection is when it is replaced, in an outage that has lasted for an hour.
    fn replaced_at(renewal: Renewal, pace: Pace, is_writable: bool) -> Duration {
        let ages = (0..).map(|tenth| SEC * tenth / 10);
        let is_due = |age: &Duration| renewal.is_due(pace, SEC * 3600, *age, is_writable);
        ages.take(1000).find(is_due).unwrap()
    }

    #[test]
    fn those_opened_together_are_not_replaced_together() {
        let (first, last) = (Renewal::new(1.0), Renewal::new(0.0));
        assert_eq!(replaced_at(first, Pace::Writing, false), SEC * 20);
        assert_eq!(replaced_at(last, Pace::Writing, false), SEC * 30);
        let missing = Pace::Urgent {
            since: Duration::ZERO,
        };
        assert_eq!(replaced_at(last, missing, false), SEC);
        assert_eq!(replaced_at(first, missing, false), SEC * 2);
        assert_eq!(replaced_at(last, missing, true), SEC * 30, "the primary");
    }

    #[test]
    fn an_outage_that_has_just_begun_replaces_nothing() {
        let renewal = Renewal::new(0.0);
        let missing = Pace::Urgent { since: SEC * 100 };
        assert!(!renewal.is_due(missing, SEC * 100, SEC * 29, false));
        assert!(renewal.is_due(missing, SEC * 101, SEC * 29, false));
    }

    #[test]
    fn where_it_takes_too_long_it_is_tried_less_and_less() {
        let mut renewal = Renewal::new(0.0);
        let missing = Pace::Urgent {
            since: Duration::ZERO,
        };
        let mut tries = Vec::new();
        for _ in 0..7 {
            tries.push(replaced_at(renewal, missing, false).as_secs());
            renewal.put_off();
        }
        assert_eq!(tries, [1, 2, 4, 8, 16, 30, 30]);
    }
}
