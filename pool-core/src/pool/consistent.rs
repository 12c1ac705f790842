//! The way of a read that must have seen something: to a standby that has it, or to the writer.
//!
//! How far a standby is, is known from its last answer: a lower bound, as long as the server has
//! not begun to recover anew. That ends all sessions, so a connection that is older than the answer
//! and still lives proves that it has not. For a younger one the standby is asked once more.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::{
    Driver, Generation, Purpose, SubPool, SubPools, ask::Ask, clock::after, routes::State,
};
use crate::{
    consistency::{ConsistencyToken, Place, Served, ServedBy, Standing, standing},
    error::{Error, TokenRefused},
    monitor::{Seen, vantage},
    observe::{Reading, Waiting},
    topology::Target,
};

/// How long a token of a timeline that nobody has shown yet is waited for: a failover may be known
/// elsewhere before it is known here.
const NEWS: Duration = Duration::from_secs(2);
/// Waits that differ by no more are as good as each other.
const EVEN: Duration = Duration::from_millis(2);
/// How long to rest, at least, while there is neither a writer nor a standby that has it.
const REST: Duration = Duration::from_millis(10);

/// What a standby should have, and the timeline that is written.
#[derive(Clone, Copy)]
struct Wish {
    place: Place,
    now: Option<u32>,
}

impl Wish {
    fn is_known_of(self, generation: &Generation) -> bool {
        self.is_in(&generation.replay().seen(), generation)
    }

    /// Whether what was seen was that of the server that the generation leads to.
    fn is_in(self, seen: &Seen, generation: &Generation) -> bool {
        seen.has(self.place, self.now) && seen.started_at == generation.started_at()
    }

    /// Whether it is true of a connection that is as old as that.
    fn is_proved(self, generation: &Generation, opened: std::time::Instant) -> bool {
        let seen = generation.replay().seen();
        self.is_in(&seen, generation) && seen.is_since(opened)
    }
}

type Got<D> = (<D as Driver>::Conn, Arc<Generation>);

impl<D: Driver> SubPools<D> {
    /// Takes a connection for a read that must see what the token stands for: of a standby that
    /// has replayed it, else of the writer; `hand_out` as in [`checkout`](Self::checkout).
    ///
    /// One deadline covers everything. If a standby is known to have it, and has an idle
    /// connection, nothing is asked and nothing allocated.
    ///
    /// # Errors
    ///
    /// As [`checkout`](Self::checkout), and [`Error::TokenRefused`].
    ///
    /// # Cancel safety
    ///
    /// As [`checkout`](Self::checkout).
    pub async fn checkout_at<R>(
        &self,
        purpose: Purpose,
        token: &ConsistencyToken,
        timeout: Duration,
        hand_out: impl Fn(D::Conn, &Arc<Generation>) -> R,
    ) -> Result<(R, Served), Error> {
        if let Some((idle, standing)) = self.idle_at(token, &hand_out) {
            self.meters.succeeded(Target::PreferStandby);
            self.meters.read(ServedBy::Standby.as_str(), standing);
            return Ok((idle, Served::new(ServedBy::Standby, standing)));
        }
        let reading = Reading::begin(&self.meters);
        let span = reading.span();
        let read = self.observed_read(purpose, token, timeout, reading);
        // Without its type, as in `checkout`.
        let read: BoxFuture<'_, _> = Box::pin(read.instrument(span));
        let ((conn, generation), served) = read.await?;
        Ok((hand_out(conn, &generation), served))
    }

    /// Takes a connection only if a standby is known to have what the token stands for, and one is
    /// idle there, without overtaking anybody.
    pub fn try_checkout_at<R>(
        &self,
        token: &ConsistencyToken,
        hand_out: impl Fn(D::Conn, &Arc<Generation>) -> R,
    ) -> Option<R> {
        let (idle, standing) = self.idle_at(token, hand_out)?;
        self.meters.succeeded(Target::PreferStandby);
        self.meters.read(ServedBy::Standby.as_str(), standing);
        Some(idle)
    }

    /// What became of the token, and what a standby should have that serves it.
    fn judge(&self, token: &ConsistencyToken) -> (Standing, Option<Wish>) {
        let vantage = vantage(&self.cluster.glance());
        let standing = standing(token, &vantage, &self.cluster.history());
        let is_there = matches!(standing, Standing::Current | Standing::Kept);
        let place = token.place().filter(|_| is_there);
        let wish = place.map(|place| Wish {
            place,
            now: vantage.timeline,
        });
        (standing, wish)
    }

    fn idle_at<R>(
        &self,
        token: &ConsistencyToken,
        hand_out: impl Fn(D::Conn, &Arc<Generation>) -> R,
    ) -> Option<(R, Standing)> {
        let (standing, wish) = self.judge(token);
        let wish = wish?;
        let (conn, generation) = self.idle_of(|generation| wish.is_known_of(generation))?;
        if wish.is_proved(&generation, opened::<D>(&conn, &generation)) {
            return Some((hand_out(conn, &generation), standing));
        }
        // It goes back: the standby is asked first.
        None
    }

    /// Takes an idle connection of a reader of which `admits` says so, without overtaking anybody.
    fn idle_of(&self, admits: impl Fn(&Generation) -> bool) -> Option<(D::Conn, Arc<Generation>)> {
        let routes = self.routes.load();
        if self.cleans || self.other_gate.is_queued() || routes.state != State::default() {
            return None;
        }
        let sub_pool = routes.reader_among(&self.cluster, admits)?;
        match D::try_get(&sub_pool.pool)? {
            conn if self.is_fit(sub_pool, &conn) => Some((conn, sub_pool.generation.clone())),
            conn => {
                self.put_back(sub_pool, conn);
                None
            }
        }
    }

    /// The reader that the strategy picks of those of which `admits` says so.
    fn reader_among(&self, admits: impl Fn(&Generation) -> bool) -> Option<Arc<SubPool<D>>> {
        let routes = self.routes.load();
        routes.reader_among(&self.cluster, admits).cloned()
    }

    async fn observed_read(
        &self,
        purpose: Purpose,
        token: &ConsistencyToken,
        timeout: Duration,
        mut reading: Reading<'_>,
    ) -> Result<(Got<D>, Served), Error> {
        let waiting = Waiting::begin(
            &self.meters,
            Target::PreferStandby,
            std::time::Instant::now(),
        );
        let read = self
            .read(purpose, token, timeout, &mut reading)
            .instrument(waiting.span().clone())
            .await;
        waiting.ended(&read);
        if let Ok((_, served)) = &read {
            reading.served(*served);
        }
        read
    }

    async fn read(
        &self,
        purpose: Purpose,
        token: &ConsistencyToken,
        timeout: Duration,
        reading: &mut Reading<'_>,
    ) -> Result<(Got<D>, Served), Error> {
        let deadline = after(Instant::now(), timeout);
        let patience = self.cluster.config().pool().consistency_wait;
        // A pool that is drained waits for it; if it is refused, that is at once.
        let _busy = self.busy.token();
        if purpose == Purpose::New && self.routes.load().state.draining {
            return Err(Error::Closed);
        }
        let ask = Ask {
            is_accepted: true,
            ..Ask::new(purpose, Target::PreferStandby)
        };
        let mut news = None;
        let mut in_vain = None;
        loop {
            let (standing, wish) = self.judge(token);
            reading.judged(standing);
            if standing == Standing::Future && self.has_news(&mut news, deadline).await {
                continue;
            }
            let Some(wish) = self.refuse(token, standing).map(|()| wish)? else {
                break;
            };
            // The writer needs some of it too, perhaps to open a connection.
            let left = deadline.saturating_duration_since(Instant::now());
            let until = after(Instant::now(), patience.min(left / 2));
            match self.read_standby(ask, wish, until, deadline).await? {
                Ok((got, by)) => return Ok((got, Served::new(by, standing))),
                Err(has_waited) => in_vain = has_waited.then_some(wish),
            }
            let mut changed = self.changed.subscribe();
            let routes = self.routes.load_full();
            if routes.writer.is_some() || routes.state.closed || Instant::now() >= deadline {
                break;
            }
            // There is nobody but the standbys, so they are given all the time there is.
            let rest = after(Instant::now(), patience.max(REST)).min(deadline);
            let _ = timeout_at(rest, changed.changed()).await;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let ask = Ask {
            target: Target::Primary,
            ..ask
        };
        // The writer is no one reader, of which alone there may be none.
        let got = self.wait(ask, left, None).await?.ok_or(Error::Closed)?;
        // Another writer, perhaps, than there was.
        let (mut standing, _) = self.judge(token);
        if let (Some(wish), Standing::Current) = (in_vain, standing) {
            if self.is_beyond_writer(wish, &got.1, deadline).await {
                standing = Standing::Future;
            }
        } else {
            self.refuse(token, standing)?;
        }
        reading.judged(standing);
        Ok((got, Served::new(ServedBy::Writer, standing)))
    }

    /// Fails if nobody here can serve the token.
    fn refuse(&self, token: &ConsistencyToken, standing: Standing) -> Result<(), Error> {
        if !matches!(standing, Standing::Foreign | Standing::Future) {
            return Ok(());
        }
        let topology = self.cluster.topology();
        Err(Error::TokenRefused(Box::new(TokenRefused {
            token: *token,
            standing,
            system_identifier: topology.system_identifier,
            term: topology.term,
        })))
    }

    /// Has all hosts looked at, the first time, and waits until something has changed; not for
    /// long.
    async fn has_news(&self, until: &mut Option<Instant>, deadline: Instant) -> bool {
        let mut changed = self.changed.subscribe();
        let until = *until.get_or_insert_with(|| {
            self.cluster.probe_now();
            after(Instant::now(), NEWS).min(deadline)
        });
        matches!(timeout_at(until, changed.changed()).await, Ok(Ok(())))
    }

    /// Takes a connection of a standby that has what is wished for, waiting for one to have it
    /// until `until`; otherwise says whether it has waited in vain.
    async fn read_standby(
        &self,
        ask: Ask<'_>,
        wish: Wish,
        until: Instant,
        deadline: Instant,
    ) -> Result<Result<(Got<D>, ServedBy), bool>, Error> {
        let mut by = ServedBy::Standby;
        loop {
            let known = self.reader_among(|generation| wish.is_known_of(generation));
            let has_waited = by == ServedBy::Waited;
            let sub_pool = match known {
                Some(known) => known,
                None => match self.hoped(wish) {
                    Some(hoped) if Instant::now() < until => {
                        by = ServedBy::Waited;
                        let (generation, begun) = (&hoped.generation, Instant::now());
                        generation.replay().tried();
                        let is_there = self.has_replayed(wish, generation, None, until).await;
                        generation.replay().waited(begun.elapsed());
                        if !is_there {
                            generation.replay().missed(wish.place);
                            continue;
                        }
                        hoped
                    }
                    _ => return Ok(Err(has_waited)),
                },
            };
            let generation = sub_pool.generation.clone();
            let ask = Ask {
                only: Some(&generation),
                ..ask
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let Some((conn, generation)) = self.wait(ask, left, Some(sub_pool)).await? else {
                continue;
            };
            let opened = opened::<D>(&conn, &generation);
            if wish.is_proved(&generation, opened) {
                return Ok(Ok(((conn, generation), by)));
            }
            let patience = self.cluster.config().pool().consistency_wait;
            let until = after(Instant::now(), patience).min(deadline);
            let since = Some(opened);
            if self.has_replayed(wish, &generation, since, until).await {
                return Ok(Ok(((conn, generation), by)));
            }
            by = ServedBy::Waited;
            generation.replay().missed(wish.place);
        }
    }

    /// The one that is worth waiting for: the strategy's choice of those that take not much longer
    /// than others.
    fn hoped(&self, wish: Wish) -> Option<Arc<SubPool<D>>> {
        let may_get_there = |generation: &Generation| {
            !generation.is_retired() && !generation.replay().is_hopeless(wish.place, wish.now)
        };
        let routes = self.routes.load();
        let readers = routes.readers.iter();
        let generations = readers.map(|reader| &*reader.sub_pool.generation);
        let hopeful = generations.filter(|generation| may_get_there(generation));
        let least = hopeful
            .map(|generation| generation.replay().expected())
            .min()?;
        let most = least.saturating_mul(2).saturating_add(EVEN);
        self.reader_among(|generation| {
            may_get_there(generation) && generation.replay().expected() <= most
        })
    }

    /// Waits until the standby has what is wished for; with `since`, until it has said so after
    /// that moment.
    async fn has_replayed(
        &self,
        wish: Wish,
        generation: &Generation,
        since: Option<std::time::Instant>,
        until: Instant,
    ) -> bool {
        let replay = generation.replay();
        let (config, host) = (self.cluster.config(), generation.host());
        let replayed = replay.until(config, host, Some(wish.place), until, |seen| {
            wish.is_in(seen, generation) && since.is_none_or(|since| seen.is_since(since))
        });
        let found = tokio::select! {
            biased;
            () = generation.retired() => false,
            found = replayed => found.is_some(),
        };
        if !found && replay.seen().timeline > wish.now {
            // It follows somebody whom we have not seen.
            self.cluster.probe_now();
        }
        found
    }

    /// Whether the writer itself has not come to what was waited for: asks it.
    async fn is_beyond_writer(&self, wish: Wish, writer: &Generation, deadline: Instant) -> bool {
        let now = std::time::Instant::now();
        let (config, host) = (self.cluster.config(), writer.host());
        let until = after(Instant::now(), config.pool().consistency_wait).min(deadline);
        let asked = writer.replay().until(config, host, None, until, |seen| {
            seen.is_since(now) && !seen.recovering && seen.timeline == Some(wish.place.timeline)
        });
        let end = asked.await.and_then(|seen| seen.position);
        end.is_some_and(|end| end < wish.place.position)
    }
}

/// When the connection was opened; if nobody has noted it, now.
fn opened<D: Driver>(conn: &D::Conn, generation: &Generation) -> std::time::Instant {
    let noted = D::stamp(conn).map(|stamp| stamp.opened);
    noted
        .or_else(|| generation.last_opened())
        .unwrap_or_else(std::time::Instant::now)
}
