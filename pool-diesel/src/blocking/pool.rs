//! The pool for synchronous code.

use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use diesel::PgConnection;
use leadpool::{
    Cluster, PauseGuard, Status, Target,
    outcome::{Evidence, Outcome},
};

use super::{
    Builder, Error, PooledConnection,
    inner::{Inner, Wish},
    r2d2::ConnectionManager,
    runtime::Runtime,
};

/// A pool of diesel's connections that follows the leader, for synchronous code.
///
/// It stands in for diesel's `r2d2::Pool<ConnectionManager<PgConnection>>`: see
/// [`r2d2`](super::r2d2) for the names. The primary serves it, and [`reader`](Self::reader) makes a
/// handle that standbys serve. Cloning is cheap; clones and handles share everything.
///
/// The monitor runs in a thread of the pool's own, which ends when the last handle is dropped, or
/// at [`close_within`](Self::close_within). What waits here blocks its thread: on a runtime of Tokio use
/// [`InteractPool`](super::InteractPool).
///
/// ```no_run
/// use diesel::prelude::*;
///
/// # fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = leadpool_diesel::blocking::Pool::connect("postgres://app@db1,db2,db3/shop")?;
///
/// let mut conn = pool.get()?; // to the writer
/// diesel::sql_query("INSERT INTO visits DEFAULT VALUES").execute(&mut conn)?;
/// # Ok(())
/// # }
/// ```
pub struct Pool<M = ConnectionManager<PgConnection>> {
    pub(super) shared: Arc<Shared>,
    pub(super) wish: Wish,
    manager: PhantomData<fn() -> M>,
}

pub(super) struct Shared {
    pub(super) inner: Arc<Inner>,
    /// `None` once the pool is closed. Who waits keeps it for as long.
    runtime: Mutex<Option<Arc<Runtime>>>,
}

/// How many connections there are: `r2d2`'s.
///
/// ```no_run
/// # fn f(pool: leadpool_diesel::blocking::Pool) {
/// let state = pool.state();
/// println!("{} of {} are idle", state.idle_connections, state.connections);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// How many are open, on all hosts together.
    pub connections: u32,
    /// How many of them nobody uses.
    pub idle_connections: u32,
}

impl<M> Pool<M> {
    /// Options, under the names of `r2d2`'s.
    pub fn builder() -> Builder<M> {
        Builder::new()
    }

    /// Takes a connection, waiting for a usable host and for a place, for the connection timeout
    /// at most. Those who wait are served in the order in which they came.
    ///
    /// # Errors
    ///
    /// As [`leadpool::Pool::get`], in [`Error::Pool`].
    pub fn get(&self) -> Result<PooledConnection<M>, Error> {
        self.get_timeout(self.shared.inner.timeout)
    }

    /// The same with a limit of its own.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<PooledConnection<M>, Error> {
        if let Some(idle) = self.try_get() {
            return Ok(idle);
        }
        let (inner, wish) = (self.shared.inner.clone(), self.wish);
        let runtime = self.shared.runtime()?;
        // Not in this thread: see `Runtime::begin`.
        let got = runtime.run(async move {
            let got: Result<PooledConnection, _> = inner.checkout(wish, timeout).await;
            got
        });
        Ok(got.ok_or(leadpool::Error::Closed)??.into_named())
    }

    /// Takes a connection only if one is idle.
    #[must_use]
    pub fn try_get(&self) -> Option<PooledConnection<M>> {
        self.shared.inner.try_checkout(self.wish)
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

    pub(super) fn with_wish(&self, wish: Wish) -> Self {
        Self {
            wish,
            ..self.clone()
        }
    }

    /// How many connections there are.
    #[must_use]
    pub fn state(&self) -> State {
        let counts = self.status().sub_pools.into_iter().map(|pool| pool.counts);
        let (open, idle) = counts.fold((0, 0), |(open, idle), counts| {
            (open + counts.size, idle + counts.idle)
        });
        State {
            connections: u32::try_from(open).unwrap_or(u32::MAX),
            idle_connections: u32::try_from(idle).unwrap_or(u32::MAX),
        }
    }

    /// How long a checkout may take.
    #[must_use]
    pub fn connection_timeout(&self) -> Duration {
        self.shared.inner.timeout
    }

    /// The gauges of every host's pool.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.inner.sub_pools.status()
    }

    /// The cluster behind the pool: topology, events.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.shared.inner.sub_pools.cluster()
    }

    /// Finds out what became of a transaction whose COMMIT was not answered, within `timeout`: as
    /// [`leadpool::Pool::resolve`].
    ///
    /// # Errors
    ///
    /// [`leadpool::Error::Unknown`] when it can't be proved.
    pub fn resolve(&self, evidence: &Evidence, timeout: Duration) -> Result<Outcome, Error> {
        let (inner, evidence) = (self.shared.inner.clone(), evidence.clone());
        let runtime = self.shared.runtime()?;
        let resolved = runtime.run(async move { inner.resolver.resolve(&evidence, timeout).await });
        Ok(resolved.ok_or(leadpool::Error::Closed)??)
    }

    /// Closes the pool: checkouts fail at once, idle connections are closed, those in use may
    /// finish. It waits for nothing. The monitor's thread ends.
    pub fn close(&self) {
        self.shared.inner.close();
        *self.shared.lock() = None;
    }

    /// Closes the pool, waits until all connections have come back, and after `timeout` ends what is
    /// still in use, as far as that [can be had](super). The monitor's thread ends.
    pub fn close_within(&self, timeout: Duration) {
        let inner = self.shared.inner.clone();
        self.end(async move { inner.close_within(timeout).await });
    }

    /// Ends the pool in good order: new checkouts are refused, those that wait already are served,
    /// and transactions of [`run_tx`](Self::run_tx) are brought to their end, repetitions included.
    /// Then, or after `timeout` at the latest, the pool is [closed](Self::close_within).
    pub fn drain(&self, timeout: Duration) {
        let inner = self.shared.inner.clone();
        self.end(async move { inner.drain(timeout).await });
    }

    fn end(&self, ending: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = self.shared.runtime() {
            // `None` if the runtime ends first: then so has the pool.
            let _ = runtime.run(ending);
        }
        *self.shared.lock() = None;
    }

    /// Makes checkouts wait, for planned work like a switchover, and waits until everything in use
    /// has come back, for `within` at most: as [`leadpool::Pool::pause`].
    ///
    /// # Errors
    ///
    /// The pool has been closed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(pool: leadpool_diesel::blocking::Pool) -> Result<(), leadpool_diesel::blocking::Error> {
    /// let pause = pool.pause(std::time::Duration::from_secs(5))?;
    /// if pause.in_use() == 0 {
    ///     // Switch over, now that nothing runs.
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn pause(&self, within: Duration) -> Result<PauseGuard, Error> {
        let (inner, runtime) = (self.shared.inner.clone(), self.shared.runtime()?);
        let paused = runtime.run(async move { inner.sub_pools.pause(within).await });
        Ok(paused.ok_or(leadpool::Error::Closed)?)
    }

    /// Ends all pauses of this pool; a pause of the cluster lasts.
    pub fn resume(&self) {
        self.shared.inner.sub_pools.resume();
    }

    /// Whether checkouts wait because of a pause, of this pool or of the cluster.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.shared.inner.sub_pools.is_paused()
    }

    /// Changes how many connections each host may have: as [`leadpool::Pool::resize`].
    pub fn resize(&self, max_size: u32) {
        self.shared.inner.resize(max_size as usize);
    }

    /// Whether the pool has been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.inner.sub_pools.is_closed()
    }
}

impl Pool {
    /// Connects with default options: see [`Builder::build`].
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().build(ConnectionManager::new(url))
    }

    /// Connects with default options, as `r2d2`'s: see [`Builder::build`].
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new(manager: ConnectionManager<PgConnection>) -> Result<Self, Error> {
        Self::builder().build(manager)
    }

    pub(super) fn open(inner: Arc<Inner>, runtime: Runtime) -> Self {
        Self {
            wish: Wish::Host(inner.sub_pools.cluster().config().target()),
            shared: Arc::new(Shared {
                inner,
                runtime: Mutex::new(Some(Arc::new(runtime))),
            }),
            manager: PhantomData,
        }
    }
}

impl Shared {
    pub(super) fn runtime(&self) -> Result<Arc<Runtime>, Error> {
        let runtime = self.lock().clone();
        runtime.ok_or(Error::Pool(leadpool::Error::Closed))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Runtime>>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            wish: self.wish,
            manager: PhantomData,
        }
    }
}

impl<M> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("wish", &self.wish)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
