//! By freshness.

use std::{sync::atomic::AtomicUsize, time::Duration};

use super::{ReaderStrategy, Readers, best_in_turn};

/// Takes the reader whose data is freshest: of the lowest
/// [`staleness`](crate::topology::HostView::staleness), then of the lowest
/// [`lag`](crate::topology::HostView::lag) if it is not fresh. Of equal ones each in its turn.
///
/// Both are as old as the last probe, so this prefers, it promises nothing. To keep reads away
/// from standbys that are too far behind, set
/// [`max_lag`](crate::config::MonitorSettings::max_lag).
///
/// ```
/// use leadpool::{Config, routing::LowestLag};
///
/// let config = Config::builder("postgres://db1,db2/shop")
///     .reader_strategy(LowestLag::new())
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Debug, Default)]
pub struct LowestLag {
    turn: AtomicUsize,
}

impl LowestLag {
    /// Lag comes from the monitor's probes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl ReaderStrategy for LowestLag {
    fn pick(&self, readers: &Readers<'_>) -> usize {
        let age = |at| {
            let host = readers.host(at);
            let staleness = host
                .and_then(|host| host.staleness)
                .unwrap_or(Duration::MAX);
            let lag = host.and_then(|host| host.lag).unwrap_or(u64::MAX);
            // Some bytes are always on their way to a standby that keeps up.
            (staleness, if staleness.is_zero() { 0 } else { lag })
        };
        best_in_turn(&self.turn, readers, age, Ord::cmp)
    }
}
