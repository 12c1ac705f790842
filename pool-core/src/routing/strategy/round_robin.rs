//! One after the other.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ReaderStrategy, Readers};

/// Takes the readers in turn: the default.
///
/// ```
/// use leadpool::{Config, routing::RoundRobin};
///
/// let config = Config::builder("postgres://db1,db2/shop").reader_strategy(RoundRobin::new());
/// # config.build().map(drop)
/// # ;
/// ```
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: AtomicUsize,
}

impl RoundRobin {
    /// Begins with the first reader.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl ReaderStrategy for RoundRobin {
    fn pick(&self, readers: &Readers<'_>) -> usize {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        next.checked_rem(readers.len()).unwrap_or_default()
    }
}
