//! What came of the reads.

use std::{fmt, ops::AddAssign, time::Duration};

use clap::ValueEnum as _;
use leadpool::consistency::ServedBy;

use super::Driver;

/// Who served so many reads, and how many of them were stale.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Served {
    standby: u64,
    waited: u64,
    writer: u64,
    /// By the standby that dawdles.
    late: u64,
    stale: u64,
    /// Without a token.
    pub(super) plain: u64,
    pub(super) plain_stale: u64,
}

impl Served {
    pub(super) fn add(&mut self, by: ServedBy, is_stale: bool, is_late: bool) {
        match by {
            ServedBy::Standby => self.standby += 1,
            ServedBy::Waited => self.waited += 1,
            _ => self.writer += 1,
        }
        self.late += u64::from(is_late);
        self.stale += u64::from(is_stale);
    }
}

impl AddAssign for Served {
    fn add_assign(&mut self, other: Self) {
        self.standby += other.standby;
        self.waited += other.waited;
        self.writer += other.writer;
        self.late += other.late;
        self.stale += other.stale;
        self.plain += other.plain;
        self.plain_stale += other.plain_stale;
    }
}

/// One row of the table.
pub(super) struct Report {
    driver: Driver,
    served: Served,
    took: Duration,
    pub(super) stale: u64,
}

impl Report {
    pub(super) fn new(driver: Driver, served: Served, took: Duration) -> Self {
        Self {
            driver,
            served,
            took,
            stale: served.stale,
        }
    }

    pub(super) fn head() -> &'static str {
        "| driver | pairs | stale | by standbys | known at once | waited for | by the writer | by the one behind | stale without a token | pairs/s |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let served = &self.served;
        let pairs = served.standby + served.waited + served.writer;
        let share = |part: u64| 100.0 * part as f64 / pairs.max(1) as f64;
        let name = self.driver.to_possible_value();
        let name = name.as_ref().map_or("", |name| name.get_name());
        write!(
            f,
            "| {name} | {pairs} | {} | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {} of {} | {:.0} |",
            served.stale,
            share(served.standby + served.waited),
            share(served.standby),
            share(served.waited),
            share(served.writer),
            share(served.late),
            served.plain_stale,
            served.plain,
            pairs as f64 / self.took.as_secs_f64()
        )
    }
}
