//! How far standbys are behind, and which of them get no reads for it.

use std::time::Duration;

use super::{Event, record::Record};
use crate::{
    config::MonitorSettings,
    topology::{Health, Lsn, Role},
};

/// When the log of the writer had reached which position, by its own answers.
///
/// With it, staleness needs neither the standbys' clocks nor their word on whether they are
/// connected: a standby that lacks what the writer had at some moment is at least as old as that.
#[derive(Clone, Debug, Default)]
pub(super) struct Tide {
    /// Growing in both.
    marks: Vec<(Duration, Lsn)>,
}

/// How many marks are kept. With more, the one goes that is missed the least: whose gap would be
/// the smallest part of its age. So what is remembered is the coarser the older it is, and an age
/// of a minute is told as well as one of a month, within some percent.
const MARKS: usize = 256;

impl Tide {
    pub(super) fn saw(&mut self, at: Duration, position: Lsn) {
        if self.marks.last().is_some_and(|(_, last)| *last >= position) {
            return;
        }
        if self.marks.len() >= MARKS {
            let loss = |window: &[(Duration, Lsn)]| {
                let gap = window[2].0.saturating_sub(window[0].0).as_secs_f64();
                gap / at.saturating_sub(window[1].0).as_secs_f64().max(1e-9)
            };
            let losses = self.marks.windows(3).map(loss).enumerate();
            let least = losses.min_by(|a, b| a.1.total_cmp(&b.1));
            self.marks.remove(least.map_or(0, |(before, _)| before + 1));
        }
        self.marks.push((at, position));
    }

    /// Another log: what was remembered says nothing about it.
    pub(super) fn turn(&mut self) {
        self.marks.clear();
    }

    pub(super) fn high(&self) -> Option<Lsn> {
        self.marks.last().map(|(_, position)| *position)
    }

    /// For how long, at `now`, the writer has had something that is behind `position`; zero if
    /// nothing is known to be.
    pub(super) fn age(&self, now: Duration, position: Lsn) -> Option<Duration> {
        let missing = self.marks.partition_point(|(_, mark)| *mark <= position);
        match self.marks.get(missing) {
            Some((at, _)) => Some(now.saturating_sub(*at)),
            None => (!self.marks.is_empty()).then_some(Duration::ZERO),
        }
    }
}

impl Record {
    /// Measures a standby that has just answered.
    pub(super) fn measure(&mut self, now: Duration, tide: &Tide) {
        if self.view.role != Role::Standby {
            (self.view.lag, self.view.staleness) = (None, None);
            return;
        }
        let position = self.view.position;
        // What it has received, it knows to be there.
        let high = tide.high().max(self.received);
        self.view.lag = position
            .zip(high)
            .map(|(position, high)| position.behind(high));
        self.view.staleness = self.told_staleness.or_else(|| tide.age(now, position?));
    }

    /// Judges a standby by the limits: out when it is beyond one of them, in again when it is
    /// within half of both. What is not known is within.
    pub(super) fn judge_lag(&mut self, settings: &MonitorSettings, events: &mut Vec<Event>) {
        let view = &mut self.view;
        if view.role != Role::Standby {
            view.lagging = false;
            return;
        }
        if view.health != Health::Up {
            return;
        }
        let part = if view.lagging { 2 } else { 1 };
        let beyond_time = settings
            .max_lag
            .zip(view.staleness)
            .is_some_and(|(limit, staleness)| staleness > limit / part);
        let beyond_bytes = settings
            .max_lag_bytes
            .zip(view.lag)
            .is_some_and(|(limit, lag)| lag > limit / u64::from(part));
        let lagging = beyond_time || beyond_bytes;
        if lagging == view.lagging {
            return;
        }
        view.lagging = lagging;
        let host = view.addr.clone();
        events.push(if lagging {
            Event::HostLagging {
                host,
                lag: view.lag,
                staleness: view.staleness,
            }
        } else {
            Event::HostCaughtUp { host }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn age_is_counted_from_the_first_thing_that_is_missing() {
        let mut tide = Tide::default();
        assert_eq!(tide.age(s(1), Lsn::new(5)), None);
        for second in 1..=5 {
            tide.saw(s(second), Lsn::new(second * 100));
        }
        assert_eq!(tide.age(s(9), Lsn::new(500)), Some(s(0)));
        assert_eq!(tide.age(s(9), Lsn::new(499)), Some(s(4)));
        assert_eq!(tide.age(s(9), Lsn::new(100)), Some(s(7)));
        assert_eq!(tide.age(s(9), Lsn::new(1)), Some(s(8)));
        assert_eq!(tide.age(s(9), Lsn::new(900)), Some(s(0)));
    }

    #[test]
    fn it_forgets_detail_but_neither_end() {
        let mut tide = Tide::default();
        for second in 1..=100_000 {
            tide.saw(s(second), Lsn::new(second));
        }
        assert!(tide.marks.len() <= MARKS);
        assert_eq!(tide.high(), Some(Lsn::new(100_000)));
        for behind in [10, 100, 1000, 10_000, 99_000] {
            let age = tide.age(s(100_000), Lsn::new(100_000 - behind)).unwrap();
            assert!(age <= s(behind) && age >= s(behind) * 8 / 10, "{age:?}");
        }
    }

    #[test]
    fn a_quiet_writer_makes_nobody_old() {
        let mut tide = Tide::default();
        tide.saw(s(1), Lsn::new(7));
        tide.saw(s(1000), Lsn::new(7));
        assert_eq!(tide.age(s(2000), Lsn::new(7)), Some(s(0)));
    }
}
