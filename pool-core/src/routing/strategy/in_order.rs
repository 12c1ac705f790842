//! The first one.

use super::{ReaderStrategy, Readers};

/// Takes the first usable reader in the order of the configuration: libpq's
/// `load_balance_hosts=disable`.
///
/// ```
/// use leadpool::{Config, routing::InOrder};
///
/// let config = Config::builder("postgres://db1,db2/shop").reader_strategy(InOrder::new()).build()?;
/// let the_same = Config::from_url("postgres://db1,db2/shop?load_balance_hosts=disable")?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct InOrder {}

impl InOrder {
    /// Always the first.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }
}

impl ReaderStrategy for InOrder {
    fn pick(&self, _: &Readers<'_>) -> usize {
        0
    }
}
