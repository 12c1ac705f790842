//! The knobs of how many connections there are, how long they live, and how many may wait.

use std::time::Duration;

/// How many connections are kept, how long they live, and how many checkouts may wait for one.
///
/// What they mean together: [the manual](crate::manual::limits).
///
/// ```
/// use std::time::Duration;
/// use leadpool::Config;
///
/// let config = Config::builder("postgres://db1,db2/shop")
///     .writer_min_size(2)
///     .reader_min_size(2)
///     .max_waiting(Some(200))
///     .build()?;
/// assert_eq!(config.limits().max_lifetime, Some(Duration::from_secs(30 * 60)));
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitSettings {
    /// How many connections the writer's sub-pool keeps open, used or not.
    ///
    /// They are opened in the background, within the
    /// [admission cap](super::PoolSettings::max_concurrent_connects), and opened again when they
    /// are lost. Not above [`writer_size`](super::PoolSettings::writer_size). Default 0: an idle
    /// application costs the server nothing but the monitor's session.
    pub writer_min_size: usize,
    /// How many connections the sub-pool of each usable standby keeps open.
    ///
    /// A promoted standby takes them along, so these are what the first writes after a failover
    /// find open: the one setting that makes them faster. Not above
    /// [`reader_size`](super::PoolSettings::reader_size). Default 0, as the writer's.
    pub reader_min_size: usize,
    /// How many connections a host gets at once when it becomes the writer.
    ///
    /// Those that it has are counted, and those that checkouts open themselves. After that they
    /// may idle out, unlike [`writer_min_size`](Self::writer_min_size). Not above
    /// [`writer_size`](super::PoolSettings::writer_size). Default 0: those who wait open the
    /// connections that they need at the same time anyway, and more than that only competes with
    /// them.
    pub warm_up: usize,
    /// How long those who wait for the new writer are held back until
    /// [`warm_up`](Self::warm_up) is reached, at most.
    ///
    /// A host that had so many already holds nobody back. Default 0, nobody is held back: each
    /// would only wait longer than for a connection of its own.
    pub warm_up_wait: Duration,
    /// How long a connection may be unused before it is closed, as long as more than the minimum
    /// are open.
    ///
    /// It is found a tenth of this time later at most, 30 s at most. The connection returned last
    /// is the next to be taken, so that those too many do fall idle. Minimum 100 ms; `None`: never.
    /// Default 10 min: long enough for the pauses of a working day, short enough that a peak does
    /// not hold the server's memory until the next restart.
    pub idle_timeout: Option<Duration>,
    /// How old a connection may become.
    ///
    /// One in use is never touched: it is closed once it has come back. Each has a limit of its
    /// own, up to a tenth shorter, so that a pool that was filled at once is not emptied at once.
    /// Where a minimum is set the replacement is opened first. Minimum 100 ms; `None`: for ever.
    /// Default 30 min: backends grow with the catalogue and the plans that they have seen, and
    /// what was balanced at connecting (addresses behind a name, credentials) is looked at anew.
    pub max_lifetime: Option<Duration>,
    /// How many checkouts of a pool may wait, for a writer, for a connection or for the end of a
    /// pause; one more fails at once with [`Error::Overloaded`](crate::Error::Overloaded).
    ///
    /// Those for whom a connection is being opened do not count, as long as the sub-pool has
    /// room. Repetitions of a transaction are never refused. With 0 nobody may wait. Default
    /// `None`, no limit: each waits for
    /// [`checkout_timeout`](super::PoolSettings::checkout_timeout) at most, and waiting out a
    /// failover is what the pool is for. A service that would rather refuse early sets what it
    /// serves in the time that its callers wait.
    pub max_waiting: Option<usize>,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            writer_min_size: 0,
            reader_min_size: 0,
            warm_up: 0,
            warm_up_wait: Duration::ZERO,
            idle_timeout: Some(Duration::from_secs(10 * 60)),
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            max_waiting: None,
        }
    }
}
