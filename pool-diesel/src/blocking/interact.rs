//! The pool for asynchronous code, whose statements run in threads.

use std::{
    any::Any,
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use diesel::PgConnection;
use leadpool::{
    Cluster, PauseGuard, Status, Target,
    consistency::{ConsistencyToken, Served},
    outcome::{Evidence, Outcome},
};
use tokio::task::spawn_blocking;

use super::{
    Builder, Error, PooledConnection,
    inner::{Inner, Wish},
};

/// A pool of diesel's connections that follows the leader, for asynchronous code.
///
/// It stands in for `deadpool_diesel::postgres::Pool`: what runs on a connection is handed to
/// [`interact`](Object::interact), in a thread of Tokio's. The primary serves it, and
/// [`reader`](Self::reader) makes a handle that standbys serve. Cloning is cheap; clones and
/// handles share everything.
///
/// ```no_run
/// use diesel::prelude::*;
/// use leadpool_diesel::blocking::InteractPool;
///
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = InteractPool::connect("postgres://app@db1,db2,db3/shop").await?;
///
/// let conn = pool.get().await?;
/// let sql = "INSERT INTO visits DEFAULT VALUES";
/// conn.interact(move |conn| diesel::sql_query(sql).execute(conn)).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct InteractPool {
    pub(super) inner: Arc<Inner>,
    pub(super) wish: Wish,
}

impl InteractPool {
    /// Options, under the names of `r2d2`'s; [`Builder::connect`] makes the pool.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Connects with default options: see [`Builder::connect`].
    ///
    /// # Errors
    ///
    /// As [`Builder::connect`].
    ///
    /// # Cancel safety
    ///
    /// As [`Builder::connect`].
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().connect(url).await
    }

    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            wish: Wish::Host(inner.sub_pools.cluster().config().target()),
            inner,
        }
    }

    /// Takes a connection, waiting for a usable host and for a place, for the connection timeout
    /// at most. Those who wait are served in the order in which they came.
    ///
    /// # Errors
    ///
    /// As [`leadpool::Pool::get`], in [`Error::Pool`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue; nothing leaks.
    pub async fn get(&self) -> Result<Object, Error> {
        self.get_within(self.inner.timeout).await
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
    pub async fn get_within(&self, timeout: Duration) -> Result<Object, Error> {
        let conn = self.inner.checkout(self.wish, timeout).await?;
        Ok(Object(Arc::new(Mutex::new(conn))))
    }

    /// A handle whose connections lead to a standby; to the writer while no standby is usable.
    #[must_use]
    pub fn reader(&self) -> Self {
        self.with_target(Target::PreferStandby)
    }

    /// A handle whose connections lead to the primary.
    #[must_use]
    pub fn writer(&self) -> Self {
        self.with_target(Target::Primary)
    }

    /// A handle that asks for something else.
    #[must_use]
    pub fn with_target(&self, target: Target) -> Self {
        self.with_wish(Wish::Host(target))
    }

    fn with_wish(&self, wish: Wish) -> Self {
        let inner = self.inner.clone();
        Self { inner, wish }
    }

    /// What a read must have seen in order to see all that has been committed before this call:
    /// see [`leadpool::Cluster::token`].
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] with [`leadpool::Error::NoHost`] if no writer has answered within the
    /// connection timeout.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn token(&self) -> Result<ConsistencyToken, Error> {
        Ok(self.cluster().timeout_token(self.inner.timeout).await?)
    }

    /// A handle for reads that must see what the token stands for: a standby that has replayed it
    /// serves them, else the writer. As [`Pool::reader_at`](super::Pool::reader_at).
    #[must_use]
    pub fn reader_at(&self, token: &ConsistencyToken) -> Self {
        self.with_wish(Wish::Seen(*token))
    }

    /// Takes a connection for reads that must see what the token stands for, within a time of its
    /// own; also says who serves, and what became of the token.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`Error::Pool`] with [`leadpool::Error::TokenRefused`].
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn get_at(
        &self,
        token: &ConsistencyToken,
        timeout: Duration,
    ) -> Result<(Object, Served), Error> {
        let (conn, served) = self.inner.checkout_at(token, timeout).await?;
        Ok((Object(Arc::new(Mutex::new(conn))), served))
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

    /// Closes the pool: checkouts fail at once, idle connections are closed, those in use may
    /// finish. As deadpool's, it waits for nothing.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Closes the pool, waits until all connections have come back, and after `timeout` ends what is
    /// still in use, as far as that [can be had](super).
    ///
    /// The monitor stops too, unless the pool was made [for a cluster](Builder::connect_cluster)
    /// that others may use.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, what is in use is not ended.
    pub async fn close_within(&self, timeout: Duration) {
        self.inner.close_within(timeout).await;
    }

    /// Ends the pool in good order: new checkouts are refused, those that wait already are served,
    /// and transactions of [`run_tx`](Self::run_tx) are brought to their end, repetitions included.
    /// Then, or after `timeout` at the latest, the pool is [closed](Self::close_within).
    ///
    /// # Cancel safety
    ///
    /// New checkouts are refused from the first poll on. When the future is dropped, nothing is
    /// closed nor ended.
    pub async fn drain(&self, timeout: Duration) {
        self.inner.drain(timeout).await;
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
    /// # async fn f(pool: leadpool_diesel::blocking::InteractPool) {
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

    /// Changes how many connections each host may have: as [`leadpool::Pool::resize`].
    pub fn resize(&self, max_size: usize) {
        self.inner.resize(max_size);
    }

    /// Whether the pool has been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.sub_pools.is_closed()
    }
}

impl fmt::Debug for InteractPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InteractPool")
            .field("wish", &self.wish)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// A connection from an [`InteractPool`], which goes back there when it is dropped, and when what
/// was begun on it has ended.
///
/// ```no_run
/// use diesel::prelude::*;
///
/// # async fn f(pool: leadpool_diesel::blocking::InteractPool) -> Result<(), Box<dyn std::error::Error>> {
/// let conn = pool.get().await?;
/// conn.interact(|conn| diesel::sql_query("SELECT 1").execute(conn)).await??;
/// # Ok(())
/// # }
/// ```
pub struct Object(Arc<Mutex<PooledConnection>>);

impl Object {
    /// Runs a closure with the connection, in a thread where it may block.
    ///
    /// When the host is invalidated meanwhile, the statement in flight fails, as far as that [can
    /// be had](super).
    ///
    /// # Errors
    ///
    /// The closure panicked, and the connection will be closed; or the runtime ends.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, a closure that has begun runs to its end, and keeps the
    /// connection until then; one that has not does not begin.
    pub async fn interact<R: Send + 'static>(
        &self,
        closure: impl FnOnce(&mut PgConnection) -> R + Send + 'static,
    ) -> Result<R, InteractError> {
        let conn = self.0.clone();
        let (wanted, answer) = tokio::sync::oneshot::channel();
        let running = spawn_blocking(move || {
            // After a panic it is closed on its way back.
            let mut conn = conn.lock().unwrap_or_else(PoisonError::into_inner);
            if !wanted.is_closed() {
                drop(wanted.send(closure(&mut conn)));
            }
        });
        match answer.await {
            Ok(value) => Ok(value),
            Err(_) => Err(match running.await {
                Err(error) if error.is_panic() => InteractError::Panic(error.into_panic()),
                _ => InteractError::Aborted,
            }),
        }
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").finish_non_exhaustive()
    }
}

/// Why [`Object::interact`] gave no value.
///
/// ```
/// use leadpool_diesel::blocking::InteractError;
///
/// assert!(InteractError::Aborted.to_string().contains("runtime"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum InteractError {
    /// The closure panicked, with this.
    Panic(Box<dyn Any + Send + 'static>),
    /// The runtime came to its end before the closure began.
    Aborted,
}

impl fmt::Display for InteractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panic(_) => "the closure that had the connection panicked",
            Self::Aborted => "the runtime ended before the closure began",
        })
    }
}

impl StdError for InteractError {}
