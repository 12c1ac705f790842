//! Which of several usable readers serves a checkout.

mod in_order;
mod least_connections;
mod lowest_lag;
mod lowest_latency;
mod random;
mod round_robin;
mod weight;
mod zone;

use std::{
    cmp::Ordering,
    fmt,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

pub use in_order::InOrder;
pub use least_connections::LeastConnections;
pub use lowest_lag::LowestLag;
pub use lowest_latency::LowestLatency;
pub use random::Random;
pub use round_robin::RoundRobin;
pub use weight::{HighestWeight, Weighted};
pub use zone::ZoneAffinity;

use crate::topology::HostView;

/// Picks one of the readers for a checkout.
///
/// It is asked on each checkout of a reader, so it should be quick, and must not block.
///
/// ```
/// use leadpool::routing::{ReaderStrategy, Readers};
///
/// /// The reader whose name comes first.
/// #[derive(Debug)]
/// struct FirstByName;
///
/// impl ReaderStrategy for FirstByName {
///     fn pick(&self, readers: &Readers<'_>) -> usize {
///         let name = |at: &usize| readers.host(*at).map(|host| host.addr.clone());
///         (0..readers.len()).min_by_key(name).unwrap_or_default()
///     }
/// }
///
/// let config = leadpool::Config::builder("postgres://db1,db2,db3/shop")
///     .reader_strategy(FirstByName)
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
pub trait ReaderStrategy: fmt::Debug + Send + Sync + 'static {
    /// The place of the reader to use, from 0. There is at least one; a place beyond the last
    /// means the last.
    fn pick(&self, readers: &Readers<'_>) -> usize;
}

/// The usable readers of a moment, in the order of the configuration, then of discovery.
///
/// ```
/// use leadpool::routing::{ReaderStrategy, Readers};
///
/// /// The one with the fewest connections in use.
/// #[derive(Debug)]
/// struct Calmest;
///
/// impl ReaderStrategy for Calmest {
///     fn pick(&self, readers: &Readers<'_>) -> usize {
///         (0..readers.len()).min_by_key(|at| readers.in_use(*at)).unwrap_or_default()
///     }
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Readers<'a> {
    lookup: &'a dyn Lookup,
}

/// Where [`Readers`] looks things up, when it is asked.
pub(crate) trait Lookup {
    fn len(&self) -> usize;
    fn host(&self, at: usize) -> Option<&HostView>;
    fn in_use(&self, at: usize) -> usize;
}

impl<'a> Readers<'a> {
    pub(crate) fn new(lookup: &'a dyn Lookup) -> Self {
        Self { lookup }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lookup.len()
    }

    /// Whether there is none; a strategy is not asked then.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of the reader at this place: latency, lag, weight, zone, name. `None` if it
    /// left the cluster a moment ago.
    #[must_use]
    pub fn host(&self, at: usize) -> Option<&HostView> {
        self.lookup.host(at)
    }

    /// How many connections of this pool are checked out there. Takes a short lock.
    #[must_use]
    pub fn in_use(&self, at: usize) -> usize {
        self.lookup.in_use(at)
    }
}

impl fmt::Debug for Readers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = (0..self.len()).filter_map(|at| Some(&self.host(at)?.addr));
        f.debug_list().entries(hosts).finish()
    }
}

/// The best reader; of equal ones each in its turn.
fn best_in_turn<K>(
    turn: &AtomicUsize,
    readers: &Readers<'_>,
    key: impl Fn(usize) -> K,
    compare: impl Fn(&K, &K) -> Ordering,
) -> usize {
    let count = readers.len().max(1);
    let start = turn.fetch_add(1, Relaxed);
    let places = (0..count).map(|step| start.wrapping_add(step) % count);
    places
        .map(|at| (key(at), at))
        .reduce(|best, next| match compare(&next.0, &best.0) {
            Ordering::Less => next,
            Ordering::Equal | Ordering::Greater => best,
        })
        .map_or(0, |(_, at)| at)
}

/// The strategy of that name, as the AWS drivers and leadpool spell them.
pub(crate) fn by_name(name: &str) -> Option<Box<dyn ReaderStrategy>> {
    Some(match name.to_ascii_lowercase().replace('-', "_").as_str() {
        "random" => Box::new(Random::new()),
        "round_robin" => Box::new(RoundRobin::new()),
        "in_order" => Box::new(InOrder::new()),
        "weighted" => Box::new(Weighted::new()),
        "highest_weight" => Box::new(HighestWeight::new()),
        "least_connections" => Box::new(LeastConnections::new()),
        "lowest_latency" => Box::new(LowestLatency::new()),
        "lowest_lag" => Box::new(LowestLag::new()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
