//! The pool that users get.

use std::{fmt, sync::Arc, time::Duration};

use diesel_async::pooled_connection::{AsyncDieselConnectionManager, deadpool as pooled};
use futures_util::{TryFutureExt as _, future::Either};
use leadpool::{
    Cluster, PauseGuard, Status, Target, TlsConnector,
    adapter::{Purpose, Resolver, SubPools, Transactions, canceller},
    consistency::ConsistencyToken,
    outcome::{Evidence, Outcome},
};

use super::{
    AsyncPgConnection, Error, Object, PoolBuilder, PoolError, driver::DieselAsync,
    error::into_pooled, follow, manager,
};

/// A pool of diesel-async connections that follows the leader.
///
/// It stands in for diesel-async's `deadpool::Pool<AsyncPgConnection>`: [`get`](Self::get) gives
/// the same objects and the same errors. Inside, there is such a pool for each host; the primary's
/// serves it, and [`reader`](Self::reader) makes a handle that standbys serve. Cloning is cheap;
/// clones and handles share everything.
///
/// # Examples
///
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use leadpool_diesel::diesel_async::RunQueryDsl as _;
/// use leadpool_diesel::diesel;
///
/// let pool = leadpool_diesel::Pool::connect("postgres://app@db1,db2,db3/shop").await?;
///
/// let mut conn = pool.get().await?; // the writer
/// diesel::sql_query("INSERT INTO visits DEFAULT VALUES").execute(&mut conn).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    pub(super) inner: Arc<Inner>,
    pub(super) target: Target,
    /// What its reads must see.
    pub(super) token: Option<ConsistencyToken>,
}

pub(super) struct Inner {
    pub(super) sub_pools: Arc<SubPools<DieselAsync>>,
    pub(super) resolver: Resolver,
    pub(super) transactions: Transactions,
    /// Whether the monitor is this pool's own.
    owns_cluster: bool,
}

impl Pool {
    /// Connects to a cluster: a libpq URL or keyword/value string that names its hosts.
    ///
    /// Waits until a writer is known (or what else `target_session_attrs` asks for), for the
    /// startup timeout at most. It opens no connection but the monitor's.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] with [`leadpool::Error::Config`], which names the key that is wrong, or
    /// [`leadpool::Error::NoHost`], which says what was seen on each host.
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
    /// See [`PoolBuilder`].
    pub fn builder(conninfo: &str) -> PoolBuilder {
        PoolBuilder::new(conninfo)
    }

    /// A pool of a cluster that is watched already, for instance for another pool.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        Self::open(cluster, false)
    }

    pub(super) fn open(cluster: &Cluster, owns_cluster: bool) -> Self {
        let sub_pools = SubPools::new(cluster, DieselAsync::default());
        sub_pools.keep();
        Self {
            target: cluster.config().target(),
            token: None,
            inner: Arc::new(Inner {
                sub_pools,
                resolver: Resolver::new(cluster),
                transactions: Transactions::new(cluster),
                owns_cluster,
            }),
        }
    }

    /// Takes a connection, waiting for a usable host and for a place, for the checkout timeout at
    /// most. Those who wait are served in the order in which they came.
    ///
    /// # Errors
    ///
    /// - `Timeout(Wait)`: all connections of the host were in use for the whole time.
    /// - `Backend` with [`leadpool::Error::NoHost`] [inside](Error::inside): no host was usable in
    ///   time; says what was seen on each. Others of leadpool's come the same way.
    /// - `Closed`: the pool has been closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; nothing leaks.
    pub fn get(&self) -> impl Future<Output = Result<Object, PoolError>> + Send + '_ {
        self.get_within(self.cluster().config().pool().checkout_timeout)
    }

    /// [`get`](Self::get) within a time of its own.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub fn get_within(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<Object, PoolError>> + Send + '_ {
        let (sub_pools, target) = (&self.inner.sub_pools, self.target);
        match &self.token {
            None => Either::Left(sub_pools.checkout_as(
                Purpose::New,
                target,
                timeout,
                |conn, _| conn,
                into_pooled,
            )),
            Some(token) => Either::Right(
                sub_pools
                    .checkout_at(Purpose::New, token, timeout, |conn, _| conn)
                    .map_ok(|(conn, _)| conn)
                    .map_err(into_pooled),
            ),
        }
    }

    /// A real `deadpool::Pool<AsyncPgConnection>` of diesel-async's that follows the writer, for
    /// code that insists on the type.
    ///
    /// Each call makes a pool of its own, with the writer's size; it shares the monitor. A new
    /// connection goes to whoever is the writer at that moment, and waits while there is none;
    /// connections to a demoted host are aborted, or dropped instead of handed out. Its `get` waits
    /// for the checkout timeout at most, once for a place and once for a connection.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use leadpool_diesel::diesel_async::{AsyncPgConnection, pooled_connection::deadpool::Pool};
    ///
    /// struct State {
    ///     pool: Pool<AsyncPgConnection>,
    /// }
    ///
    /// # fn f(pool: leadpool_diesel::Pool) {
    /// let state = State { pool: pool.deadpool_pool() };
    /// # drop(state.pool);
    /// # }
    /// ```
    #[must_use]
    pub fn deadpool_pool(&self) -> pooled::Pool<AsyncPgConnection> {
        follow::pool(self.cluster())
    }

    /// diesel-async's own manager of connections, for pools of other kinds: bb8's, mobc's, or
    /// deadpool's with hooks of your own. Its connections follow the writer.
    ///
    /// A new one goes to whoever is the writer at that moment, and waits while there is none, for
    /// the checkout timeout at most. One to a former writer is aborted where a newer one is known,
    /// and at the next checkout it is closed instead of handed out, without a round trip; as is one
    /// that has ended, or that was left in a transaction. For that the pool has to ask: leave on
    /// `test_on_check_out` of bb8, `health_check` of mobc (without an interval).
    ///
    /// Each call makes a manager of its own; it shares the monitor. Its pool is the application's:
    /// its sizes, its order and its timeouts hold, and what it keeps idle counts as in use for the
    /// monitor, which looks after the writer all the time then.
    ///
    /// # Examples
    ///
    /// The line that builds a pool of bb8's, with diesel-async's feature `bb8`; what takes
    /// `bb8::PooledConnection<'_, AsyncPgConnection>` stays as it is:
    ///
    /// ```no_run
    /// use leadpool_diesel::diesel_async::{
    ///     AsyncPgConnection,
    ///     pooled_connection::{PoolError, bb8},
    /// };
    ///
    /// # async fn f(pool: leadpool_diesel::Pool) -> Result<(), PoolError> {
    /// let pool: bb8::Pool<AsyncPgConnection> =
    ///     bb8::Pool::builder().max_size(20).build(pool.manager()).await?;
    /// # drop(pool);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A pool of deadpool's:
    ///
    /// ```no_run
    /// use leadpool_diesel::diesel_async::{AsyncPgConnection, pooled_connection::deadpool};
    ///
    /// # fn f(pool: leadpool_diesel::Pool) -> Result<(), deadpool::BuildError> {
    /// let pool: deadpool::Pool<AsyncPgConnection> =
    ///     deadpool::Pool::builder(pool.manager()).max_size(20).build()?;
    /// # drop(pool);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn manager(&self) -> AsyncDieselConnectionManager<AsyncPgConnection> {
        manager::manager(self.cluster())
    }

    /// The SQLSTATE of the last error that the server answered with on this connection, if it has
    /// answered with any: diesel tells some of them only, and for a deadlock (40P01) or a shutdown
    /// (57P01) says `Unknown`. `None` also for a connection of another pool.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_diesel::Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// use leadpool_diesel::{diesel, diesel_async::RunQueryDsl as _};
    ///
    /// let mut conn = pool.get().await?;
    /// let locked = diesel::sql_query("SELECT 1 FROM jobs FOR UPDATE NOWAIT").execute(&mut conn).await;
    /// if locked.is_err() && pool.sqlstate(&conn).as_deref() == Some("55P03") {
    ///     // Somebody else is at it.
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn sqlstate(&self, conn: &Object) -> Option<String> {
        let session = self.inner.sub_pools.driver().sessions().get(conn)?;
        session.answers.last_sqlstate()
    }

    /// What encrypts a request to cancel what runs on this connection, as the connection itself is:
    /// for `conn.cancel_token().cancel_query(..)`. `None` if the connection has ended, or is of
    /// another pool.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use leadpool_diesel::{Pool, diesel_async};
    /// # use diesel_async::{AsyncPgConnection, pooled_connection::deadpool::Object};
    /// # async fn f(pool: Pool, conn: Object<AsyncPgConnection>) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Some(tls) = pool.tls_connector(&conn) {
    ///     conn.cancel_token().cancel_query(tls).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tls_connector(&self, conn: &Object) -> Option<TlsConnector> {
        let session = self.inner.sub_pools.driver().sessions().get(conn)?;
        Some(canceller(&*session.generation()?, &session.answers))
    }

    /// Closes the pool: checkouts fail at once, idle connections are closed, those in use may
    /// finish. As deadpool's, it waits for nothing.
    pub fn close(&self) {
        self.inner.resolver.close();
        self.inner.sub_pools.close();
        if self.inner.owns_cluster {
            self.cluster().close();
        }
    }

    /// Closes the pool, waits until all connections have come back, and after `timeout` aborts what
    /// is still in use.
    ///
    /// The monitor stops too, unless the pool was made [for a cluster](Self::new) that others may
    /// use.
    ///
    /// # Cancel safety
    ///
    /// The pool is closed by the first poll. When the future is dropped, what is in use is not
    /// aborted.
    pub async fn close_within(&self, timeout: Duration) {
        self.inner.resolver.close();
        self.inner.sub_pools.close_within(timeout).await;
        if self.inner.owns_cluster {
            self.cluster().close();
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
        // How many were aborted is told by an event.
        let _ = self.inner.sub_pools.drain(timeout).await;
        self.close_within(Duration::ZERO).await;
    }

    /// Makes checkouts wait, for planned work like a switchover, and waits until everything in use
    /// has come back, for `within` at most: as [`leadpool::Pool::pause`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the pause.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_diesel::Pool) {
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

    /// Changes how many connections each host may have: as [`leadpool::Pool::resize`].
    pub fn resize(&self, max_size: usize) {
        let size = Some(max_size.max(1));
        self.inner.sub_pools.resize(size, size);
    }

    /// The gauges of every host's pool.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.sub_pools.status()
    }

    /// The cluster behind the pool: topology, events, other pools.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.inner.sub_pools.cluster()
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
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("target", &self.target)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
