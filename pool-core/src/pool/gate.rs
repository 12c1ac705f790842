//! The queue of those who wait for a writer.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// A first-in, first-out queue. Whoever has the turn waits for the writer; it passes the turn on
/// once it stands in the queue of the writer's own pool, so that the order of arrival is kept
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

#[derive(Debug)]
struct Place<'a>(&'a AtomicUsize);

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
