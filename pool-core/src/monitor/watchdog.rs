//! Looking after the hosts that connections are checked out of.
//!
//! Nothing is measured where connections are used: checkouts and connections leave a mark each,
//! and here the marks are collected, at an interval, for as long as something is checked out.

use std::time::Duration;

use tokio::time::Instant;

use super::shared::Shared;
use crate::{failover::Input, topology::HostAddr};

/// How late the worker may be before its own lateness counts.
const LATE: Duration = Duration::from_millis(250);

/// When to look, and what was seen.
#[derive(Debug)]
pub(super) struct Watchdog {
    interval: Duration,
    /// `None` while nothing is checked out.
    next: Option<Instant>,
    /// When the worker was to run at the latest.
    expected: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: None,
            expected: None,
        }
    }

    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Something was checked out, after a time in which nothing was.
    pub(super) fn wake<'a>(
        &mut self,
        shared: &Shared,
        watched: impl Iterator<Item = &'a HostAddr>,
    ) {
        if self.next.is_none() {
            // What came before says nothing of now.
            for host in watched {
                shared.pulse(host).take();
            }
            self.next = Some(Instant::now() + self.interval);
        }
    }

    /// Looks, if it is time.
    pub(super) fn look<'a>(
        &mut self,
        shared: &Shared,
        watched: impl Iterator<Item = &'a HostAddr>,
    ) -> Option<Input> {
        let now = Instant::now();
        self.next.filter(|next| *next <= now)?;
        // Cleared first: a checkout that comes now sets it again and wakes again.
        let lately = shared.take_used();
        let (mut in_use, mut heard) = (Vec::new(), Vec::new());
        for host in watched {
            if shared.is_in_use(host) {
                in_use.push(host.clone());
            }
            if shared.pulse(host).take() {
                heard.push(host.clone());
            }
        }
        self.next = (lately || !in_use.is_empty()).then(|| now + self.interval);
        Some(Input::Looked { in_use, heard })
    }

    /// The worker is going to sleep, until then at the latest.
    pub(super) fn sleeps_until(&mut self, at: Instant) {
        self.expected = Some(at);
    }

    /// Whether the worker was kept from running, for how long: by a thread that was blocked, or
    /// because the whole process stood still.
    pub(super) fn stalled(&mut self) -> Option<Input> {
        let late = self.expected.take()?.elapsed();
        (late > LATE).then_some(Input::Stalled(late))
    }
}
