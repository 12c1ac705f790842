//! The pool that users get.

use std::{fmt, sync::Arc, time::Duration};

use leadpool::{
    Cluster, PauseGuard, Status, Target,
    adapter::{Generation, Purpose, Resolver, SubPools, Transactions},
    consistency::ConsistencyToken,
    failover::Report,
    outcome::{Evidence, Outcome},
};
use sqlx::{Postgres, SqlSafeStr, SqlStr, Transaction, pool::PoolConnection};
use tokio::time::Instant;

use crate::{
    Error, PgPoolOptions,
    begin::Beginning,
    driver::Sqlx,
    error::into_sqlx,
    follow::Follow,
    login::check,
    repeat::{is_lost, look},
    sockets::Switch,
};

/// A pool of sqlx connections that follows the leader.
///
/// It stands in for [`sqlx::PgPool`]: `&Pool` is an [`Executor`](sqlx::Executor) and an
/// [`Acquire`](sqlx::Acquire), and [`acquire`](Self::acquire) and [`begin`](Self::begin) give
/// sqlx's own objects. Inside, there is a `PgPool` for each host; the primary's serves it, and
/// [`reader`](Self::reader) makes a handle that standbys serve. Cloning is cheap; clones and
/// handles share everything.
///
/// # Examples
///
/// ```no_run
/// # async fn f() -> Result<(), sqlx::Error> {
/// let pool = leadpool_sqlx::Pool::connect("postgres://app@db1,db2,db3/shop").await?;
///
/// sqlx::query("INSERT INTO visits DEFAULT VALUES").execute(&pool).await?; // the writer
/// let n: i64 = sqlx::query_scalar("SELECT count(*) FROM visits").fetch_one(&pool.reader()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    pub(crate) inner: Arc<Inner>,
    pub(crate) target: Target,
    /// What its reads must see.
    pub(crate) token: Option<ConsistencyToken>,
    /// Whether its statements may run twice.
    pub(crate) is_repeatable: bool,
}

pub(crate) struct Inner {
    pub(crate) sub_pools: Arc<SubPools<Sqlx>>,
    pub(crate) resolver: Resolver,
    pub(crate) transactions: Transactions,
    options: PgPoolOptions,
    /// Whether the monitor is this pool's own.
    owns_cluster: bool,
    follow: std::sync::OnceLock<Follow>,
}

impl Pool {
    /// Connects with default options: see [`PgPoolOptions::connect`].
    ///
    /// # Errors
    ///
    /// As [`PgPoolOptions::connect`].
    ///
    /// # Cancel safety
    ///
    /// As [`PgPoolOptions::connect`].
    pub async fn connect(url: &str) -> Result<Self, sqlx::Error> {
        PgPoolOptions::new().connect(url).await
    }

    /// Connects with default options when it is used: see [`PgPoolOptions::connect_lazy`].
    ///
    /// # Errors
    ///
    /// As [`PgPoolOptions::connect_lazy`].
    pub fn connect_lazy(url: &str) -> Result<Self, sqlx::Error> {
        PgPoolOptions::new().connect_lazy(url)
    }

    pub(crate) fn open(
        cluster: &Cluster,
        options: PgPoolOptions,
        owns_cluster: bool,
    ) -> Result<Self, sqlx::Error> {
        let config = cluster.config();
        check(config, owns_cluster)?;
        let switch = match options.socket_switch {
            true => Some(Switch::new().map_err(|why| sqlx::Error::Configuration(why.into()))?),
            false => None,
        };
        let options = options.completed(config);
        let size = options.get_max_connections() as usize;
        let limits = options.limits(config);
        let driver = Sqlx::new(options.clone(), switch);
        let sub_pools = SubPools::with_limits(cluster, driver, size, size, limits);
        sub_pools.keep();
        Ok(Self {
            target: config.target(),
            token: None,
            is_repeatable: false,
            inner: Arc::new(Inner {
                transactions: Transactions::new(cluster),
                resolver: Resolver::new(cluster),
                sub_pools,
                options,
                owns_cluster,
                follow: std::sync::OnceLock::new(),
            }),
        })
    }

    /// Takes a connection, waiting for a usable host and for a place, for the acquire timeout at
    /// most. Those who wait are served in the order in which they came.
    ///
    /// # Errors
    ///
    /// - `PoolTimedOut`: all connections of the host were in use for the whole time.
    /// - `Io` with [`leadpool::Error::NoHost`] [inside](Error::inside): no host was usable in
    ///   time; says what was seen on each.
    /// - `PoolClosed`: the pool has been closed.
    /// - what the server answers to a login that it refuses.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; nothing leaks.
    pub fn acquire(
        &self,
    ) -> impl Future<Output = Result<PoolConnection<Postgres>, sqlx::Error>> + Send + 'static {
        let pool = self.clone();
        async move {
            let got = pool.take(|conn, _| conn);
            got.await.map_err(into_sqlx)
        }
    }

    /// Takes a connection only if one is idle.
    #[must_use]
    pub fn try_acquire(&self) -> Option<PoolConnection<Postgres>> {
        self.try_take(|conn, _| conn)
    }

    /// Begins a transaction. A connection that turns out to be dead is replaced by another one,
    /// since nothing but `BEGIN` was sent on it.
    ///
    /// It is sqlx's own transaction: a failover breaks it off, and an error of its `commit` leaves
    /// open whether it happened. [`run_tx`](Self::run_tx) repeats it, and finds that out.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), and what the server answers to `BEGIN`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future rolls back what was begun, also while `BEGIN` is in flight.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.begin_as(None).await
    }

    /// Begins a transaction with a statement of its own, for instance
    /// `BEGIN ISOLATION LEVEL SERIALIZABLE`: as [`begin`](Self::begin).
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    ///
    /// # Cancel safety
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_with(
        &self,
        statement: impl SqlSafeStr,
    ) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.begin_as(Some(statement.into_sql_str())).await
    }

    /// Begins a transaction only if a connection is idle.
    ///
    /// # Errors
    ///
    /// What the server answers to `BEGIN`.
    ///
    /// # Cancel safety
    ///
    /// As [`begin`](Self::begin).
    pub async fn try_begin(&self) -> Result<Option<Transaction<'static, Postgres>>, sqlx::Error> {
        self.try_begin_as(None).await
    }

    /// Begins a transaction with a statement of its own only if a connection is idle.
    ///
    /// # Errors
    ///
    /// What the server answers to the statement.
    ///
    /// # Cancel safety
    ///
    /// As [`begin`](Self::begin).
    pub async fn try_begin_with(
        &self,
        statement: impl SqlSafeStr,
    ) -> Result<Option<Transaction<'static, Postgres>>, sqlx::Error> {
        self.try_begin_as(Some(statement.into_sql_str())).await
    }

    /// Closes the pool: checkouts fail at once, idle connections are closed, those in use finish.
    /// Waits until all have come back, for the acquire timeout at most; then aborts what is still
    /// in use, as [`close_within`](Self::close_within).
    ///
    /// # Cancel safety
    ///
    /// The pool is closed by the call, also if the future is never polled, as sqlx's.
    pub fn close(&self) -> impl Future<Output = ()> + Send + '_ {
        self.close_within(self.inner.options.get_acquire_timeout())
    }

    /// Closes the pool with a limit of its own. After `timeout`, statements on the pool and in
    /// `run_tx` end at once, and with the [switch](PgPoolOptions::socket_switch) also those on
    /// connections that the application holds.
    ///
    /// The monitor stops too, unless the pool was made [for a
    /// cluster](PgPoolOptions::connect_cluster) that others may use.
    ///
    /// # Cancel safety
    ///
    /// The pool is closed by the call. When the future is dropped, what is in use is not aborted.
    pub fn close_within(&self, timeout: Duration) -> impl Future<Output = ()> + Send + '_ {
        self.inner.resolver.close();
        if let Some(follow) = self.inner.follow.get() {
            follow.close();
        }
        self.inner.sub_pools.close();
        async move {
            self.inner.sub_pools.close_within(timeout).await;
            if self.inner.owns_cluster {
                self.cluster().close();
            }
        }
    }

    /// Ends the pool in good order: new checkouts are refused, those that wait already are served,
    /// and transactions of [`run_tx`](Self::run_tx) are brought to their end, repetitions included.
    /// Then, or after `timeout` at the latest, the pool is [closed](Self::close_within).
    ///
    /// # Cancel safety
    ///
    /// New checkouts are refused from the first poll on. When the future is dropped, nothing is
    /// closed nor aborted.
    pub async fn drain(&self, timeout: Duration) {
        // How many were aborted is known for connections only that leadpool drives itself.
        let _ = self.inner.sub_pools.drain(timeout).await;
        self.close_within(Duration::ZERO).await;
    }

    /// Makes checkouts wait, for planned work like a switchover, and waits until everything in use
    /// has come back, for `within` at most: as [`leadpool::Pool::pause`].
    ///
    /// Those of [`pg_pool`](Self::pg_pool) wait too, but how many are in use there is not known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the pause.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_sqlx::Pool) {
    /// let pause = pool.pause(std::time::Duration::from_secs(5)).await;
    /// if pause.in_use() == 0 {
    ///     // Switch over, now that nothing runs.
    /// }
    /// # }
    /// ```
    pub async fn pause(&self, within: Duration) -> PauseGuard {
        self.inner.sub_pools.pause(within).await
    }

    /// Ends all pauses of this pool; a pause of the cluster lasts.
    pub fn resume(&self) {
        self.inner.sub_pools.resume();
    }

    /// Whether checkouts wait because of a pause, of this pool or of the cluster.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.inner.sub_pools.is_paused()
    }

    /// Whether the pool has been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.sub_pools.is_closed()
    }

    /// How many connections are open, on all hosts together.
    #[must_use]
    pub fn size(&self) -> u32 {
        let sizes = self
            .status()
            .sub_pools
            .into_iter()
            .map(|sub_pool| sub_pool.counts.size);
        u32::try_from(sizes.sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// How many connections nobody uses, on all hosts together.
    #[must_use]
    pub fn num_idle(&self) -> usize {
        let sub_pools = self.status().sub_pools;
        sub_pools
            .into_iter()
            .map(|sub_pool| sub_pool.counts.idle)
            .sum()
    }

    /// The gauges of every host's pool.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.sub_pools.status()
    }

    /// The options that it was made with.
    pub fn options(&self) -> &PgPoolOptions {
        &self.inner.options
    }

    /// The cluster behind the pool: topology, events, other pools.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.inner.sub_pools.cluster()
    }

    /// A real [`sqlx::PgPool`] that follows the writer, for code that insists on the type.
    ///
    /// It is one and the same at each call, has its own connections, and lives as long as this
    /// pool: when the last handle is dropped, or at [`close`](Self::close), it is closed. A new
    /// connection goes to whoever is the writer at that moment; those to a former one are closed
    /// instead of handed out. What is in flight on a host that falls silent ends with the
    /// [switch](PgPoolOptions::socket_switch) only; without it, connections that hang keep their
    /// places. While there is no writer, sqlx goes on trying until its acquire timeout.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// async fn third_party(pool: &sqlx::PgPool) -> Result<(), sqlx::Error> {
    ///     sqlx::query("SELECT 1").execute(pool).await?;
    ///     Ok(())
    /// }
    ///
    /// # async fn f(pool: leadpool_sqlx::Pool) -> Result<(), sqlx::Error> {
    /// third_party(pool.pg_pool()).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn pg_pool(&self) -> &sqlx::PgPool {
        let inner = &self.inner;
        let follow = inner
            .follow
            .get_or_init(|| Follow::new(&inner.sub_pools, &inner.options));
        follow.pool()
    }

    /// Finds out what became of a transaction whose COMMIT was not answered, within `timeout`: as
    /// [`leadpool::Pool::resolve`].
    ///
    /// # Errors
    ///
    /// [`leadpool::Error::Unknown`] when it can't be proved.
    ///
    /// # Cancel safety
    ///
    /// As [`leadpool::Pool::resolve`].
    pub async fn resolve(&self, evidence: &Evidence, timeout: Duration) -> Result<Outcome, Error> {
        Ok(self.inner.resolver.resolve(evidence, timeout).await?)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// A connection, and the generation that it belongs to.
    pub(crate) async fn checkout(
        &self,
    ) -> Result<(PoolConnection<Postgres>, Arc<Generation>), sqlx::Error> {
        let hand_out = |conn, generation: &Arc<Generation>| (conn, generation.clone());
        self.take(hand_out).await.map_err(into_sqlx)
    }

    /// A connection as this handle asks for it.
    async fn take<R>(
        &self,
        hand_out: impl Fn(PoolConnection<Postgres>, &Arc<Generation>) -> R,
    ) -> Result<R, leadpool::Error> {
        let (pools, timeout) = (&self.inner.sub_pools, self.acquire_timeout());
        match &self.token {
            Some(token) => {
                let taken = pools.checkout_at(Purpose::New, token, timeout, hand_out);
                taken.await.map(|(taken, _)| taken)
            }
            None => {
                let taken = pools.checkout(Purpose::New, self.target, timeout, hand_out);
                taken.await
            }
        }
    }

    /// The same only if one is idle.
    fn try_take<R>(
        &self,
        hand_out: impl Fn(PoolConnection<Postgres>, &Arc<Generation>) -> R,
    ) -> Option<R> {
        let pools = &self.inner.sub_pools;
        match &self.token {
            Some(token) => pools.try_checkout_at(token, hand_out),
            None => pools.try_checkout(self.target, hand_out),
        }
    }

    pub(crate) fn acquire_timeout(&self) -> Duration {
        self.inner.options.get_acquire_timeout()
    }

    async fn try_begin_as(
        &self,
        statement: Option<SqlStr>,
    ) -> Result<Option<Transaction<'static, Postgres>>, sqlx::Error> {
        let hand_out = |conn, generation: &Arc<Generation>| (conn, generation.clone());
        match self.try_take(hand_out) {
            Some((conn, generation)) => {
                let beginning = Beginning::new(conn, generation, statement);
                beginning.answer().await.transpose()
            }
            None => Ok(None),
        }
    }

    async fn begin_as(
        &self,
        statement: Option<SqlStr>,
    ) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let deadline = Instant::now() + self.inner.options.get_acquire_timeout();
        loop {
            let (conn, generation) = self.checkout().await?;
            let beginning = Beginning::new(conn, generation.clone(), statement.clone());
            let error = match beginning.answer().await {
                None => continue,
                Some(Ok(begun)) => return Ok(begun),
                Some(Err(error)) => error,
            };
            if !is_lost(&error) {
                return Err(error);
            }
            self.inner.sub_pools.driver().test_idle(&generation);
            if Instant::now() >= deadline {
                return Err(error);
            }
            look(&generation, Report::ConnectionLost).await;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("target", &self.target)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
