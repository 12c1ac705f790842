//! How far one host is, and waiting for it to be further.
//!
//! Whoever waits needs the same answer, so one asks for all, over one connection of the monitor's
//! kind: the first to come has the turn, the others watch what is seen. Nothing runs while nobody
//! waits. Probes, which come anyway, are taken in too.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{Semaphore, watch},
    time::{sleep, sleep_until, timeout_at},
};

use super::watch::{Question, Watch};
use crate::{
    config::Config,
    consistency::Place,
    failover::Answer,
    topology::{HostAddr, Lsn},
};

/// The pauses between questions, each twice the one before: the answer is had in twice the time
/// that it takes, at most, and with few questions.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(8);
/// After a wait in vain one tries again after each such time, and nobody else waits.
const REST: Duration = Duration::from_millis(100);
/// For how long it is of use how long a wait took.
const LATELY: Duration = Duration::from_secs(1);

/// What a host last said of its position.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// When it was asked, at the latest: what it said was true after that.
    pub(crate) asked_at: Option<Instant>,
    pub(crate) recovering: bool,
    /// Up to where a standby has replayed, or where a primary would insert.
    pub(crate) position: Option<Lsn>,
    /// The timeline that a primary writes, or that a standby has shown to have come to.
    pub(crate) timeline: Option<u32>,
    /// Which server it was.
    pub(crate) started_at: Option<i64>,
    pub(crate) system_identifier: Option<u64>,
}

impl Seen {
    /// Whether it was asked after that moment.
    pub(crate) fn is_since(&self, moment: Instant) -> bool {
        self.asked_at.is_some_and(|at| at >= moment)
    }

    /// Whether it was a standby that has what is at a place, as [`Place::is_had`].
    pub(crate) fn has(&self, place: Place, now: Option<u32>) -> bool {
        self.recovering && place.is_had(self.position, self.timeline, now)
    }
}

/// What is known of one host's position, and who waits for more.
#[derive(Default)]
pub(crate) struct Replay {
    state: Mutex<State>,
    /// Counts what is seen, for those who wait.
    changed: watch::Sender<u64>,
    /// Who asks.
    turn: Turn,
    /// Taken out while it is used: a question that was dropped takes it along.
    session: Mutex<Option<Watch>>,
}

/// Held by the one who asks for all.
struct Turn(Semaphore);

impl Default for Turn {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

#[derive(Default)]
struct State {
    seen: Seen,
    /// What is waited for.
    wanted: BTreeMap<Lsn, usize>,
    /// What was waited for in vain, and when one should try again.
    missed: Option<(Place, Instant)>,
    /// How long the last question took.
    took: Duration,
    /// How long was last waited for it, and when.
    pace: Option<(Duration, Instant)>,
}

impl Replay {
    pub(crate) fn seen(&self) -> Seen {
        self.lock().seen
    }

    /// Takes in the answer to a probe.
    pub(super) fn probed(&self, asked_at: Instant, answer: &Answer) {
        self.note(asked_at, answer, None);
        // Its name may lead elsewhere by now; and if nobody needs it, it is closed.
        let mut session = self.lock_session();
        if session.as_ref().is_some_and(Watch::is_old) {
            *session = None;
        }
    }

    fn note(&self, asked_at: Instant, answer: &Answer, shown: Option<u32>) {
        let mut state = self.lock();
        let before = state.seen;
        if before.asked_at.is_some_and(|at| at > asked_at) {
            return;
        }
        // Within one life what a standby has come to stays behind it.
        let is_same = before.recovering && before.started_at == answer.started_at;
        let timeline = match answer.recovering {
            true => shown.max(before.timeline.filter(|_| is_same)),
            false => answer.term.and_then(|term| u32::try_from(term.get()).ok()),
        };
        state.seen = Seen {
            asked_at: Some(asked_at),
            recovering: answer.recovering,
            position: answer.position,
            timeline,
            started_at: answer.started_at,
            system_identifier: answer.system_identifier,
        };
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Whether another has waited in vain for this or less, and it is not time to try again.
    pub(crate) fn is_hopeless(&self, place: Place, now: Option<u32>) -> bool {
        let mut state = self.lock();
        let Some((missed, again)) = state.missed else {
            return false;
        };
        if state.seen.has(missed, now) {
            state.missed = None;
            return false;
        }
        if Instant::now() >= again {
            return false;
        }
        place.timeline > missed.timeline
            || (place.timeline == missed.timeline && place.position >= missed.position)
    }

    /// Somebody waits: after a wait in vain, one for all.
    pub(crate) fn tried(&self) {
        if let Some((_, again)) = &mut self.lock().missed {
            *again = Instant::now() + REST;
        }
    }

    /// How long a wait for it takes, as far as that is known: zero if nobody has waited lately.
    pub(crate) fn expected(&self) -> Duration {
        match self.lock().pace {
            Some((took, at)) if at.elapsed() < LATELY => took,
            _ => Duration::ZERO,
        }
    }

    /// Tells others how long a wait took.
    pub(crate) fn waited(&self, took: Duration) {
        self.lock().pace = Some((took, Instant::now()));
    }

    /// Spares others the wait that was in vain.
    pub(crate) fn missed(&self, place: Place) {
        self.lock().missed = Some((place, Instant::now() + REST));
    }

    /// Waits until what is seen `holds`, and has the host asked meanwhile; `None` if it does not
    /// until the deadline, or can't be asked. `place` is what it is hoped to have.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets another one ask. A question in flight is lost with its connection.
    pub(crate) async fn until(
        &self,
        config: &Config,
        host: &HostAddr,
        place: Option<Place>,
        deadline: tokio::time::Instant,
        holds: impl Fn(&Seen) -> bool,
    ) -> Option<Seen> {
        let found = || Some(self.seen()).filter(&holds);
        let _wanted = place.map(|place| Wanted::new(self, place.position));
        let mut changed = self.changed.subscribe();
        let _turn = loop {
            changed.borrow_and_update();
            if let Some(seen) = found() {
                return Some(seen);
            }
            tokio::select! {
                biased;
                // The semaphore is never closed.
                turn = self.turn.0.acquire() => break turn.ok()?,
                _ = changed.changed() => {}
                () = sleep_until(deadline) => return None,
            }
        };
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(seen) = found() {
                return Some(seen);
            }
            // Cut off in the middle it would cost a connection.
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left <= self.lock().took.saturating_mul(2) {
                return found();
            }
            // Every checkout has this in its type, and compilers look only so deep for what an
            // application's future holds. It ends here, where a question to a server is asked.
            let asking: BoxFuture<'_, bool> = Box::pin(self.ask(config, host, place, left));
            if !matches!(timeout_at(deadline, asking).await, Ok(true)) {
                return found();
            }
            if let Some(seen) = found() {
                return Some(seen);
            }
            changed.borrow_and_update();
            tokio::select! {
                () = sleep(pause) => {}
                _ = changed.changed() => {}
                () = sleep_until(deadline) => return None,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks once; whether there was an answer. An open connection may have ended unnoticed, so
    /// that it alone proves nothing.
    async fn ask(
        &self,
        config: &Config,
        host: &HostAddr,
        place: Option<Place>,
        left: Duration,
    ) -> bool {
        let open = self.lock_session().take().filter(|watch| !watch.is_old());
        if let Some(watch) = open {
            if self.ask_over(watch, place, left).await {
                return true;
            }
        }
        let limit = config.pool().connect_timeout.min(left);
        match Watch::open(config, host, limit).await {
            Ok(watch) => self.ask_over(watch, place, left).await,
            Err(_) => false,
        }
    }

    async fn ask_over(&self, mut watch: Watch, place: Option<Place>, left: Duration) -> bool {
        let seen = self.seen();
        let mut question = Question::of(place, seen.timeline);
        if watch.waits() && seen.recovering {
            // It must have answered when the time is up.
            let most = left.mul_f64(0.75);
            question.wait = self.next_wanted(seen.position).map(|next| (next, most));
        }
        let begun = Instant::now();
        let Ok(said) = watch.ask(question).await else {
            return false;
        };
        if question.wait.is_none() {
            self.lock().took = begun.elapsed();
        }
        *self.lock_session() = Some(watch);
        self.note(said.asked_at, &said.answer, said.shown);
        true
    }

    /// The first position beyond `position` that somebody waits for.
    fn next_wanted(&self, position: Option<Lsn>) -> Option<Lsn> {
        let state = self.lock();
        let mut wanted = state.wanted.keys();
        wanted.find(|next| Some(**next) > position).copied()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_session(&self) -> MutexGuard<'_, Option<Watch>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A position that somebody waits for.
struct Wanted<'a> {
    replay: &'a Replay,
    position: Lsn,
}

impl<'a> Wanted<'a> {
    fn new(replay: &'a Replay, position: Lsn) -> Self {
        *replay.lock().wanted.entry(position).or_default() += 1;
        Self { replay, position }
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let mut state = self.replay.lock();
        if let Some(count) = state.wanted.get_mut(&self.position) {
            *count -= 1;
            if *count == 0 {
                state.wanted.remove(&self.position);
            }
        }
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("seen", &self.seen())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standby(position: u64, started_at: i64) -> Answer {
        Answer {
            position: Some(Lsn::new(position)),
            started_at: Some(started_at),
            ..Answer::standby()
        }
    }

    fn place(timeline: u32, position: u64) -> Place {
        Place {
            timeline,
            position: Lsn::new(position),
        }
    }

    #[test]
    fn the_newest_word_counts_also_if_it_is_less() {
        let replay = Replay::default();
        let first = Instant::now();
        let later = first + Duration::from_millis(1);
        replay.note(later, &standby(100, 1), Some(2));
        replay.note(first, &standby(90, 1), None);
        assert!(replay.seen().has(place(2, 100), Some(2)));
        assert!(replay.seen().is_since(later));
        // It crashed, and has come back to less.
        replay.note(later, &standby(50, 1), None);
        assert!(!replay.seen().has(place(2, 100), Some(2)));
        assert!(replay.seen().has(place(2, 50), Some(2)));
        // Another server, of which nothing else is known.
        replay.note(later, &standby(500, 2), None);
        assert!(!replay.seen().has(place(2, 50), Some(2)));
        assert!(replay.seen().has(place(1, 50), Some(2)));
        let promoted = Answer::primary(crate::topology::Term::from_timeline(3));
        replay.note(later, &promoted, None);
        assert_eq!(replay.seen().timeline, Some(3));
        assert!(!replay.seen().has(place(1, 1), Some(3)));
    }

    #[test]
    fn what_was_missed_is_not_waited_for_until_it_is_there() {
        let replay = Replay::default();
        let now = Instant::now();
        replay.note(now, &standby(50, 1), None);
        assert!(!replay.is_hopeless(place(1, 100), Some(1)));
        replay.missed(place(1, 100));
        assert!(replay.is_hopeless(place(1, 100), Some(1)));
        assert!(replay.is_hopeless(place(2, 1), Some(2)));
        assert!(!replay.is_hopeless(place(1, 99), Some(1)));
        // One tries again, for all.
        replay.lock().missed = Some((place(1, 100), now));
        assert!(!replay.is_hopeless(place(1, 100), Some(1)));
        replay.tried();
        assert!(replay.is_hopeless(place(1, 100), Some(1)));
        replay.note(now, &standby(100, 1), None);
        assert!(!replay.is_hopeless(place(1, 500), Some(1)));
    }

    #[test]
    fn what_a_wait_took_is_told_to_others() {
        let replay = Replay::default();
        assert_eq!(replay.expected(), Duration::ZERO);
        let took = Duration::from_millis(50);
        replay.waited(took);
        assert_eq!(replay.expected(), took);
        replay.lock().pace = Instant::now().checked_sub(LATELY).map(|at| (took, at));
        assert_eq!(replay.expected(), Duration::ZERO);
    }

    #[test]
    fn who_waits_for_the_least_is_served_first() {
        let replay = Replay::default();
        let lsn = |bytes| Some(Lsn::new(bytes));
        let far = Wanted::new(&replay, Lsn::new(9));
        let near = Wanted::new(&replay, Lsn::new(5));
        let same = Wanted::new(&replay, Lsn::new(5));
        assert_eq!(replay.next_wanted(None), lsn(5));
        drop(near);
        assert_eq!(replay.next_wanted(lsn(4)), lsn(5));
        assert_eq!(replay.next_wanted(lsn(5)), lsn(9));
        drop(same);
        assert_eq!(replay.next_wanted(None), lsn(9));
        drop(far);
        assert_eq!(replay.next_wanted(None), None);
    }
}
