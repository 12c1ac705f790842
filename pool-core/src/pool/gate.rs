//! The queues of those who wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// A first-in, first-out queue. Whoever has the turn waits for a route; it passes the turn on
/// once it stands in the queue of the host's own pool, so that the order of arrival is kept
/// across a failover.
#[derive(Debug)]
pub(super) struct Gate {
    turn: Semaphore,
    waiting: AtomicUsize,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            turn: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether somebody waits: who comes now must not overtake.
    #[inline]
    pub(super) fn is_queued(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Queues up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the turn, lets the next one in.
    pub(super) async fn enter(&self) -> Turn<'_> {
        let place = Place::new(&self.waiting);
        match self.turn.acquire().await {
            Ok(permit) => Turn {
                _permit: permit,
                _place: place,
            },
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The right to go next.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    _place: Place<'a>,
}

/// One of those who are counted.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many checkouts wait, and how many may.
#[derive(Debug)]
pub(super) struct Waiting {
    count: AtomicUsize,
    most: Option<usize>,
}

impl Waiting {
    pub(super) fn new(most: Option<usize>) -> Self {
        Self {
            count: AtomicUsize::new(0),
            most,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts one more; else says how many wait and may. `always`: beyond the limit too.
    pub(super) fn enter(&self, always: bool) -> Result<Place<'_>, (usize, usize)> {
        let most = self.most.filter(|_| !always).unwrap_or(usize::MAX);
        let counted = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < most).then_some(count + 1)
            });
        match counted {
            Ok(_) => Ok(Place(&self.count)),
            Err(count) => Err((count, most)),
        }
    }
}
