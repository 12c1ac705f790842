//! The knobs of what the application can watch.

use std::time::Duration;

/// How the pool shows itself in metrics, spans and its status.
///
/// ```
/// use leadpool::Config;
///
/// let config = Config::builder("postgres://db1/shop?application_name=till").build()?;
/// assert_eq!(config.pool_name(), "till");
/// let config = Config::builder("postgres://db1/shop").pool_name("orders").build()?;
/// assert_eq!(config.pool_name(), "orders");
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObserveSettings {
    /// The label `pool` of every metric, and the name in spans and in the status.
    ///
    /// All pools of one [`Cluster`](crate::Cluster) share it, and their gauges are added up; give
    /// each cluster of a process a name of its own. Not empty. Default `None`: the
    /// `application_name`, which the database shows too, or else `leadpool`.
    pub pool_name: Option<String>,
    /// How often the gauges are told besides when roles change: sizes, waits, lags.
    ///
    /// Counters and histograms are always up to date. It costs some microseconds of the monitor's
    /// task, and nothing on the network. Minimum 10 ms. Default 5 s: no more than what most
    /// scrapers ask for.
    pub metrics_interval: Duration,
}

impl Default for ObserveSettings {
    fn default() -> Self {
        Self {
            pool_name: None,
            metrics_interval: Duration::from_secs(5),
        }
    }
}
