//! What a pool is made with.

use std::{sync::Arc, time::Duration};

use leadpool::{Cluster, Config, config::ConfigBuilder, discovery::Discovery};

use super::{Error, Pool};

/// Builds a [`Pool`].
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool_diesel::Error> {
/// use std::time::Duration;
/// use leadpool_diesel::Pool;
///
/// let pool = Pool::builder("postgres://app@db1,db2,db3/shop")
///     .max_size(20)
///     .wait_timeout(Duration::from_secs(10))
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is awaited"]
pub struct PoolBuilder {
    config: ConfigBuilder,
    sources: Vec<Arc<dyn Discovery>>,
}

impl PoolBuilder {
    pub(super) fn new(conninfo: &str) -> Self {
        Self {
            config: Config::builder(conninfo),
            sources: Vec::new(),
        }
    }

    /// How many connections to each host there may be: leadpool's
    /// [`writer_size`](leadpool::config::PoolSettings::writer_size) and
    /// [`reader_size`](leadpool::config::PoolSettings::reader_size) in one.
    pub fn max_size(self, size: usize) -> Self {
        self.configure(|config| config.writer_size(size).reader_size(size))
    }

    /// How long a checkout waits for a usable host and for a place, in all: leadpool's
    /// [`checkout_timeout`](leadpool::config::PoolSettings::checkout_timeout).
    pub fn wait_timeout(self, timeout: Duration) -> Self {
        self.configure(|config| config.checkout_timeout(timeout))
    }

    /// Changes the configuration: every knob of [`ConfigBuilder`].
    pub fn configure(mut self, change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        self.config = change(self.config);
        self
    }

    /// Asks a source for the hosts: see
    /// [`PoolBuilder::discovery`](leadpool::PoolBuilder::discovery).
    pub fn discovery(mut self, discovery: impl Discovery) -> Self {
        self.config = self.config.hosts_by_discovery();
        self.sources.push(Arc::new(discovery));
        self
    }

    /// Checks the configuration and connects.
    ///
    /// # Errors
    ///
    /// As [`Pool::connect`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::connect`].
    pub async fn build(self) -> Result<Pool, Error> {
        let config = self.config.build().map_err(leadpool::Error::from)?;
        let cluster = match self.sources.is_empty() {
            false => Cluster::connect_all(config, self.sources).await?,
            true => Cluster::connect(config).await?,
        };
        Ok(Pool::open(&cluster, true))
    }
}
