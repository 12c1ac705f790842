//! How many may watch.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Who has taken no frame for so long gives way to others: the client is gone, or does not read.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(60);

/// The places of those who watch.
#[derive(Debug)]
pub(super) struct Seats(Mutex<State>);

#[derive(Debug)]
struct State {
    most: usize,
    next: u64,
    /// When each has last taken a frame.
    taken: HashMap<u64, Instant>,
}

/// The place of one who watches; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    seats: Arc<Seats>,
}

impl Seats {
    pub(super) fn new(most: usize) -> Self {
        Self(Mutex::new(State {
            most,
            next: 0,
            taken: HashMap::new(),
        }))
    }

    pub(super) fn resize(&self, most: usize) {
        self.lock().most = most;
    }

    pub(super) fn are_empty(&self) -> bool {
        self.lock().taken.is_empty()
    }

    /// `None` if there is none left.
    pub(super) fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut state = self.lock();
        let now = Instant::now();
        if state.taken.len() >= state.most {
            state
                .taken
                .retain(|_, at| now.saturating_duration_since(*at) < GIVES_WAY_AFTER);
        }
        if state.taken.len() >= state.most {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.taken.insert(number, now);
        Some(Seat {
            number,
            seats: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Keeps the place for another while; `false` if it was given away.
    pub(super) fn renew(&self) -> bool {
        match self.seats.lock().taken.get_mut(&self.number) {
            Some(at) => {
                *at = Instant::now();
                true
            }
            None => false,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_gives_way_only_when_it_is_crowded() {
        let seats = Arc::new(Seats::new(2));
        let first = seats.take().unwrap();
        let second = seats.take().unwrap();
        assert!(seats.take().is_none());
        advance(GIVES_WAY_AFTER).await;
        assert!(first.renew() && second.renew());
        assert!(seats.take().is_none());
        advance(GIVES_WAY_AFTER).await;
        assert!(second.renew());
        let third = seats.take().unwrap();
        assert!(!first.renew());
        drop(first);
        assert!(seats.take().is_none());
        drop((second, third));
        assert!(seats.are_empty());
    }
}
