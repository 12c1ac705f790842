//! diesel-async's deadpool behind the seam.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use deadpool::managed::{QueueMode, TimeoutType, Timeouts};
use diesel::ConnectionError;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolError as Refused, RecyclingMethod,
    deadpool::Pool,
};
use leadpool::{
    PoolCounts,
    adapter::{ConnectFailed, Driver, Generation, GetError, Missed, Stamp},
    error::BoxError,
};
use tokio::task::yield_now;

use super::{
    AsyncPgConnection, Object, PoolError,
    opening::{failed, open},
    recycle,
    sessions::Sessions,
};

/// Not even a place in the queue is taken, which is the quickest way too.
const AT_ONCE: Timeouts = Timeouts {
    wait: Some(Duration::ZERO),
    create: None,
    recycle: None,
};
/// The checkout has one deadline around all of it.
const IN_TIME: Timeouts = Timeouts {
    wait: None,
    create: None,
    recycle: None,
};

/// The pool of one host.
pub(super) struct HostPool {
    pool: Pool<AsyncPgConnection>,
    sessions: Arc<Sessions>,
}

/// diesel-async over tokio-postgres, one pool a host.
#[derive(Debug, Default)]
pub(super) struct DieselAsync {
    sessions: Arc<Sessions>,
}

impl DieselAsync {
    pub(super) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }
}

impl Driver for DieselAsync {
    type Pool = HostPool;
    type Conn = Object;
    type Error = Refused;

    fn open(&self, generation: &Arc<Generation>, size: usize) -> HostPool {
        let mut config = manager_config();
        let of_host = generation.clone();
        config.custom_setup = Box::new(move |_| {
            let generation = of_host.clone();
            Box::pin(async move {
                // A checkout that looks for an idle connection drops the future after one poll.
                yield_now().await;
                open(&generation).await
            })
        });
        let mut builder = Pool::builder(manager(config)).post_create(self.sessions.hook());
        if let Some(clean) = recycle::hook(generation.config()) {
            builder = builder.post_recycle(clean);
        }
        let pool = builder
            .max_size(size)
            // The one returned last is warm; those too many fall idle, and can be closed.
            .queue_mode(QueueMode::Lifo)
            .build()
            .expect("invariant: building fails only for timeouts without a runtime, none are set");
        HostPool {
            pool,
            sessions: self.sessions.clone(),
        }
    }

    fn try_get(pool: &HostPool) -> Option<Object> {
        Self::with_idle(pool, |_| true, Some, |_| None)
    }

    #[inline(always)]
    fn with_idle<T>(
        pool: &HostPool,
        is_fit: impl FnOnce(&Object) -> bool,
        hand_out: impl FnOnce(Object) -> T,
        otherwise: impl FnOnce(Missed<Object>) -> T,
    ) -> T {
        let got = {
            // What is not ready at once has done nothing yet: the setup is about to begin.
            let getting = pin!(pool.pool.timeout_get(&AT_ONCE));
            getting.poll(&mut Context::from_waker(Waker::noop()))
            // Here its place is given back: `otherwise` may need it.
        };
        // Looked at where it lies.
        match &got {
            Poll::Ready(Ok(object)) if is_fit(object) => {}
            _ => {
                return otherwise(match got {
                    Poll::Ready(Ok(object)) => Missed::Unfit(object),
                    // Without a place nothing was tried.
                    Poll::Ready(Err(PoolError::Timeout(TimeoutType::Wait))) => Missed::Exhausted,
                    Poll::Ready(Err(_)) | Poll::Pending => Missed::NotIdle,
                });
            }
        }
        match got {
            Poll::Ready(Ok(object)) => hand_out(object),
            Poll::Ready(Err(_)) | Poll::Pending => otherwise(Missed::NotIdle),
        }
    }

    async fn get(pool: &HostPool) -> Result<Object, GetError<Refused>> {
        pool.pool
            .timeout_get(&IN_TIME)
            .await
            .map_err(|error| match error {
                PoolError::Backend(error) => GetError::Connect(error),
                PoolError::Closed
                | PoolError::Timeout(
                    TimeoutType::Wait | TimeoutType::Create | TimeoutType::Recycle,
                )
                | PoolError::NoRuntimeSpecified
                | PoolError::PostCreateHook(_) => GetError::Closed,
            })
    }

    fn close(pool: &HostPool) {
        pool.pool.close();
    }

    fn discard(conn: Object) {
        drop(Object::take(conn));
    }

    fn grow(pool: &HostPool, size: usize) {
        if size > pool.pool.status().max_size {
            pool.pool.resize(size);
        }
    }

    #[inline]
    fn stamp(conn: &Object) -> Option<Stamp> {
        Some(stamp(Object::metrics(conn)))
    }

    fn retain(pool: &HostPool, keep: &mut dyn FnMut(Stamp) -> bool) {
        let lives = |created| {
            pool.sessions
                .of(created)
                .is_none_or(|session| !session.has_ended())
        };
        let retained = pool
            .pool
            .retain(|_, metrics| lives(metrics.created) && keep(stamp(&metrics)));
        // Closed here, and not under the pool's lock.
        drop(retained);
    }

    fn counts(pool: &HostPool) -> PoolCounts {
        let status = pool.pool.status();
        let mut counts = PoolCounts::default();
        counts.max_size = status.max_size;
        counts.size = status.size;
        counts.idle = status.available;
        counts.waiting = status.waiting;
        counts
    }

    fn is_curable(error: &Refused) -> bool {
        match error {
            // What diesel itself sends to a new connection fails for a reason that passes.
            Refused::ConnectionError(error) => failed(error).is_none_or(ConnectFailed::is_curable),
            Refused::QueryError(_) => true,
        }
    }

    fn into_source(error: Refused) -> BoxError {
        match error {
            Refused::ConnectionError(ConnectionError::CouldntSetupConfiguration(
                diesel::result::Error::QueryBuilderError(inside),
            )) => match inside.downcast::<ConnectFailed>() {
                Ok(failed) => failed.into_source(),
                Err(inside) => inside,
            },
            error => error.into(),
        }
    }
}

/// deadpool reads the clock when an object is taken, but not when it comes back.
pub(super) fn stamp(metrics: &deadpool::managed::Metrics) -> Stamp {
    Stamp::new(metrics.created, metrics.recycled)
}

/// A connection whose task has ended is recognised without a round trip; the rest is seen by the
/// monitor. diesel-async's default would ask the server at each checkout.
pub(super) fn manager_config() -> ManagerConfig<AsyncPgConnection> {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    config
}

/// The address is of no use: leadpool knows where to connect to.
pub(super) fn manager(
    config: ManagerConfig<AsyncPgConnection>,
) -> AsyncDieselConnectionManager<AsyncPgConnection> {
    AsyncDieselConnectionManager::new_with_config("", config)
}
