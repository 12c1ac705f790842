//! Who has something paused.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The pauses that last. What they concern is paused while there is one.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<Lasting>);

#[derive(Debug, Default)]
struct Lasting {
    next: u64,
    numbers: Vec<u64>,
}

impl Pauses {
    /// Begins one; says its number, and whether it is the only one.
    pub(crate) fn begin(&self) -> (u64, bool) {
        let mut lasting = self.lock();
        lasting.next += 1;
        let number = lasting.next;
        lasting.numbers.push(number);
        (number, lasting.numbers.len() == 1)
    }

    /// Ends one; says whether it was the last. One that has ended before changes nothing.
    pub(crate) fn end(&self, number: u64) -> bool {
        let mut lasting = self.lock();
        let before = lasting.numbers.len();
        lasting.numbers.retain(|other| *other != number);
        before > 0 && lasting.numbers.is_empty()
    }

    /// Ends all; says whether there was one.
    pub(crate) fn end_all(&self) -> bool {
        !std::mem::take(&mut self.lock().numbers).is_empty()
    }

    /// Whether there is one.
    pub(crate) fn is_paused(&self) -> bool {
        !self.lock().numbers.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Lasting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
