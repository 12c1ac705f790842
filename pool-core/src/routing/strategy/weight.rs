//! By weight.

use std::sync::atomic::AtomicUsize;

use super::{ReaderStrategy, Readers, best_in_turn};

/// Takes readers at random, each as often as its weight says: one of weight 3 three times as
/// often as one of weight 1.
///
/// ```
/// use leadpool::{Config, HostAddr, routing::Weighted};
///
/// let config = Config::builder("postgres://db1,db2,db3/shop")
///     .host_weight(HostAddr::new("db3", 5432), 3)
///     .reader_strategy(Weighted::new())
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Weighted {}

impl Weighted {
    /// Weights come from the configuration and from discovery.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }
}

impl ReaderStrategy for Weighted {
    fn pick(&self, readers: &Readers<'_>) -> usize {
        let weight = |at| readers.host(at).map_or(0, |host| u64::from(host.weight));
        let all: u64 = (0..readers.len()).map(weight).sum();
        if all == 0 {
            return 0;
        }
        let mut lot = fastrand::u64(..all);
        for at in 0..readers.len() {
            match lot.checked_sub(weight(at)) {
                Some(rest) => lot = rest,
                None => return at,
            }
        }
        0
    }
}

/// Takes the reader of the highest weight; of several, each in its turn. The others are there for
/// when it is not.
///
/// The weight is what an operator or a discovery gives, never the load: the AWS drivers'
/// strategy of this name picks the most loaded reader on Aurora.
///
/// ```
/// use leadpool::{Config, HostAddr, routing::HighestWeight};
///
/// let config = Config::builder("postgres://db1,db2,db3/shop")
///     .host_weight(HostAddr::new("db3", 5432), 10)
///     .reader_strategy(HighestWeight::new())
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Debug, Default)]
pub struct HighestWeight {
    turn: AtomicUsize,
}

impl HighestWeight {
    /// Weights come from the configuration and from discovery.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl ReaderStrategy for HighestWeight {
    fn pick(&self, readers: &Readers<'_>) -> usize {
        let weight = |at| readers.host(at).map_or(0, |host| host.weight);
        best_in_turn(&self.turn, readers, weight, |a, b| b.cmp(a))
    }
}
