//! The queue of one host's own pool.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::atomic::{Ordering, fence},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tracing::Span;

use super::{Driver, Generation, GetError, SubPool, SubPools, wait::Wait};
use crate::{
    error::{BoxError, ConnectError, Error, QueueFull},
    failover::Report,
};

/// A checkout that waits this long for a connection of the host makes the monitor look whether
/// the host still lives.
const SLOW: Duration = Duration::from_millis(250);
/// How long to wait for that look before trying again.
const LOOK: Duration = Duration::from_millis(250);

type Got<D> = Result<<D as Driver>::Conn, GetError<<D as Driver>::Error>>;

/// How the wait in the queue ended.
pub(super) enum Queued<D: Driver> {
    /// The host's pool gave a connection, or none.
    Left(Got<D>),
    /// It still stands there, and has for long.
    Slow,
    /// Too many wait.
    Refused(Error),
    /// It left, since the pool is paused; there may have been a connection.
    Paused(Option<D::Conn>),
}

impl<D: Driver> SubPools<D> {
    /// Stands in the queue of the host's own pool since `now`, and passes its turn on. If
    /// `is_full`, there was no room to open a connection a moment ago.
    pub(super) async fn queue(
        &self,
        sub_pool: &SubPool<D>,
        mut getting: Pin<&mut impl Future<Output = Got<D>>>,
        wait: &mut Wait<'_>,
        now: Instant,
        is_full: bool,
        span: &Span,
    ) -> Queued<D> {
        let mut slow = pin!(None::<Sleep>);
        poll_fn(|cx| {
            let _inside = span.enter();
            let polled = getting.as_mut().poll(cx);
            let is_first = slow.is_none();
            if is_first {
                // Either this sees the pause, or the pause sees this one in the queue and waits
                // for it.
                fence(Ordering::SeqCst);
                if sub_pool.generation.is_paused() && !wait.ask.may_pass() {
                    return Poll::Ready(Queued::Paused(match polled {
                        Poll::Ready(Ok(conn)) => Some(conn),
                        Poll::Ready(Err(_)) | Poll::Pending => None,
                    }));
                }
                // Having been polled, it stands there; the next one may follow.
                drop(wait.turn.take());
            }
            if let Poll::Ready(got) = polled {
                return Poll::Ready(Queued::Left(got));
            }
            if is_first {
                let is_still_full = || D::counts(&sub_pool.pool).is_exhausted();
                if (is_full || is_still_full())
                    && let Err(refused) = wait.count()
                    && is_still_full()
                {
                    return Poll::Ready(Queued::Refused(refused));
                }
                let until = (now + SLOW).min(wait.clock.deadline());
                slow.set(Some(sleep_until(until)));
            }
            match slow.as_mut().as_pin_mut() {
                Some(slow) => slow.poll(cx).map(|()| Queued::Slow),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Sees to what came of the queue: a connection, or `None` if another one has to be looked for.
    pub(super) async fn settle(
        &self,
        sub_pool: &SubPool<D>,
        queued: Queued<D>,
        getting: Pin<&mut impl Future<Output = Got<D>>>,
        wait: &mut Wait<'_>,
    ) -> Result<Option<D::Conn>, Error> {
        let got = match queued {
            Queued::Left(got) => got,
            Queued::Slow => self.queue_on(sub_pool, getting, wait).await?,
            Queued::Refused(refused) => return Err(refused),
            Queued::Paused(conn) => {
                if let Some(conn) = conn {
                    self.put_back(sub_pool, conn);
                }
                return Ok(None);
            }
        };
        match got {
            Ok(conn) if self.admits(sub_pool, &conn) => return Ok(Some(conn)),
            Ok(conn) => D::discard(conn),
            Err(GetError::Closed) => {}
            Err(GetError::Connect(error)) => self.connect_failed(sub_pool, error, wait).await?,
        }
        Ok(None)
    }

    /// Goes on standing in the queue of a host that the monitor looks at meanwhile.
    async fn queue_on(
        &self,
        sub_pool: &SubPool<D>,
        getting: Pin<&mut impl Future<Output = Got<D>>>,
        wait: &mut Wait<'_>,
    ) -> Result<Got<D>, Error> {
        sub_pool.generation.report(Report::Slow);
        self.cluster.note_use();
        match timeout_at(wait.clock.deadline(), getting).await {
            Ok(got) => Ok(got),
            Err(_) => {
                let counts = D::counts(&sub_pool.pool);
                let waited = wait.clock.elapsed();
                // If nobody waits for a place, the one it has got is being cleaned.
                if counts.size >= counts.max_size && counts.waiting > 0 {
                    Err(Error::QueueFull(Box::new(QueueFull {
                        host: sub_pool.generation.host().clone(),
                        waited,
                        size: counts.size,
                        max_size: counts.max_size,
                        waiting: counts.waiting,
                    })))
                } else {
                    let generation = &sub_pool.generation;
                    let source = generation
                        .take_failure()
                        .or_else(|| wait.trouble.last.take())
                        .unwrap_or_else(|| no_session(generation, waited));
                    Err(self.cluster.no_host(wait.ask.target, waited, Some(source)))
                }
            }
        }
    }

    /// A connection could not be opened: fails if waiting can't cure it, else has the host looked
    /// at and rests.
    async fn connect_failed(
        &self,
        sub_pool: &SubPool<D>,
        error: D::Error,
        wait: &mut Wait<'_>,
    ) -> Result<(), Error> {
        let generation = &sub_pool.generation;
        if !D::is_curable(&error) {
            return Err(Error::Connect(Box::new(ConnectError {
                host: generation.host().clone(),
                source: D::into_source(error),
            })));
        }
        let trouble = &mut wait.trouble;
        trouble.last = generation
            .take_failure()
            .or_else(|| Some(D::into_source(error)));
        let deadline = wait.clock.deadline();
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            biased;
            () = generation.retired() => {}
            () = generation.verify(Report::ConnectFailed, LOOK.min(left)) => {}
        }
        if !generation.is_retired() {
            // The host lives, and yet gave no session: too many connections, or a hiccup.
            let pause = trouble.pause();
            sleep_until((Instant::now() + pause).min(deadline)).await;
        }
        if Instant::now() >= deadline {
            let last = trouble.last.take();
            return Err(self
                .cluster
                .no_host(wait.ask.target, wait.clock.elapsed(), last));
        }
        Ok(())
    }
}

/// It is still being opened: the host says nothing, or not enough.
fn no_session(generation: &Generation, waited: Duration) -> BoxError {
    format!("{} gave no session within {waited:.1?}", generation.host()).into()
}
