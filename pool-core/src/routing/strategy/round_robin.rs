//! One after the other.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Takes the readers in turn.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    next: AtomicUsize,
}

impl RoundRobin {
    /// The next of `count` readers; `None` if there are none.
    pub(crate) fn pick(&self, count: usize) -> Option<usize> {
        self.next.fetch_add(1, Ordering::Relaxed).checked_rem(count)
    }
}
