//! The pool that users get.

use std::{fmt, sync::Arc, time::Duration};

use deadpool_postgres::Client;

use super::{KeptSession, Listener, Native, follow, limits::Limits, session::Sessions};
use crate::{
    config::{Config, ConfigBuilder, HookFuture},
    connect::TlsConnector,
    discovery::Discovery,
    error::Error,
    monitor::Cluster,
    pool::{Purpose, Status, SubPools},
    topology::Target,
    tx::Transactions,
};

/// A connection pool that follows the leader.
///
/// It holds a sub-pool a host and hands out [`deadpool_postgres::Client`]s: of the primary for
/// writers, of standbys for readers. When the primary changes, idle connections to the old one
/// are closed, queries in flight there fail at once, and checkouts that wait are served by the
/// new one. Cloning is cheap; clones share everything.
///
/// # Examples
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool::Error> {
/// let pool = leadpool::Pool::connect("postgres://app@db1,db2,db3/shop").await?;
///
/// let client = pool.get().await?; // the writer
/// client.execute("INSERT INTO visits DEFAULT VALUES", &[]).await?;
///
/// let reader = pool.reader().await?; // a standby; the writer if there is none
/// let rows = reader.query("SELECT count(*) FROM visits", &[]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    sub_pools: Arc<SubPools<Native>>,
    sessions: Sessions,
    transactions: Transactions,
}

impl Pool {
    /// Connects to a cluster: a libpq URL or keyword/value string that names its hosts.
    ///
    /// Waits until a writer is known (or what else `target_session_attrs` asks for), for the
    /// startup timeout at most. It opens no connection but the monitor's.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] names the key that is wrong; [`Error::NoHost`] says what was seen on
    /// each host.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops everything that it started.
    pub async fn connect(conninfo: &str) -> Result<Self, Error> {
        Self::builder(conninfo).build().await
    }

    /// Sets more than the URL can say.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), leadpool::Error> {
    /// use std::time::Duration;
    ///
    /// let pool = leadpool::Pool::builder("postgres://app@db1,db2/shop")
    ///     .configure(|config| config.writer_size(32).checkout_timeout(Duration::from_secs(10)))
    ///     .build()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(conninfo: &str) -> PoolBuilder {
        PoolBuilder {
            config: Config::builder(conninfo),
            sources: Vec::new(),
        }
    }

    /// A pool of a cluster that is watched already, for instance for another pool.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        let sub_pools = SubPools::new(cluster, Native::default());
        sub_pools.keep();
        Self {
            inner: Arc::new(Inner {
                sub_pools,
                sessions: Sessions::default(),
                transactions: Transactions::new(cluster),
            }),
        }
    }

    /// Takes a connection as the configuration's target asks: to the writer, unless
    /// `target_session_attrs` says otherwise.
    ///
    /// While there is no such host it waits for one, up to the checkout timeout; those who wait
    /// are served in the order in which they came.
    ///
    /// # Errors
    ///
    /// - [`Error::NoHost`]: no host was usable in time; says what was seen on each.
    /// - [`Error::QueueFull`]: all connections were in use for the whole time.
    /// - [`Error::Connect`]: the host refuses the session (wrong password, no such database).
    /// - [`Error::Overloaded`]: as many wait as [may](crate::config::LimitSettings::max_waiting).
    /// - [`Error::Paused`]: the pool was [paused](Self::pause) for the whole time.
    /// - [`Error::Closed`]: the pool has been closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; nothing leaks.
    #[inline]
    pub fn get(&self) -> impl Future<Output = Result<Client, Error>> + Send + '_ {
        let config = self.cluster().config();
        self.checkout(config.target(), config.pool().checkout_timeout)
    }

    /// Takes a connection to a standby, each in its turn; to the writer while no standby is
    /// usable.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    #[inline]
    pub fn reader(&self) -> impl Future<Output = Result<Client, Error>> + Send + '_ {
        let timeout = self.cluster().config().pool().checkout_timeout;
        self.checkout(Target::PreferStandby, timeout)
    }

    /// Takes a connection to a host that is usable as `target` asks.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub fn get_as(
        &self,
        target: Target,
    ) -> impl Future<Output = Result<Client, Error>> + Send + '_ {
        let timeout = self.cluster().config().pool().checkout_timeout;
        self.checkout(target, timeout)
    }

    /// Takes a connection within a time of its own.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub fn timeout_get(
        &self,
        target: Target,
        timeout: Duration,
    ) -> impl Future<Output = Result<Client, Error>> + Send + '_ {
        self.checkout(target, timeout)
    }

    /// No `async fn`: each layer of those moves the connection once more.
    #[inline]
    fn checkout(
        &self,
        target: Target,
        timeout: Duration,
    ) -> impl Future<Output = Result<Client, Error>> + Send + '_ {
        self.inner
            .sub_pools
            .checkout(Purpose::New, target, timeout, |client, _| client)
    }

    /// A real [`deadpool_postgres::Pool`] that follows the writer, for code that insists on the
    /// type.
    ///
    /// Each call makes a pool of its own, with the writer's size; it shares the monitor. A new
    /// connection goes to whoever is the writer at that moment, and waits while there is none;
    /// connections to a demoted host are aborted, or dropped instead of handed out. Its `get`
    /// waits for the checkout timeout at most, once for a place and once for a connection.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// async fn third_party(pool: &deadpool_postgres::Pool) -> Result<(), deadpool_postgres::PoolError> {
    ///     pool.get().await?.simple_query("SELECT 1").await?;
    ///     Ok(())
    /// }
    ///
    /// # async fn f(pool: leadpool::Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// third_party(&pool.deadpool_pool()).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn deadpool_pool(&self) -> deadpool_postgres::Pool {
        self.cluster().deadpool_pool()
    }

    /// What encrypts connections as the pool's are, to cancel a query with.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(client: leadpool::deadpool_postgres::Client, pool: leadpool::Pool)
    /// # -> Result<(), leadpool::tokio_postgres::Error> {
    /// client.cancel_token().cancel_query(pool.tls_connector()).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tls_connector(&self) -> TlsConnector {
        let config = self.cluster().config();
        TlsConnector::new(config.tls_files(), config)
    }

    /// A session whose settings survive a failover, on a host as the configuration's target asks.
    /// It takes a connection with its first use.
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
    /// let mut session = pool.session();
    /// session.set("app.tenant", "7").await?;
    /// session.get().await?.execute("INSERT INTO visits DEFAULT VALUES", &[]).await?;
    /// session.end().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn session(&self) -> KeptSession {
        self.session_as(self.cluster().config().target())
    }

    /// As [`session`](Self::session), on a host that is usable as `target` asks.
    #[must_use]
    pub fn session_as(&self, target: Target) -> KeptSession {
        KeptSession::new(self.inner.sub_pools.clone(), target)
    }

    /// Receives notifications, from whoever is the writer: see [`Listener`]. It connects with its
    /// first channel. Must be called on a runtime of Tokio.
    #[must_use]
    pub fn listener(&self) -> Listener {
        let limit = self.cluster().config().pool().checkout_timeout;
        Listener::new(self.inner.sub_pools.clone(), limit)
    }

    /// The cluster behind the pool: topology, events, other pools.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.inner.sub_pools.cluster()
    }

    /// The gauges of every sub-pool.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.sub_pools.status()
    }

    /// Changes how many connections the writer's sub-pool may have.
    ///
    /// Growing is immediate. Shrinking replaces the sub-pool: idle connections are closed, those
    /// in use finish and are closed on return. 0 counts as 1.
    pub fn resize(&self, writer_size: usize) {
        self.inner.sub_pools.resize(Some(writer_size.max(1)), None);
    }

    /// Changes how many connections each standby's sub-pool may have, as
    /// [`resize`](Self::resize).
    pub fn resize_readers(&self, reader_size: usize) {
        self.inner.sub_pools.resize(None, Some(reader_size.max(1)));
    }

    /// Closes the pool and stops the monitor: checkouts fail at once, idle connections are
    /// closed, those in use may finish. After `timeout` what is still in use is aborted.
    ///
    /// # Cancel safety
    ///
    /// The pool is closed by the first poll. When the future is dropped, what is in use is not
    /// aborted.
    pub async fn close(&self, timeout: Duration) {
        self.inner.sub_pools.close_within(timeout).await;
        self.cluster().close();
    }

    /// Whether the pool has been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.sub_pools.is_closed()
    }

    pub(super) fn sub_pools(&self) -> &Arc<SubPools<Native>> {
        &self.inner.sub_pools
    }

    pub(super) fn limits(&self) -> &Limits {
        self.inner.sub_pools.driver().limits()
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    pub(super) fn transactions(&self) -> &Transactions {
        &self.inner.transactions
    }
}

impl Cluster {
    /// A real [`deadpool_postgres::Pool`] that follows the writer: see
    /// [`Pool::deadpool_pool`].
    #[must_use]
    pub fn deadpool_pool(&self) -> deadpool_postgres::Pool {
        follow::pool(SubPools::new(self, Native::default()))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// Builds a [`Pool`].
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool::Error> {
/// let pool = leadpool::Pool::builder("postgres://app@db1,db2/shop")
///     .configure(|config| config.lazy(true))
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
    /// Changes the configuration: every knob of [`ConfigBuilder`].
    pub fn configure(mut self, change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        self.config = change(self.config);
        self
    }

    /// Does something on every new connection: see [`ConfigBuilder::on_connect`].
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), leadpool::Error> {
    /// let pool = leadpool::Pool::builder("postgres://app@db1,db2/shop")
    ///     .on_connect(|client| {
    ///         Box::pin(async move { Ok(client.batch_execute("SELECT warm_up()").await?) })
    ///     })
    ///     .build()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_connect<F>(self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut tokio_postgres::Client) -> HookFuture<'a> + Send + Sync + 'static,
    {
        self.configure(|config| config.on_connect(hook))
    }

    /// Asks a source for the hosts; those of the connection string are where it begins, and may be
    /// left out if the source has no need of them. With several sources, what one of them names
    /// belongs to the cluster.
    ///
    /// A host that the source names gets credentials only if the connection string names it too, if
    /// the source vouches for it, or if
    /// [`allowed_hosts`](ConfigBuilder::allowed_hosts) admits it.
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
        let config = self.config.build()?;
        let cluster = match self.sources.is_empty() {
            false => Cluster::connect_all(config, self.sources).await?,
            true => Cluster::connect(config).await?,
        };
        Ok(Pool::new(&cluster))
    }
}
