//! deadpool-postgres behind the seam.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Metrics, Object, Pool, PoolError,
    QueueMode, RecyclingMethod, TimeoutType, Timeouts,
};

use super::{connect::HostConnect, limits::Limits, recycle, refusal::Refusal};
use crate::{
    error::{BoxError, Disposition, TxPhase, tls_error},
    pool::{Driver, Generation, GetError, Missed, PoolCounts, Stamp},
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

/// The tokio-postgres driver, pooled by deadpool-postgres.
#[derive(Debug, Default)]
pub(crate) struct Native {
    limits: Arc<Limits>,
}

impl Native {
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl Driver for Native {
    type Pool = Pool;
    type Conn = Object;
    type Error = tokio_postgres::Error;

    fn open(&self, generation: &Arc<Generation>, size: usize) -> Pool {
        let connect = HostConnect {
            generation: generation.clone(),
        };
        let manager = Manager::from_connect(
            // The driver wants one; `HostConnect` uses another.
            tokio_postgres::Config::new(),
            connect,
            manager_config(),
        );
        // Without timeouts of its own: one deadline is kept around the whole checkout instead,
        // which costs nothing while a connection is idle.
        let (limits, of_host) = (self.limits.clone(), generation.clone());
        let restore = move |client: &mut ClientWrapper, _: &Metrics| {
            let restored = limits.restore(client, &of_host);
            restored.map_err(|_| HookError::message("has another statement_timeout"))
        };
        let mut builder = Pool::builder(manager);
        if let Some(clean) = recycle::hook(generation.config(), Some(generation.host())) {
            builder = builder.post_recycle(clean);
        }
        builder
            .max_size(size)
            .pre_recycle(Hook::sync_fn(restore))
            // The one returned last is warm; those too many fall idle, and can be closed.
            .queue_mode(QueueMode::Lifo)
            .build()
            .expect("invariant: building fails only for timeouts without a runtime, none are set")
    }

    fn try_get(pool: &Pool) -> Option<Object> {
        Self::with_idle(pool, |_| true, Some, |_| None)
    }

    #[inline(always)]
    fn with_idle<T>(
        pool: &Pool,
        is_fit: impl FnOnce(&Object) -> bool,
        hand_out: impl FnOnce(Object) -> T,
        otherwise: impl FnOnce(Missed<Object>) -> T,
    ) -> T {
        let got = {
            // What is not ready at once has done nothing yet: `HostConnect` is about to begin.
            let getting = pin!(pool.timeout_get(&AT_ONCE));
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

    async fn get(pool: &Pool) -> Result<Object, GetError<Self::Error>> {
        pool.timeout_get(&IN_TIME)
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

    fn close(pool: &Pool) {
        pool.close();
    }

    fn discard(conn: Object) {
        drop(Object::take(conn));
    }

    fn grow(pool: &Pool, size: usize) {
        if size > pool.status().max_size {
            pool.resize(size);
        }
    }

    #[inline]
    fn stamp(conn: &Object) -> Option<Stamp> {
        Some(stamp(Object::metrics(conn)))
    }

    fn retain(pool: &Pool, keep: &mut dyn FnMut(Stamp) -> bool) {
        let retained = pool.retain(|client, metrics| !client.is_closed() && keep(stamp(&metrics)));
        // Closed here, and not under the pool's lock.
        drop(retained);
    }

    fn counts(pool: &Pool) -> PoolCounts {
        let status = pool.status();
        PoolCounts {
            max_size: status.max_size,
            size: status.size,
            idle: status.available,
            waiting: status.waiting,
        }
    }

    fn is_curable(error: &Self::Error) -> bool {
        if let Some(refusal) = Refusal::of_driver(error) {
            return !refusal.is_permanent();
        }
        match error.code() {
            Some(_) => Disposition::of_driver(error, TxPhase::NotSent) != Disposition::Fail,
            None => tls_error(error).is_none() && !is_configuration(error),
        }
    }

    fn into_source(error: Self::Error) -> BoxError {
        match Refusal::of_driver(&error) {
            Some(_) => Refusal::unwrap_source(error),
            None => Box::new(error),
        }
    }
}

/// deadpool reads the clock when an object is taken, but not when it comes back.
pub(super) fn stamp(metrics: &Metrics) -> Stamp {
    Stamp {
        opened: metrics.created,
        taken: metrics.recycled,
    }
}

/// Whether the error is about what was asked for, so that asking again is in vain.
fn is_configuration(error: &tokio_postgres::Error) -> bool {
    use std::error::Error as _;

    let text = error.to_string();
    let by_driver = text.starts_with("invalid configuration");
    let by_login = text.starts_with("authentication error");
    (by_driver || by_login)
        && error
            .source()
            .is_none_or(|source| source.downcast_ref::<std::io::Error>().is_none())
}

/// A connection whose task has ended is recognised without a round trip; the rest is seen by the
/// monitor.
pub(super) fn manager_config() -> ManagerConfig {
    ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    }
}
