//! A pool of diesel's connections for each host, behind leadpool's seam.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult, Timeouts,
};
use diesel::connection::SimpleConnection as _;
use leadpool::{
    PoolCounts,
    adapter::{Driver, Generation, GetError, Stamp, recycling_sql},
};
use tokio::{
    task::{spawn_blocking, yield_now},
    time::timeout,
};

use super::{
    connect::{ConnectFailure, Opener},
    session::{Customizer, Session, is_lost},
    socket::{Kill, Sockets},
};

/// What was in use so short a time ago needs no look at its socket.
const FRESH: Duration = Duration::from_millis(100);
const TEST: &str = "SELECT 1";
/// Not even a place in the queue is taken: that would ask Tokio, which makes a task wait now and then
/// for the sake of others, and who blocks can't let them run.
const AT_ONCE: Timeouts = Timeouts {
    wait: Some(Duration::ZERO),
    create: None,
    recycle: None,
};

/// diesel over libpq, pooled by deadpool, one pool a host.
pub(super) struct Libpq {
    pub(super) customizer: Option<Arc<Customizer>>,
    pub(super) test_on_check_out: bool,
}

pub(super) type HostPool = Pool<HostManager>;
pub(super) type HostObject = Object<HostManager>;

/// Opens connections for the pool of one host, and looks at those that are taken again.
pub(super) struct HostManager {
    opener: Opener,
    /// What is sent to a used connection before it is handed out again.
    check: Option<String>,
}

impl Manager for HostManager {
    /// Boxed: what is taken and returned is moved several times.
    type Type = Box<Session>;
    type Error = ConnectFailure;

    async fn create(&self) -> Result<Box<Session>, ConnectFailure> {
        // A checkout that looks for an idle connection drops the future after one poll.
        yield_now().await;
        self.opener.open().await.map(Box::new)
    }

    async fn recycle(
        &self,
        session: &mut Box<Session>,
        _: &Metrics,
    ) -> RecycleResult<ConnectFailure> {
        match &self.check {
            Some(sql) => self.ask(session, sql.clone()).await,
            None => Ok(()),
        }
    }
}

impl HostManager {
    /// Sends something to a used connection, in a thread, within the connect timeout.
    async fn ask(&self, session: &mut Session, sql: String) -> RecycleResult<ConnectFailure> {
        let Some(mut conn) = session.conn.take() else {
            return Err(RecycleError::message("was lost"));
        };
        let kill = Kill::new(session.socket.clone());
        let asking = spawn_blocking(move || {
            let is_clean = conn.batch_execute(&sql).is_ok() && !is_lost(&mut conn);
            is_clean.then_some(conn)
        });
        let limit = self.opener.generation.config().pool().connect_timeout;
        match timeout(limit, asking).await {
            Ok(Ok(Some(conn))) => {
                kill.fuse().take_out();
                session.conn = Some(conn);
                self.opener.generation.heard();
                Ok(())
            }
            _ => Err(RecycleError::message("did not answer, or refused")),
        }
    }
}

impl Driver for Libpq {
    type Pool = HostPool;
    type Conn = HostObject;
    type Error = ConnectFailure;

    fn open(&self, generation: &Arc<Generation>, size: usize) -> HostPool {
        let recycling = recycling_sql(generation.config());
        let check = match recycling {
            Some("") => Some(TEST),
            Some(sql) => Some(sql),
            None => self.test_on_check_out.then_some(TEST),
        };
        let manager = HostManager {
            check: check.map(str::to_owned),
            opener: Opener {
                generation: generation.clone(),
                sockets: Sockets::of(generation),
                customizer: self.customizer.clone(),
            },
        };
        Pool::builder(manager)
            .max_size(size)
            // The one returned last is warm; those too many fall idle, and can be closed.
            .queue_mode(QueueMode::Lifo)
            .build()
            .expect("invariant: building fails only for timeouts without a runtime, none are set")
    }

    // Else the connection is moved once more.
    #[inline(always)]
    fn try_get(pool: &HostPool) -> Option<HostObject> {
        if pool.manager().check.is_some() {
            return None;
        }
        // What is not ready at once has done nothing yet.
        let getting = pin!(pool.timeout_get(&AT_ONCE));
        match getting.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(object)) => living(object),
            Poll::Ready(Err(_)) | Poll::Pending => None,
        }
    }

    async fn get(pool: &HostPool) -> Result<HostObject, GetError<ConnectFailure>> {
        loop {
            let object = pool.get().await.map_err(|error| match error {
                PoolError::Backend(error) => GetError::Connect(error),
                PoolError::Closed
                | PoolError::Timeout(_)
                | PoolError::NoRuntimeSpecified
                | PoolError::PostCreateHook(_) => GetError::Closed,
            })?;
            if let Some(living) = living(object) {
                return Ok(living);
            }
        }
    }

    fn close(pool: &HostPool) {
        pool.close();
    }

    fn discard(conn: HostObject) {
        drop(Object::take(conn));
    }

    fn grow(pool: &HostPool, size: usize) {
        if size > pool.status().max_size {
            pool.resize(size);
        }
    }

    #[inline]
    fn stamp(conn: &HostObject) -> Option<Stamp> {
        Some(stamp(Object::metrics(conn)))
    }

    fn retain(pool: &HostPool, keep: &mut dyn FnMut(Stamp) -> bool) {
        let retained = pool.retain(|session, metrics| {
            let lives = !session.is_ended();
            lives && keep(stamp(&metrics))
        });
        // Closed here, and not under the pool's lock.
        drop(retained);
    }

    fn counts(pool: &HostPool) -> PoolCounts {
        let status = pool.status();
        let mut counts = PoolCounts::default();
        counts.max_size = status.max_size;
        counts.size = status.size;
        counts.idle = status.available;
        counts.waiting = status.waiting;
        counts
    }

    fn is_curable(error: &ConnectFailure) -> bool {
        error.is_curable()
    }
}

/// What has been taken, unless the server has ended it while it was idle. Reads no clock: deadpool
/// has just done so.
#[inline]
fn living(mut object: HostObject) -> Option<HostObject> {
    let Some(now) = Object::metrics(&object).recycled else {
        // New.
        return Some(object);
    };
    let created = Object::metrics(&object).created;
    let before = object.taken.replace(now).unwrap_or(created);
    let is_living = now.saturating_duration_since(before) < FRESH || !object.is_ended();
    if !is_living {
        drop(Object::take(object));
        return None;
    }
    Some(object)
}

/// deadpool reads the clock when an object is taken, but not when it comes back.
#[inline]
fn stamp(metrics: &Metrics) -> Stamp {
    Stamp::new(metrics.created, metrics.recycled)
}

/// Closes the idle connections of a host that the server has ended; where one was, there are more.
pub(super) fn close_ended(object: &HostObject) {
    if let Some(pool) = Object::pool(object) {
        Libpq::retain(&pool, &mut |_| true);
    }
}
