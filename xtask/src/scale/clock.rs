//! Virtual time: what happens next.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

/// Microseconds since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) u64);

impl Time {
    pub(super) fn since_start(self) -> Duration {
        Duration::from_micros(self.0)
    }

    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl From<Duration> for Time {
    fn from(since_start: Duration) -> Self {
        // Centuries fit in.
        Self(u64::try_from(since_start.as_micros()).unwrap_or(u64::MAX))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(Self::from(by).0))
    }
}

/// What is to happen, in the order of time; at one time, in the order in which it was planned. So
/// the same plan always plays alike.
#[derive(Debug)]
pub(super) struct Agenda<E> {
    now: Time,
    planned: u64,
    entries: BinaryHeap<Reverse<Entry<E>>>,
}

#[derive(Debug)]
struct Entry<E> {
    at: Time,
    number: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub(super) fn new(now: Time) -> Self {
        Self {
            now,
            planned: 0,
            entries: BinaryHeap::new(),
        }
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Plans it; what should have happened already happens next.
    pub(super) fn at(&mut self, at: Time, event: E) {
        self.planned += 1;
        self.entries.push(Reverse(Entry {
            at: at.max(self.now),
            number: self.planned,
            event,
        }));
    }

    pub(super) fn after(&mut self, pause: Duration, event: E) {
        self.at(self.now + pause, event);
    }

    /// What happens next, if that is not later than `end`.
    pub(super) fn next(&mut self, end: Time) -> Option<E> {
        self.entries.peek().filter(|entry| entry.0.at <= end)?;
        let Reverse(entry) = self.entries.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}

impl<E> Entry<E> {
    fn key(&self) -> (Time, u64) {
        (self.at, self.number)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}
