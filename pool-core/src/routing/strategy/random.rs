//! Any one.

use super::{ReaderStrategy, Readers};

/// Takes any reader, each as likely as the others: libpq's `load_balance_hosts=random`.
///
/// ```
/// use leadpool::{Config, routing::Random};
///
/// let config = Config::builder("postgres://db1,db2/shop").reader_strategy(Random::new()).build()?;
/// let the_same = Config::from_url("postgres://db1,db2/shop?load_balance_hosts=random")?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Random {}

impl Random {
    /// No state, no turn.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }
}

impl ReaderStrategy for Random {
    fn pick(&self, readers: &Readers<'_>) -> usize {
        fastrand::usize(..readers.len().max(1))
    }
}
