//! The pool's options: those of `r2d2`, under the same names, and leadpool's beside them.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use diesel::PgConnection;
use leadpool::{
    Cluster, Config,
    config::{ConfigBuilder, ConfigError},
    discovery::Discovery,
};

use super::{
    Error, InteractPool, Pool,
    inner::Inner,
    r2d2::{self, ConnectionManager, CustomizeConnection},
    runtime::Runtime,
    session::Customizer,
};

type Configure = Box<dyn FnOnce(ConfigBuilder) -> ConfigBuilder + Send>;

/// Options of a [`Pool`] or an [`InteractPool`], in place of `r2d2`'s builder.
///
/// The sizes hold for each host: a pool of a cluster has one for each inside.
///
/// ```no_run
/// # fn f() -> Result<(), leadpool_diesel::blocking::Error> {
/// use diesel::PgConnection;
/// use leadpool_diesel::blocking::r2d2::{ConnectionManager, Pool};
///
/// let manager = ConnectionManager::<PgConnection>::new("postgres://app@db1,db2,db3/shop");
/// let pool = Pool::builder().max_size(15).min_idle(Some(2)).build(manager)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "options do nothing until `build` is called"]
pub struct Builder<M = ConnectionManager<PgConnection>> {
    pub(super) max_size: Option<u32>,
    pub(super) min_idle: Option<u32>,
    pub(super) test_on_check_out: bool,
    pub(super) max_lifetime: Option<Option<Duration>>,
    pub(super) idle_timeout: Option<Option<Duration>>,
    pub(super) connection_timeout: Option<Duration>,
    pub(super) customizer: Option<Arc<Customizer>>,
    pub(super) refuse_writes: bool,
    configure: Vec<Configure>,
    sources: Vec<Arc<dyn Discovery>>,
    manager: PhantomData<fn() -> M>,
}

impl<M> Default for Builder<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Builder<M> {
    /// leadpool's defaults.
    pub fn new() -> Self {
        Self {
            max_size: None,
            min_idle: None,
            test_on_check_out: false,
            max_lifetime: None,
            idle_timeout: None,
            connection_timeout: None,
            customizer: None,
            refuse_writes: false,
            configure: Vec::new(),
            sources: Vec::new(),
            manager: PhantomData,
        }
    }

    /// How many connections to each host there may be. Minimum 1. Default 16, as leadpool's
    /// [`writer_size`](leadpool::config::PoolSettings::writer_size) and
    /// [`reader_size`](leadpool::config::PoolSettings::reader_size), which it is in one; `r2d2`'s is
    /// 10.
    pub fn max_size(mut self, max: u32) -> Self {
        self.max_size = Some(max.max(1));
        self
    }

    /// How many connections to each host are kept open, also to standbys: so whoever is promoted
    /// is warm. `None` is [`max_size`](Self::max_size), as in `r2d2`. Without it none is opened
    /// before it is needed.
    ///
    /// It is not kept up with [`test_on_check_out`](Self::test_on_check_out).
    pub fn min_idle(mut self, min: Option<u32>) -> Self {
        // Never more than there may be.
        self.min_idle = Some(min.unwrap_or(u32::MAX));
        self
    }

    /// Whether each checkout asks the server whether the connection still lives.
    ///
    /// Default `false`, unlike `r2d2`'s: it costs a round trip each time. The monitor closes the
    /// connections to a host that has died or lost its role, and a checkout sees, where the
    /// [socket](super) can be had, whether the server has ended the connection.
    pub fn test_on_check_out(mut self, test: bool) -> Self {
        self.test_on_check_out = test;
        self
    }

    /// How old a connection may become. Default 30 minutes, as `r2d2`'s.
    pub fn max_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// How long a connection may be idle. Default 10 minutes, as `r2d2`'s.
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// How long a checkout may take: waiting for a usable host, for a free connection, and for one
    /// to be opened, all together. Default 30 s, as `r2d2`'s. It is leadpool's
    /// [`checkout_timeout`](leadpool::config::PoolSettings::checkout_timeout).
    pub fn connection_timeout(mut self, timeout: Duration) -> Self {
        self.connection_timeout = Some(timeout);
        self
    }

    /// Looks at each connection when it has been opened, and before it is closed.
    pub fn connection_customizer(
        mut self,
        customizer: Box<dyn CustomizeConnection<PgConnection, r2d2::Error>>,
    ) -> Self {
        self.customizer = Some(customizer.into());
        self
    }

    /// Whether connections of [`Pool::reader`] refuse statements that write, by their first word,
    /// before the server sees them: also while the writer serves that handle, where the server
    /// would not. The error is that of a read-only transaction. Default `false`.
    ///
    /// It covers what runs on the [`PooledConnection`](super::PooledConnection), not what runs on
    /// the [`PgConnection`] that it dereferences to, and no function that writes.
    /// [`run_tx`](Pool::run_tx) on that handle makes its transaction `READ ONLY`.
    pub fn refuse_writes(mut self, refuse: bool) -> Self {
        self.refuse_writes = refuse;
        self
    }

    /// Changes leadpool's configuration: every knob of [`ConfigBuilder`]. Of no effect with a
    /// cluster that has one.
    pub fn configure(
        mut self,
        change: impl FnOnce(ConfigBuilder) -> ConfigBuilder + Send + 'static,
    ) -> Self {
        self.configure.push(Box::new(change));
        self
    }

    /// Asks a source for the hosts: see
    /// [`PoolBuilder::discovery`](leadpool::PoolBuilder::discovery). Of no effect with a cluster
    /// that has its own.
    pub fn discovery(mut self, discovery: impl Discovery) -> Self {
        self.sources.push(Arc::new(discovery));
        self
    }

    /// Connects to a cluster from asynchronous code. The monitor runs on the runtime that this is
    /// called on.
    ///
    /// Waits until a writer is known, and opens no connection but the monitor's.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops everything that it started.
    pub async fn connect(self, url: &str) -> Result<InteractPool, Error> {
        Ok(InteractPool::new(self.start(url, false).await?))
    }

    /// An [`InteractPool`] of a cluster that is watched already, for instance for a
    /// [`leadpool::Pool`]. Must be called on a runtime of Tokio.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] names a setting of the cluster that libpq can't keep to.
    pub fn connect_cluster(self, cluster: &Cluster) -> Result<InteractPool, Error> {
        Ok(InteractPool::new(Inner::new(cluster, &self, false)?))
    }

    async fn start(mut self, url: &str, is_lazy: bool) -> Result<Arc<Inner>, Error> {
        let sources = std::mem::take(&mut self.sources);
        let config = self.config(url, is_lazy, !sources.is_empty());
        let config = config.map_err(leadpool::Error::from)?;
        let cluster = match sources.is_empty() {
            true => Cluster::connect(config).await?,
            false => Cluster::connect_all(config, sources).await?,
        };
        Inner::new(&cluster, &self, true)
    }

    fn config(
        &mut self,
        url: &str,
        is_lazy: bool,
        is_discovered: bool,
    ) -> Result<Config, ConfigError> {
        let mut config = Config::builder(url);
        if is_discovered {
            config = config.hosts_by_discovery();
        }
        for change in self.configure.drain(..) {
            config = change(config);
        }
        if let Some(size) = self.max_size {
            config = config.writer_size(size as usize).reader_size(size as usize);
        }
        if let Some(timeout) = self.connection_timeout {
            config = config.checkout_timeout(timeout);
        }
        if is_lazy {
            config = config.lazy(true);
        }
        config.build()
    }
}

impl Builder<ConnectionManager<PgConnection>> {
    /// Connects to the cluster that the manager names. Waits until a writer is known, and opens no
    /// connection but the monitor's.
    ///
    /// A thread is started for the monitor, which ends with the pool.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`]: [`Config`](leadpool::Error::Config) names the key that is wrong,
    /// [`NoHost`](leadpool::Error::NoHost) says what was seen on each host.
    pub fn build(self, manager: ConnectionManager<PgConnection>) -> Result<Pool, Error> {
        self.build_as(manager, false)
    }

    /// Makes the pool without waiting; checkouts then wait for a usable host.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] names the key that is wrong. `r2d2`'s gives a pool all the same.
    pub fn build_unchecked(self, manager: ConnectionManager<PgConnection>) -> Result<Pool, Error> {
        self.build_as(manager, true)
    }

    fn build_as(
        self,
        manager: ConnectionManager<PgConnection>,
        is_lazy: bool,
    ) -> Result<Pool, Error> {
        let runtime = Runtime::new().map_err(leadpool::Error::user)?;
        let url = manager.url;
        let started = runtime.run(async move { self.start(&url, is_lazy).await });
        let inner = started.unwrap_or(Err(Error::Pool(leadpool::Error::Closed)))?;
        Ok(Pool::open(inner, runtime))
    }
}

impl<M> fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("max_size", &self.max_size)
            .field("min_idle", &self.min_idle)
            .field("test_on_check_out", &self.test_on_check_out)
            .field("connection_timeout", &self.connection_timeout)
            .finish_non_exhaustive()
    }
}
