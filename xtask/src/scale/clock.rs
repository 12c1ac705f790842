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

/// How much of time a slot holds, in microseconds.
const SLOT: u64 = 1_000;
/// How many slots are ahead.
const AHEAD: u64 = 4_096;

/// What is to happen, in the order of time; at one time, in the order in which it was planned. So
/// the same plan always plays alike.
///
/// Only what is in the slot of now is kept in order: with a hundred thousand entries, order is what
/// costs.
#[derive(Debug)]
pub(super) struct Agenda<E> {
    now: Time,
    planned: u64,
    /// The slot of now, and what is planned until its end.
    slot: u64,
    current: BinaryHeap<Reverse<Entry<E>>>,
    /// The slots after it, each at its number modulo `AHEAD`.
    ahead: Vec<Vec<Reverse<Entry<E>>>>,
    /// What comes after those.
    far: BinaryHeap<Reverse<Entry<E>>>,
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
            slot: now.0 / SLOT,
            current: BinaryHeap::new(),
            ahead: (0..AHEAD).map(|_| Vec::new()).collect(),
            far: BinaryHeap::new(),
        }
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Plans it; what should have happened already happens next.
    pub(super) fn at(&mut self, at: Time, event: E) {
        self.planned += 1;
        let at = at.max(self.now);
        let entry = Reverse(Entry {
            at,
            number: self.planned,
            event,
        });
        match (at.0 / SLOT).saturating_sub(self.slot) {
            0 => self.current.push(entry),
            slots if slots < AHEAD => self.ahead[(at.0 / SLOT % AHEAD) as usize].push(entry),
            _ => self.far.push(entry),
        }
    }

    pub(super) fn after(&mut self, pause: Duration, event: E) {
        self.at(self.now + pause, event);
    }

    /// What happens next, if that is not later than `end`.
    pub(super) fn next(&mut self, end: Time) -> Option<E> {
        while self.current.is_empty() && self.slot < end.0 / SLOT {
            self.slot += 1;
            let slot = &mut self.ahead[(self.slot % AHEAD) as usize];
            self.current = std::mem::take(slot).into();
            while let Some(entry) = self.far.peek() {
                if entry.0.at.0 / SLOT > self.slot {
                    break;
                }
                self.current.extend(self.far.pop());
            }
        }
        self.current.peek().filter(|entry| entry.0.at <= end)?;
        let Reverse(entry) = self.current.pop()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_or_far_all_come_in_the_order_of_time() {
        let mut dice = fastrand::Rng::with_seed(1);
        let mut agenda = Agenda::new(Time(5_000));
        let mut planned = Vec::new();
        for number in 0..3_000_u32 {
            let most = [2, 3_000, 10_000_000][number as usize % 3];
            let at = Time(5_000 + dice.u64(0..most));
            planned.push((at, number));
            agenda.at(at, number);
        }
        planned.sort();
        let mut came = Vec::new();
        while let Some(number) = agenda.next(Time(20_000_000)) {
            came.push((agenda.now(), number));
            // What is planned on the way comes in its turn.
            if number % 7 == 0 && number < 3_000 {
                let at = agenda.now() + Duration::from_micros(dice.u64(0..6_000_000));
                planned.push((at, 10_000 + number));
                agenda.at(at, 10_000 + number);
            }
        }
        planned.sort_by_key(|(at, _)| *at);
        let times = |all: &[(Time, u32)]| all.iter().map(|(at, _)| *at).collect::<Vec<_>>();
        assert_eq!(times(&came), times(&planned));
    }

    #[test]
    fn what_is_later_than_the_end_waits() {
        let mut agenda = Agenda::new(Time(0));
        agenda.at(Time(7_500), 1);
        assert_eq!(agenda.next(Time(7_400)), None);
        assert_eq!(agenda.next(Time(7_600)), Some(1));
    }
}
