//! The way of a checkout to a connection.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    task::yield_now,
    time::{Instant, timeout_at},
};
use tracing::{Instrument as _, Span};

use super::{
    Driver, Generation, Purpose, SubPool, SubPools, ask::Ask, clock::after, idle::Chosen,
    queue::Queued, routes::Routes, wait::Wait,
};
use crate::{
    error::{Error, Paused},
    observe::Waiting,
    topology::Target,
};

impl<D: Driver> SubPools<D> {
    /// Takes a connection of a host that is usable as `target` asks; `hand_out` makes of it, and of
    /// its generation, what the caller wants.
    ///
    /// One deadline covers everything: waiting for a host, for a place, and for a connection to
    /// open. While an idle connection is there, nothing is allocated, no clock is read and no
    /// timer made.
    ///
    /// # Errors
    ///
    /// As [`Pool::get`](crate::Pool::get).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives back the place in each queue; nothing leaks.
    #[inline]
    pub fn checkout<R>(
        &self,
        purpose: Purpose,
        target: Target,
        timeout: Duration,
        hand_out: impl Fn(D::Conn, &Arc<Generation>) -> R,
    ) -> impl Future<Output = Result<R, Error>> {
        self.checkout_as(purpose, target, timeout, hand_out, |error| error)
    }

    /// The same with errors of another kind: what `refuse` makes of them.
    ///
    /// # Errors
    ///
    /// As [`checkout`](Self::checkout).
    ///
    /// # Cancel safety
    ///
    /// As [`checkout`](Self::checkout).
    #[inline]
    pub fn checkout_as<R, E>(
        &self,
        purpose: Purpose,
        target: Target,
        timeout: Duration,
        hand_out: impl Fn(D::Conn, &Arc<Generation>) -> R,
        refuse: impl Fn(Error) -> E,
    ) -> impl Future<Output = Result<R, E>> {
        let mut waiting: Option<BoxFuture<'_, _>> = None;
        // No `async` block, and no adapter around one: each of those moves the connection once
        // more, and the drivers' are large.
        poll_fn(move |cx| {
            let done = |got: Result<(D::Conn, Arc<Generation>), Error>| match got {
                Ok((conn, generation)) => Ok(hand_out(conn, &generation)),
                Err(error) => Err(refuse(error)),
            };
            if let Some(wait) = &mut waiting {
                return Future::poll(Pin::as_mut(wait), cx).map(done);
            }
            self.idle(
                target,
                |conn, generation| Poll::Ready(Ok(hand_out(conn, generation))),
                |chosen| {
                    let ask = Ask::new(purpose, target);
                    // Apart, so that its large state burdens only those who wait; and without its
                    // type, of which a compiler that looks whether an application's future is
                    // `Send` would else see all (`tests/nesting.rs`).
                    let wait = Box::pin(self.observed_wait(ask, timeout, chosen));
                    waiting.insert(wait).as_mut().poll(cx).map(done)
                },
            )
        })
    }

    /// Waits, and tells of it.
    ///
    /// Most waits are for a connection that another task returns, and are as short as a statement:
    /// those go no further than the queue of the host's own pool. What is rarer is apart.
    async fn observed_wait(
        &self,
        ask: Ask<'_>,
        timeout: Duration,
        chosen: Option<Chosen<D>>,
    ) -> Result<(D::Conn, Arc<Generation>), Error> {
        let mut wait = Wait::new(self, ask, timeout);
        let begun = wait.clock.begun();
        let waiting = Waiting::begin(&self.meters, ask.target, begun.into_std());
        let Some(Chosen { sub_pool, is_full }) = chosen else {
            let waited = self.wait_apart(&mut wait, waiting.span()).await;
            waiting.ended(&waited);
            return waited;
        };
        // It has been let in: should the pool be drained meanwhile, it is served all the same.
        wait.is_accepted = true;
        let settled = {
            let mut getting = pin!(D::get(&sub_pool.pool));
            let polled = getting.as_mut();
            let queued = self.queue(&sub_pool, polled, &mut wait, begun, is_full, waiting.span());
            match queued.await {
                Queued::Left(Ok(conn)) if self.admits(&sub_pool, &conn) => {
                    waiting.served(D::stamp(&conn).and_then(|stamp| stamp.taken));
                    return Ok((conn, sub_pool.generation.clone()));
                }
                queued => {
                    let settling: BoxFuture<'_, _> = Box::pin(
                        self.settle(&sub_pool, queued, getting, &mut wait)
                            .instrument(waiting.span().clone()),
                    );
                    settling.await
                }
            }
            // Here it leaves that queue, before it waits anywhere else.
        };
        let waited = match settled {
            Ok(Some(conn)) => Ok((conn, sub_pool.generation.clone())),
            Ok(None) => self.wait_apart(&mut wait, waiting.span()).await,
            Err(error) => Err(error),
        };
        waiting.ended(&waited);
        waited
    }

    /// Waits for a host, and for a connection there.
    async fn wait_apart<'a>(
        &'a self,
        wait: &mut Wait<'a>,
        span: &Span,
    ) -> Result<(D::Conn, Arc<Generation>), Error> {
        let anywhere = self.wait_anywhere(wait, None).instrument(span.clone());
        let anywhere: BoxFuture<'_, _> = Box::pin(anywhere);
        // Only who asks for one reader is left without.
        anywhere.await?.ok_or(Error::Closed)
    }

    /// Waits for a connection, first for one of the host that is `chosen`; `None` if the one reader
    /// that is asked for is none any more.
    pub(super) async fn wait(
        &self,
        ask: Ask<'_>,
        timeout: Duration,
        chosen: Option<Arc<SubPool<D>>>,
    ) -> Result<Option<(D::Conn, Arc<Generation>)>, Error> {
        let mut wait = Wait::new(self, ask, timeout);
        self.wait_anywhere(&mut wait, chosen).await
    }

    async fn wait_anywhere<'a>(
        &'a self,
        wait: &mut Wait<'a>,
        mut chosen: Option<Arc<SubPool<D>>>,
    ) -> Result<Option<(D::Conn, Arc<Generation>)>, Error> {
        loop {
            let ask = wait.ask;
            let routes = self.routes.load_full();
            if routes.state.closed || (routes.state.draining && !wait.is_accepted) {
                return Err(Error::Closed);
            }
            wait.is_accepted = true;
            let overtakes =
                !ask.may_pass() && wait.turn.is_none() && self.gate(ask.target).is_queued();
            let is_held = !ask.may_pass() && routes.state.paused;
            let chosen = chosen.take().or_else(|| match ask.only {
                Some(generation) => routes.reader_of(generation).cloned(),
                None => routes.find(ask.target, &self.cluster).cloned(),
            });
            if chosen.is_none() && ask.only.is_some() {
                return Ok(None);
            }
            let sub_pool = match &chosen {
                Some(sub_pool) if !overtakes && !is_held => sub_pool,
                _ => {
                    wait.count()?;
                    self.wait_for_route(wait).await?;
                    continue;
                }
            };
            let settled = {
                let mut getting = pin!(D::get(&sub_pool.pool));
                let (polled, now) = (getting.as_mut(), Instant::now());
                // All of this is inside the span.
                let inside = Span::none();
                let queued = self.queue(sub_pool, polled, wait, now, false, &inside);
                let queued = queued.await;
                self.settle(sub_pool, queued, getting, wait).await?
            };
            if let Some(conn) = settled {
                return Ok(Some((conn, sub_pool.generation.clone())));
            }
            if sub_pool.generation.is_paused() {
                // The routes that say so are about to be published.
                yield_now().await;
            }
        }
    }

    /// Waits until some host is usable and no pause is on. All are let on in the order in which
    /// they came; but who asks for something else than the writer does not wait for others' hosts.
    async fn wait_for_route<'a>(&'a self, wait: &mut Wait<'a>) -> Result<(), Error> {
        let ask = wait.ask;
        let target = ask.target;
        let deadline = wait.clock.deadline();
        let waiting = async {
            if wait.turn.is_none() && !ask.may_pass() {
                wait.turn = Some(self.gate(target).enter().await);
            }
            let mut changed = self.changed.subscribe();
            loop {
                changed.borrow_and_update();
                let warming_until = {
                    let routes = self.routes.load();
                    if routes.state.closed {
                        return;
                    }
                    let is_held = routes.state.paused && !ask.may_pass();
                    let found = routes.has(target);
                    let until = self.warming_until(&routes, target).filter(|_| !is_held);
                    if found && !is_held && (until.is_none() || ask.may_pass()) {
                        return;
                    }
                    if !is_held && !found && target != Target::Primary {
                        wait.turn = None;
                    }
                    until
                };
                let change = changed.changed();
                let is_last = match warming_until {
                    Some(until) => matches!(timeout_at(until, change).await, Ok(Err(_))),
                    None => change.await.is_err(),
                };
                if is_last {
                    return;
                }
            }
        };
        match timeout_at(deadline, waiting).await {
            Ok(()) => Ok(()),
            Err(_) if self.routes.load().state.paused => Err(Error::Paused(Box::new(Paused {
                target,
                waited: wait.clock.elapsed(),
            }))),
            Err(_) => {
                Err(self
                    .cluster
                    .no_host(target, wait.clock.elapsed(), wait.trouble.last.take()))
            }
        }
    }

    /// Until when those who ask for the writer are held back for its warm-up.
    fn warming_until(&self, routes: &Routes<D>, target: Target) -> Option<Instant> {
        let limits = &self.limits;
        if limits.warm_up_wait.is_zero() || limits.warm_up == 0 || target != Target::Primary {
            return None;
        }
        let writer = routes.writer.as_ref()?;
        let until = after(routes.writer_since.into(), limits.warm_up_wait);
        (!writer.generation.is_warm() && Instant::now() < until).then_some(until)
    }

    /// Waits until some host is usable, and says under which generation. Without a deadline: the
    /// caller has one.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn wait_for_generation(&self, target: Target) -> Arc<Generation> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(sub_pool) = self.routes.load().route(target, &self.cluster) {
                return sub_pool.generation.clone();
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns when the pool has been closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn closed(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.is_closed() {
                return;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
