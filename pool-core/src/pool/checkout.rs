//! The way of a checkout to a connection.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
    task::Poll,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::Instrument as _;

use super::{
    Driver, Generation, GetError, Purpose, SubPool, SubPools,
    ask::Ask,
    clock::{Clock, Trouble, after},
    gate::{Place, Turn},
    routes::Routes,
};
use crate::{
    error::{BoxError, ConnectError, Error, Overloaded, Paused, QueueFull},
    failover::Report,
    observe::Waiting,
    topology::Target,
};

/// A checkout that waits this long for a connection of the host makes the monitor look whether
/// the host still lives.
const SLOW: Duration = Duration::from_millis(250);
/// How long to wait for that look before trying again.
const LOOK: Duration = Duration::from_millis(250);

type Got<D> = Result<<D as Driver>::Conn, GetError<<D as Driver>::Error>>;

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
    async fn observed_wait(
        &self,
        ask: Ask<'_>,
        timeout: Duration,
        chosen: Option<Arc<SubPool<D>>>,
    ) -> Result<(D::Conn, Arc<Generation>), Error> {
        let waiting = Waiting::begin(&self.meters, ask.target);
        let waited = self
            .wait(ask, timeout, chosen)
            .instrument(waiting.span())
            .await;
        waiting.ended(&waited);
        waited
    }

    pub(super) async fn wait(
        &self,
        ask: Ask<'_>,
        timeout: Duration,
        chosen: Option<Arc<SubPool<D>>>,
    ) -> Result<(D::Conn, Arc<Generation>), Error> {
        let waited = self.wait_of(ask, timeout, chosen).await?;
        // Only who asks for one reader is left without.
        waited.ok_or(Error::Closed)
    }

    /// As [`wait`](Self::wait); `None` if the one reader that is asked for is none any more.
    pub(super) async fn wait_of(
        &self,
        ask: Ask<'_>,
        timeout: Duration,
        mut chosen: Option<Arc<SubPool<D>>>,
    ) -> Result<Option<(D::Conn, Arc<Generation>)>, Error> {
        let target = ask.target;
        let mut clock = Clock::new(timeout);
        let mut trouble = Trouble::default();
        let mut turn: Option<Turn<'_>> = None;
        let mut place: Option<Place<'_>> = None;
        // A pool that is drained waits for it; if it is refused, that is at once.
        let _busy = self.busy.token();
        let mut is_accepted = ask.is_accepted;
        loop {
            let routes = self.routes.load_full();
            if routes.state.closed || (routes.state.draining && !is_accepted) {
                return Err(Error::Closed);
            }
            is_accepted = true;
            let overtakes = !ask.may_pass() && turn.is_none() && self.gate(target).is_queued();
            let is_held = !ask.may_pass() && routes.state.paused;
            let chosen = chosen.take().or_else(|| match ask.only {
                Some(generation) => routes.reader_of(generation).cloned(),
                None => routes.find(target, &self.cluster).cloned(),
            });
            if chosen.is_none() && ask.only.is_some() {
                return Ok(None);
            }
            let sub_pool = match &chosen {
                Some(sub_pool) if !overtakes && !is_held => sub_pool,
                _ => {
                    self.count_waiter(ask, &mut place)?;
                    turn = self
                        .wait_for_route(ask, turn, &mut clock, &mut trouble)
                        .await?;
                    continue;
                }
            };
            let mut getting = pin!(D::get(&sub_pool.pool));
            let first = poll_fn(|cx| Poll::Ready(getting.as_mut().poll(cx))).await;
            // Either this sees the pause, or the pause sees this one in the queue and waits for it.
            fence(Ordering::SeqCst);
            if sub_pool.generation.is_paused() && !ask.may_pass() {
                if let Poll::Ready(Ok(conn)) = first {
                    self.put_back(sub_pool, conn);
                }
                // The routes that say so are about to be published.
                yield_now().await;
                continue;
            }
            // Having been polled, it stands in the host's own queue; the next one may follow.
            drop(turn.take());
            let got = match first {
                Poll::Ready(got) => got,
                Poll::Pending => {
                    if D::counts(&sub_pool.pool).is_exhausted() {
                        self.count_waiter(ask, &mut place)?;
                    }
                    self.wait_for_connection(sub_pool, getting, target, &mut clock, &mut trouble)
                        .await?
                }
            };
            match got {
                Ok(conn) if self.admits(sub_pool, &conn) => {
                    return Ok(Some((conn, sub_pool.generation.clone())));
                }
                Ok(conn) => D::discard(conn),
                Err(GetError::Closed) => {}
                Err(GetError::Connect(error)) => {
                    self.connect_failed(sub_pool, error, target, &mut clock, &mut trouble)
                        .await?;
                }
            }
        }
    }

    /// Counts a checkout as one that waits; fails if too many do.
    fn count_waiter<'a>(
        &'a self,
        ask: Ask<'_>,
        place: &mut Option<Place<'a>>,
    ) -> Result<(), Error> {
        if place.is_none() {
            let always = ask.purpose != Purpose::New;
            let entered = self.waiting.enter(always);
            *place = Some(entered.map_err(|(waiting, max_waiting)| {
                Error::Overloaded(Box::new(Overloaded {
                    target: ask.target,
                    waiting,
                    max_waiting,
                }))
            })?);
        }
        Ok(())
    }

    /// Waits until some host is usable and no pause is on. All are let on in the order in which
    /// they came; but who asks for something else than the writer does not wait for others' hosts.
    async fn wait_for_route<'a>(
        &'a self,
        ask: Ask<'_>,
        turn: Option<Turn<'a>>,
        clock: &mut Clock,
        trouble: &mut Trouble,
    ) -> Result<Option<Turn<'a>>, Error> {
        let target = ask.target;
        let deadline = clock.deadline();
        let waiting = async {
            let mut turn = match turn {
                None if !ask.may_pass() => Some(self.gate(target).enter().await),
                turn => turn,
            };
            let mut changed = self.changed.subscribe();
            loop {
                changed.borrow_and_update();
                let warming_until = {
                    let routes = self.routes.load();
                    if routes.state.closed {
                        return turn;
                    }
                    let is_held = routes.state.paused && !ask.may_pass();
                    let found = routes.has(target);
                    let until = self.warming_until(&routes, target).filter(|_| !is_held);
                    if found && !is_held && (until.is_none() || ask.may_pass()) {
                        return turn;
                    }
                    if !is_held && !found && target != Target::Primary {
                        turn = None;
                    }
                    until
                };
                let change = changed.changed();
                let is_last = match warming_until {
                    Some(until) => matches!(timeout_at(until, change).await, Ok(Err(_))),
                    None => change.await.is_err(),
                };
                if is_last {
                    return turn;
                }
            }
        };
        match timeout_at(deadline, waiting).await {
            Ok(turn) => Ok(turn),
            Err(_) if self.routes.load().state.paused => Err(Error::Paused(Box::new(Paused {
                target,
                waited: clock.elapsed(),
            }))),
            Err(_) => Err(self
                .cluster
                .no_host(target, clock.elapsed(), trouble.last.take())),
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

    /// Waits for a connection of one host; a long wait makes the monitor look at it.
    async fn wait_for_connection(
        &self,
        sub_pool: &SubPool<D>,
        mut getting: Pin<&mut impl Future<Output = Got<D>>>,
        target: Target,
        clock: &mut Clock,
        trouble: &mut Trouble,
    ) -> Result<Got<D>, Error> {
        let deadline = clock.deadline();
        let slow = (Instant::now() + SLOW).min(deadline);
        if let Ok(got) = timeout_at(slow, getting.as_mut()).await {
            return Ok(got);
        }
        sub_pool.generation.report(Report::Slow);
        self.cluster.note_use();
        match timeout_at(deadline, getting).await {
            Ok(got) => Ok(got),
            Err(_) => {
                let counts = D::counts(&sub_pool.pool);
                // If nobody waits for a place, the one it has got is being cleaned.
                if counts.size >= counts.max_size && counts.waiting > 0 {
                    Err(Error::QueueFull(Box::new(QueueFull {
                        host: sub_pool.generation.host().clone(),
                        waited: clock.elapsed(),
                        size: counts.size,
                        max_size: counts.max_size,
                        waiting: counts.waiting,
                    })))
                } else {
                    let generation = &sub_pool.generation;
                    let source = generation
                        .take_failure()
                        .or_else(|| trouble.last.take())
                        .unwrap_or_else(|| no_session(generation, clock.elapsed()));
                    Err(self.cluster.no_host(target, clock.elapsed(), Some(source)))
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
        target: Target,
        clock: &mut Clock,
        trouble: &mut Trouble,
    ) -> Result<(), Error> {
        let generation = &sub_pool.generation;
        if !D::is_curable(&error) {
            return Err(Error::Connect(Box::new(ConnectError {
                host: generation.host().clone(),
                source: D::into_source(error),
            })));
        }
        trouble.last = generation
            .take_failure()
            .or_else(|| Some(D::into_source(error)));
        let deadline = clock.deadline();
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
            return Err(self
                .cluster
                .no_host(target, clock.elapsed(), trouble.last.take()));
        }
        Ok(())
    }
}

/// It is still being opened: the host says nothing, or not enough.
fn no_session(generation: &Generation, waited: Duration) -> BoxError {
    format!("{} gave no session within {waited:.1?}", generation.host()).into()
}
