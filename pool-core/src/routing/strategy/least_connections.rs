//! By load.

use std::sync::atomic::AtomicUsize;

use super::{ReaderStrategy, Readers, best_in_turn};

/// Takes the reader on which the fewest connections of this pool are in use; of several, each in
/// its turn.
///
/// It looks at the gauges of each sub-pool, so a checkout takes a short lock a reader.
///
/// ```
/// use leadpool::{Config, routing::LeastConnections};
///
/// let config = Config::builder("postgres://db1,db2/shop")
///     .reader_strategy(LeastConnections::new())
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Debug, Default)]
pub struct LeastConnections {
    turn: AtomicUsize,
}

impl LeastConnections {
    /// Counts what is checked out.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl ReaderStrategy for LeastConnections {
    fn pick(&self, readers: &Readers<'_>) -> usize {
        best_in_turn(&self.turn, readers, |at| readers.in_use(at), usize::cmp)
    }
}
