//! The pool's options: sqlx's own, under the same names, and leadpool's beside them.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use leadpool::{
    Cluster, Config,
    config::{ConfigBuilder, LimitSettings, PoolSettings},
    discovery::Discovery,
};
use sqlx::{
    PgConnection,
    pool::PoolConnectionMetadata,
    postgres::{PgConnectOptions, PgPoolOptions as SqlxOptions},
};

use crate::{Pool, error::into_sqlx};

pub(crate) type Hook<T> = Arc<
    dyn for<'c> Fn(
            &'c mut PgConnection,
            PoolConnectionMetadata,
        ) -> BoxFuture<'c, Result<T, sqlx::Error>>
        + Send
        + Sync,
>;
type Configure = Arc<dyn Fn(ConfigBuilder) -> ConfigBuilder + Send + Sync>;

/// Options of a [`Pool`], in place of [`sqlx::postgres::PgPoolOptions`]: its methods, and a few
/// more.
///
/// The sizes hold for each host: a pool of a cluster has one `PgPool` a host inside.
///
/// ```no_run
/// # async fn f() -> Result<(), sqlx::Error> {
/// use leadpool_sqlx::PgPoolOptions;
///
/// let pool = PgPoolOptions::new()
///     .max_connections(20)
///     .connect("postgres://app@db1,db2,db3/shop")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until `connect` is awaited"]
pub struct PgPoolOptions {
    /// Without hooks, since they can't be read from it.
    pub(crate) sqlx: SqlxOptions,
    said: Said,
    pub(crate) after_connect: Option<Hook<()>>,
    pub(crate) before_acquire: Option<Hook<bool>>,
    pub(crate) after_release: Option<Hook<bool>>,
    pub(crate) connect_options: Option<PgConnectOptions>,
    pub(crate) socket_switch: bool,
    configure: Vec<Configure>,
    sources: Vec<Arc<dyn Discovery>>,
}

/// Which limits were set here; the others are those of leadpool's configuration.
#[derive(Clone, Copy, Default)]
struct Said {
    max_connections: bool,
    min_connections: bool,
    acquire_timeout: bool,
    max_lifetime: bool,
    idle_timeout: bool,
}

impl Default for PgPoolOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl PgPoolOptions {
    /// sqlx's defaults, but for [`test_before_acquire`](Self::test_before_acquire) and
    /// [`max_connections`](Self::max_connections).
    pub fn new() -> Self {
        let sizes = PoolSettings::default();
        Self {
            sqlx: SqlxOptions::new()
                .test_before_acquire(false)
                .max_connections(count(sizes.writer_size.max(sizes.reader_size))),
            said: Said::default(),
            after_connect: None,
            before_acquire: None,
            after_release: None,
            connect_options: None,
            socket_switch: false,
            configure: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// How many connections to each host there may be. Minimum 1.
    ///
    /// It is leadpool's [`writer_size`](PoolSettings::writer_size) and
    /// [`reader_size`](PoolSettings::reader_size) in one; without it the greater of both counts,
    /// since a pool of sqlx can't grow when its host is promoted. Default 16, as leadpool's; sqlx's
    /// is 10.
    pub fn max_connections(mut self, max: u32) -> Self {
        self.said.max_connections = true;
        self.sqlx = self.sqlx.max_connections(max.max(1));
        self
    }

    /// How many connections to each host there may be.
    #[must_use]
    pub fn get_max_connections(&self) -> u32 {
        self.sqlx.get_max_connections()
    }

    /// How many connections to each host are kept open, also to standbys: so whoever is promoted
    /// is warm. Default 0, as sqlx's.
    ///
    /// It is leadpool's [`writer_min_size`](LimitSettings::writer_min_size) and
    /// [`reader_min_size`](LimitSettings::reader_min_size) in one. leadpool opens them, not sqlx.
    pub fn min_connections(mut self, min: u32) -> Self {
        self.said.min_connections = true;
        self.sqlx = self.sqlx.min_connections(min);
        self
    }

    /// How many connections to each host are kept open.
    #[must_use]
    pub fn get_min_connections(&self) -> u32 {
        self.sqlx.get_min_connections()
    }

    /// How long a checkout may take: waiting for a usable host, for a free connection, and for one
    /// to be opened, all together. Default 30 s, as sqlx's. It is leadpool's
    /// [`checkout_timeout`](PoolSettings::checkout_timeout).
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.said.acquire_timeout = true;
        self.sqlx = self.sqlx.acquire_timeout(timeout);
        self
    }

    /// How long a checkout may take.
    #[must_use]
    pub fn get_acquire_timeout(&self) -> Duration {
        self.sqlx.get_acquire_timeout()
    }

    /// How old a connection may become. Default 30 minutes, as sqlx's. It is leadpool's
    /// [`max_lifetime`](LimitSettings::max_lifetime), but sqlx keeps to it, without jitter.
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.said.max_lifetime = true;
        self.sqlx = self.sqlx.max_lifetime(lifetime);
        self
    }

    /// How old a connection may become.
    #[must_use]
    pub fn get_max_lifetime(&self) -> Option<Duration> {
        self.sqlx.get_max_lifetime()
    }

    /// How long a connection may be idle. Default 10 minutes, as sqlx's. It is leadpool's
    /// [`idle_timeout`](LimitSettings::idle_timeout), but sqlx keeps to it: also for those of the
    /// minimum, which are opened anew then.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.said.idle_timeout = true;
        self.sqlx = self.sqlx.idle_timeout(timeout);
        self
    }

    /// How long a connection may be idle.
    #[must_use]
    pub fn get_idle_timeout(&self) -> Option<Duration> {
        self.sqlx.get_idle_timeout()
    }

    /// Whether each checkout asks the server whether the connection still lives.
    ///
    /// Default `false`, unlike sqlx's: it costs a round trip each time, and the monitor closes the
    /// connections to a host that has died or lost its role.
    pub fn test_before_acquire(mut self, test: bool) -> Self {
        self.sqlx = self.sqlx.test_before_acquire(test);
        self
    }

    /// Whether each checkout asks the server whether the connection still lives.
    #[must_use]
    pub fn get_test_before_acquire(&self) -> bool {
        self.sqlx.get_test_before_acquire()
    }

    /// Is called with each new connection, after leadpool has looked at its role: see
    /// [sqlx](sqlx::pool::PoolOptions::after_connect).
    pub fn after_connect<F>(mut self, callback: F) -> Self
    where
        F: for<'c> Fn(
                &'c mut PgConnection,
                PoolConnectionMetadata,
            ) -> BoxFuture<'c, Result<(), sqlx::Error>>
            + Send
            + Sync
            + 'static,
    {
        self.after_connect = Some(Arc::new(callback));
        self
    }

    /// Is called before an idle connection is handed out: see
    /// [sqlx](sqlx::pool::PoolOptions::before_acquire).
    pub fn before_acquire<F>(mut self, callback: F) -> Self
    where
        F: for<'c> Fn(
                &'c mut PgConnection,
                PoolConnectionMetadata,
            ) -> BoxFuture<'c, Result<bool, sqlx::Error>>
            + Send
            + Sync
            + 'static,
    {
        self.before_acquire = Some(Arc::new(callback));
        self
    }

    /// Is called when a connection comes back: see
    /// [sqlx](sqlx::pool::PoolOptions::after_release).
    pub fn after_release<F>(mut self, callback: F) -> Self
    where
        F: for<'c> Fn(
                &'c mut PgConnection,
                PoolConnectionMetadata,
            ) -> BoxFuture<'c, Result<bool, sqlx::Error>>
            + Send
            + Sync
            + 'static,
    {
        self.after_release = Some(Arc::new(callback));
        self
    }

    /// What connections are opened with: TLS, the size of the statement cache, how statements are
    /// logged, settings of the session.
    ///
    /// Host, port, user, password and database come from the cluster's configuration, and so does
    /// the application's name if it has one.
    pub fn connect_options(mut self, options: PgConnectOptions) -> Self {
        self.connect_options = Some(options);
        self
    }

    /// Whether connections that the application holds are shut down with their host, and get TCP
    /// keepalives and a user timeout, which sqlx does not set.
    ///
    /// Without it, a statement in flight on a `PoolConnection` or `Transaction` of a host that
    /// fell silent waits until the kernel gives up. Statements on the pool itself and in `run_tx`
    /// end at once either way.
    ///
    /// Linux only (5.6 and later), and only for TCP connections whose port the server sees
    /// unchanged: not through a pooler or proxy in between, not on Unix sockets. In a container
    /// the call `pidfd_getfd` must be allowed. Default `false`.
    pub fn socket_switch(mut self, on: bool) -> Self {
        self.socket_switch = on;
        self
    }

    /// Changes leadpool's configuration: every knob of [`ConfigBuilder`]. Of no effect with
    /// [`connect_cluster`](Self::connect_cluster), whose cluster has one.
    pub fn configure(
        mut self,
        change: impl Fn(ConfigBuilder) -> ConfigBuilder + Send + Sync + 'static,
    ) -> Self {
        self.configure.push(Arc::new(change));
        self
    }

    /// Asks a source for the hosts: see
    /// [`PoolBuilder::discovery`](leadpool::PoolBuilder::discovery). Of no effect with
    /// [`connect_cluster`](Self::connect_cluster).
    pub fn discovery(mut self, discovery: impl Discovery) -> Self {
        self.sources.push(Arc::new(discovery));
        self
    }

    /// Connects to a cluster: a libpq URL or keyword/value string that names its hosts.
    ///
    /// Waits until a writer is known, and opens no connection but the monitor's.
    ///
    /// # Errors
    ///
    /// `Configuration` names the key that is wrong; `Io` with [`leadpool::Error::NoHost`] inside
    /// says what was seen on each host.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops everything that it started.
    pub async fn connect(self, url: &str) -> Result<Pool, sqlx::Error> {
        self.connect_as(Config::builder(url)).await
    }

    pub(crate) async fn connect_as(self, builder: ConfigBuilder) -> Result<Pool, sqlx::Error> {
        let config = self.config(builder, false).map_err(into_sqlx)?;
        let cluster = self.start(config).await.map_err(into_sqlx)?;
        Pool::open(&cluster, self, true)
    }

    /// Makes the pool without waiting; checkouts then wait for a usable host. Must be called in a
    /// Tokio runtime.
    ///
    /// # Errors
    ///
    /// `Configuration` names the key that is wrong.
    pub fn connect_lazy(self, url: &str) -> Result<Pool, sqlx::Error> {
        self.connect_lazy_as(Config::builder(url))
    }

    pub(crate) fn connect_lazy_as(self, builder: ConfigBuilder) -> Result<Pool, sqlx::Error> {
        let config = self.config(builder, true).map_err(into_sqlx)?;
        let started = self.start(config).now_or_never();
        let cluster = started
            .unwrap_or(Err(leadpool::Error::Closed))
            .map_err(into_sqlx)?;
        Pool::open(&cluster, self, true)
    }

    /// A pool of a cluster that is watched already, for instance for a [`leadpool::Pool`]. Must be
    /// called in a Tokio runtime.
    ///
    /// # Errors
    ///
    /// `Configuration`, if the [switch](Self::socket_switch) is not to be had here.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// use leadpool::{Cluster, Config};
    /// use leadpool_sqlx::PgPoolOptions;
    ///
    /// let cluster = Cluster::connect(Config::from_url("postgres://app@db1,db2/shop")?).await?;
    /// let sqlx = PgPoolOptions::new().max_connections(20).connect_cluster(&cluster)?;
    /// let native = leadpool::Pool::new(&cluster);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_cluster(self, cluster: &Cluster) -> Result<Pool, sqlx::Error> {
        Pool::open(cluster, self, false)
    }

    fn config(&self, mut builder: ConfigBuilder, is_lazy: bool) -> Result<Config, leadpool::Error> {
        if !self.sources.is_empty() {
            builder = builder.hosts_by_discovery();
        }
        for change in &self.configure {
            builder = change(builder);
        }
        builder = self.tell_limits(builder);
        if is_lazy {
            builder = builder.lazy(true);
        }
        Ok(builder.build()?)
    }

    async fn start(&self, config: Config) -> Result<Cluster, leadpool::Error> {
        if self.sources.is_empty() {
            Cluster::connect(config).await
        } else {
            Cluster::connect_all(config, self.sources.clone()).await
        }
    }

    /// What was set here counts more than what was configured.
    fn tell_limits(&self, mut builder: ConfigBuilder) -> ConfigBuilder {
        let (sqlx, said) = (&self.sqlx, self.said);
        if said.max_connections {
            let size = sqlx.get_max_connections() as usize;
            builder = builder.writer_size(size).reader_size(size);
        }
        if said.min_connections {
            let size = sqlx.get_min_connections() as usize;
            builder = builder.writer_min_size(size).reader_min_size(size);
        }
        if said.acquire_timeout {
            builder = builder.checkout_timeout(sqlx.get_acquire_timeout());
        }
        if said.max_lifetime {
            builder = builder.max_lifetime(sqlx.get_max_lifetime());
        }
        if said.idle_timeout {
            builder = builder.idle_timeout(sqlx.get_idle_timeout());
        }
        builder
    }

    /// What was not set here is as it was configured.
    pub(crate) fn completed(mut self, config: &Config) -> Self {
        let (pool, limits, said) = (config.pool(), config.limits(), self.said);
        let mut sqlx = self.sqlx;
        if !said.max_connections {
            sqlx = sqlx.max_connections(count(pool.writer_size.max(pool.reader_size)));
        }
        if !said.min_connections {
            sqlx = sqlx.min_connections(count(limits.writer_min_size));
        }
        if !said.acquire_timeout {
            sqlx = sqlx.acquire_timeout(pool.checkout_timeout);
        }
        if !said.max_lifetime {
            sqlx = sqlx.max_lifetime(limits.max_lifetime);
        }
        if !said.idle_timeout {
            sqlx = sqlx.idle_timeout(limits.idle_timeout);
        }
        self.sqlx = sqlx;
        self
    }

    /// The limits that are kept to by leadpool; lives are sqlx's affair.
    pub(crate) fn limits(&self, config: &Config) -> LimitSettings {
        let mut limits = config.limits().clone();
        if self.said.min_connections {
            let size = self.sqlx.get_min_connections() as usize;
            (limits.writer_min_size, limits.reader_min_size) = (size, size);
        }
        (limits.idle_timeout, limits.max_lifetime) = (None, None);
        limits
    }

    /// Whether something has to happen before an idle connection is handed out.
    pub(crate) fn checks_idle(&self) -> bool {
        self.before_acquire.is_some() || self.get_test_before_acquire()
    }
}

fn count(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

impl fmt::Debug for PgPoolOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgPoolOptions")
            .field("sqlx", &self.sqlx)
            .field("socket_switch", &self.socket_switch)
            .finish_non_exhaustive()
    }
}
