//! By distance.

use std::{sync::atomic::AtomicUsize, time::Duration};

use super::{ReaderStrategy, Readers, best_in_turn};

/// Latencies that differ by less are equal: it is the machine's own noise.
const NOISE: Duration = Duration::from_micros(500);

/// Takes the reader that answers probes the quickest. Those that need at most a quarter longer,
/// or half a millisecond, count as equal, and are taken in turn.
///
/// The latency is smoothed over some probes, so a host that becomes slow is left after some of
/// them. A host whose latency is not known yet comes last.
///
/// ```
/// use leadpool::{Config, routing::LowestLatency};
///
/// let config = Config::builder("postgres://db1,db2/shop")
///     .reader_strategy(LowestLatency::new())
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Debug, Default)]
pub struct LowestLatency {
    turn: AtomicUsize,
}

impl LowestLatency {
    /// Latencies come from the monitor's probes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl ReaderStrategy for LowestLatency {
    fn pick(&self, readers: &Readers<'_>) -> usize {
        let latency = |at| {
            let known = readers.host(at).and_then(|host| host.latency);
            known.unwrap_or(Duration::MAX)
        };
        let lowest = (0..readers.len()).map(latency).min().unwrap_or_default();
        let near = lowest
            .saturating_add(lowest / 4)
            .max(lowest.saturating_add(NOISE));
        best_in_turn(&self.turn, readers, |at| latency(at) > near, bool::cmp)
    }
}
