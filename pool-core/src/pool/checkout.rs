//! The way of a checkout to a connection.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::Instrument as _;

use super::{Driver, Generation, GetError, SubPool, SubPools, gate::Turn};
use crate::{
    error::{BoxError, ConnectError, Error, QueueFull},
    failover::Report,
    observe::Waiting,
    topology::Target,
};

/// A checkout that waits this long for a connection of the host makes the monitor look whether
/// the host still lives.
const SLOW: Duration = Duration::from_millis(250);
/// How long to wait for that look before trying again.
const LOOK: Duration = Duration::from_millis(250);
/// The pauses between attempts to connect to a host that lives but gives no session.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

type Got<D> = Result<<D as Driver>::Conn, GetError<<D as Driver>::Error>>;

impl<D: Driver> SubPools<D> {
    /// Takes a connection of a host that is usable as `target` asks; `hand_out` makes of it, and of
    /// its generation, what the caller wants.
    ///
    /// One deadline covers everything: waiting for a host, for a place, and for a connection to
    /// open. While an idle connection is there, nothing is allocated, no clock is read and no
    /// timer made.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives back the place in each queue; nothing leaks.
    pub(crate) async fn checkout<R>(
        &self,
        target: Target,
        timeout: Duration,
        hand_out: impl Fn(D::Conn, &Arc<Generation>) -> R,
    ) -> Result<R, Error> {
        let chosen = match self.idle(target, &hand_out) {
            Ok(idle) => {
                self.meters.succeeded(target);
                return Ok(idle);
            }
            Err(chosen) => chosen,
        };
        // Apart, so that its large state burdens only those who wait.
        let (conn, generation) = Box::pin(self.observed_wait(target, timeout, chosen)).await?;
        Ok(hand_out(conn, &generation))
    }

    /// Takes a connection that is idle, without overtaking anybody; else says whose turn it was.
    #[inline]
    fn idle<R>(
        &self,
        target: Target,
        hand_out: impl Fn(D::Conn, &Arc<Generation>) -> R,
    ) -> Result<R, Option<Arc<SubPool<D>>>> {
        if target == Target::Primary && self.gate.is_queued() {
            return Err(None);
        }
        let routes = self.routes.load();
        let Some(sub_pool) = routes.route(target, &self.cluster) else {
            return Err(None);
        };
        // What has to be cleaned first takes a round trip, and must not be dropped meanwhile.
        if self.cluster.config().session().recycling.sql().is_some() {
            return Err(Some(sub_pool.clone()));
        }
        match D::try_get(&sub_pool.pool) {
            Some(conn) if self.admits(sub_pool) => Ok(hand_out(conn, &sub_pool.generation)),
            Some(conn) => {
                D::discard(conn);
                Err(None)
            }
            None => Err(Some(sub_pool.clone())),
        }
    }

    /// The last look before a connection is handed out.
    fn admits(&self, sub_pool: &SubPool<D>) -> bool {
        if sub_pool.generation.is_writer() {
            self.cluster.note_writing();
        }
        self.cluster.note_use();
        !sub_pool.generation.is_retired()
    }

    /// Waits, and tells of it.
    async fn observed_wait(
        &self,
        target: Target,
        timeout: Duration,
        chosen: Option<Arc<SubPool<D>>>,
    ) -> Result<(D::Conn, Arc<Generation>), Error> {
        let waiting = Waiting::begin(&self.meters, target);
        let waited = self
            .wait(target, timeout, chosen)
            .instrument(waiting.span())
            .await;
        waiting.ended(&waited);
        waited
    }

    async fn wait(
        &self,
        target: Target,
        timeout: Duration,
        mut chosen: Option<Arc<SubPool<D>>>,
    ) -> Result<(D::Conn, Arc<Generation>), Error> {
        let mut clock = Clock {
            timeout,
            begun: None,
        };
        let mut turn: Option<Turn<'_>> = None;
        let mut trouble = Trouble::default();
        loop {
            let routes = self.routes.load_full();
            if routes.closed {
                return Err(Error::Closed);
            }
            let overtakes = target == Target::Primary && turn.is_none() && self.gate.is_queued();
            let chosen = chosen
                .take()
                .or_else(|| routes.route(target, &self.cluster).cloned());
            let sub_pool = match &chosen {
                Some(sub_pool) if !overtakes => sub_pool,
                _ => {
                    turn = self
                        .wait_for_route(target, turn, &mut clock, &mut trouble)
                        .await?;
                    continue;
                }
            };
            let mut getting = pin!(D::get(&sub_pool.pool));
            let first = poll_fn(|cx| Poll::Ready(getting.as_mut().poll(cx))).await;
            // Having been polled, it stands in the host's own queue; the next one may follow.
            drop(turn.take());
            let got = match first {
                Poll::Ready(got) => got,
                Poll::Pending => {
                    self.wait_for_connection(sub_pool, getting, target, &mut clock, &mut trouble)
                        .await?
                }
            };
            match got {
                Ok(conn) if self.admits(sub_pool) => {
                    return Ok((conn, sub_pool.generation.clone()));
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

    /// Waits until some host is usable. Those who ask for the writer are let on in the order in
    /// which they came.
    async fn wait_for_route<'a>(
        &'a self,
        target: Target,
        turn: Option<Turn<'a>>,
        clock: &mut Clock,
        trouble: &mut Trouble,
    ) -> Result<Option<Turn<'a>>, Error> {
        let waiting = async {
            let turn = match (target, turn) {
                (Target::Primary, None) => Some(self.gate.enter().await),
                (_, turn) => turn,
            };
            let mut changed = self.changed.subscribe();
            loop {
                changed.borrow_and_update();
                {
                    let routes = self.routes.load();
                    if routes.closed || routes.has(target) {
                        return turn;
                    }
                }
                if changed.changed().await.is_err() {
                    return turn;
                }
            }
        };
        match timeout_at(clock.deadline(), waiting).await {
            Ok(turn) => Ok(turn),
            Err(_) => Err(self
                .cluster
                .no_host(target, clock.elapsed(), trouble.last.take())),
        }
    }

    /// Waits until some host is usable, and says under which generation. Without a deadline: the
    /// caller has one.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn wait_for_generation(&self, target: Target) -> Arc<Generation> {
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
    pub(crate) async fn closed(&self) {
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

    /// Closes the pool and waits until what is checked out has come back, for `timeout` at most;
    /// then aborts it.
    ///
    /// # Cancel safety
    ///
    /// The pool stays closed when the future is dropped; what is checked out is not aborted then.
    pub(crate) async fn close_within(&self, timeout: Duration) {
        self.close();
        let deadline = Instant::now() + timeout;
        while !self.is_drained() && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        self.abort();
    }
}

/// It is still being opened: the host says nothing, or not enough.
fn no_session(generation: &Generation, waited: Duration) -> BoxError {
    format!("{} gave no session within {waited:.1?}", generation.host()).into()
}

/// The deadline of a checkout; the clock is read only once something has to wait.
struct Clock {
    timeout: Duration,
    begun: Option<Instant>,
}

impl Clock {
    fn begun(&mut self) -> Instant {
        *self.begun.get_or_insert_with(Instant::now)
    }

    fn deadline(&mut self) -> Instant {
        let begun = self.begun();
        // A timeout beyond what the clock can tell means a far one.
        begun
            .checked_add(self.timeout)
            .unwrap_or_else(|| begun + Duration::from_secs(86_400 * 365))
    }

    fn elapsed(&mut self) -> Duration {
        self.begun().elapsed()
    }
}

/// What went wrong so far in one checkout.
#[derive(Default)]
struct Trouble {
    last: Option<BoxError>,
    failures: u32,
}

impl Trouble {
    fn pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        // Half of it at random, so that those who failed together do not come back together.
        pause
            .min(LONGEST_PAUSE)
            .mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}
