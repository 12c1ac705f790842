//! One generation of a host: its life between two invalidations.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::AbortHandle,
};
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};

use crate::{
    config::Config,
    error::BoxError,
    failover::Report,
    monitor::{Cluster, Pulse, Replay, Reporter},
    observe::Meters,
    topology::HostAddr,
};

/// Its connections are no longer handed out.
const RETIRED: u8 = 1;
/// They are not handed out while a pause lasts.
const PAUSED: u8 = 2;

/// One generation of a host. Everything that was opened under it shares this: when the host is
/// invalidated it ends, for all of them at once, and the next one begins anew.
pub struct Generation {
    host: HostAddr,
    number: u64,
    config: Arc<Config>,
    reporter: Reporter,
    meters: Meters,
    pulse: Arc<Pulse>,
    replay: Arc<Replay>,
    /// What keeps its connections from being handed out. Set first, so that nothing is handed out
    /// any more once the next generation can be seen.
    state: AtomicU8,
    retired: CancellationToken,
    aborted: CancellationToken,
    /// Whether the host is the writer, by the newest topology.
    is_writer: AtomicBool,
    /// Whether it has, as the writer, the connections that it should begin with.
    is_warm: AtomicBool,
    /// When the server was started, by the newest topology; 0 if that is not known.
    started_at: AtomicI64,
    /// The admission cap: how many connections are opened at the same time.
    connects: Semaphore,
    /// The tasks that drive open connections, to abort them with.
    connections: Mutex<Vec<AbortHandle>>,
    /// How often a COMMIT ended its wait for synchronous standbys before they had it.
    unreplicated: AtomicU64,
    /// What adapters do when it is aborted.
    when_aborted: Mutex<Vec<AtAbort>>,
    /// When a connection was last opened.
    opened: Mutex<Option<Instant>>,
    /// Why the last connection could not be opened.
    failure: Mutex<Option<BoxError>>,
    /// Whoever waits for the end of everything that was opened waits for this.
    _alive: TaskTrackerToken,
}

type AtAbort = Box<dyn FnOnce() + Send>;

impl Generation {
    pub(super) fn new(
        cluster: &Cluster,
        host: HostAddr,
        number: u64,
        alive: TaskTrackerToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            connects: Semaphore::new(cluster.config().pool().max_concurrent_connects),
            config: cluster.config_arc(),
            reporter: cluster.reporter(),
            meters: cluster.meters().clone(),
            pulse: cluster.pulse(&host),
            replay: cluster.replay(&host),
            host,
            number,
            state: AtomicU8::new(0),
            retired: CancellationToken::new(),
            aborted: CancellationToken::new(),
            is_writer: AtomicBool::new(false),
            is_warm: AtomicBool::new(false),
            started_at: AtomicI64::new(0),
            connections: Mutex::new(Vec::new()),
            unreplicated: AtomicU64::new(0),
            when_aborted: Mutex::new(Vec::new()),
            opened: Mutex::new(None),
            failure: Mutex::new(None),
            _alive: alive,
        })
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &HostAddr {
        &self.host
    }

    /// The configuration of its cluster.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Feeds the metrics of its cluster.
    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Whether its connections are no longer handed out.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.state.load(Ordering::Acquire) & RETIRED != 0
    }

    /// Whether its connections are handed out.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == 0
    }

    pub(super) fn is_paused(&self) -> bool {
        self.state.load(Ordering::Acquire) & PAUSED != 0
    }

    pub(super) fn set_paused(&self, paused: bool) {
        if paused {
            self.state.fetch_or(PAUSED, Ordering::AcqRel);
        } else {
            self.state.fetch_and(!PAUSED, Ordering::AcqRel);
        }
    }

    /// Returns when its connections are no longer handed out.
    pub async fn retired(&self) {
        self.retired.cancelled().await;
    }

    /// Returns when its connections are aborted.
    pub async fn aborted(&self) {
        self.aborted.cancelled().await;
    }

    /// Whether its connections are aborted.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.aborted.is_cancelled()
    }

    /// First half of retiring: from here on nothing is handed out.
    pub(super) fn mark_retired(&self) {
        self.state.fetch_or(RETIRED, Ordering::AcqRel);
    }

    /// Second half: ends what is being opened.
    pub(super) fn retire(&self) {
        self.mark_retired();
        self.retired.cancel();
    }

    /// Ends what is checked out: queries in flight fail at once. Says how many connections it were.
    pub(super) fn abort(&self) -> usize {
        self.retire();
        self.aborted.cancel();
        let mut open = 0;
        for task in self.lock_connections().drain(..) {
            open += usize::from(!task.is_finished());
            task.abort();
        }
        for act in self.lock_when_aborted().drain(..) {
            act();
        }
        open
    }

    /// Its number: a host counts its generations.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Takes in what the topology says of its host.
    pub(super) fn update(&self, is_writer: bool, started_at: Option<i64>) {
        self.is_writer.store(is_writer, Ordering::Release);
        self.started_at
            .store(started_at.unwrap_or_default(), Ordering::Release);
    }

    /// When the server was started, in microseconds since 1970, by the newest topology: what tells
    /// servers under one name from each other.
    #[must_use]
    pub fn started_at(&self) -> Option<i64> {
        Some(self.started_at.load(Ordering::Acquire)).filter(|at| *at != 0)
    }

    /// Whether a server that was started then is the one that its connections lead to, under
    /// whatever name.
    pub(super) fn leads_to(&self, started_at: Option<i64>) -> bool {
        started_at.is_some_and(|at| at == self.started_at.load(Ordering::Acquire))
    }

    /// Whether the host is the writer, by the newest topology.
    #[inline]
    #[must_use]
    pub fn is_writer(&self) -> bool {
        self.is_writer.load(Ordering::Acquire)
    }

    pub(super) fn is_warm(&self) -> bool {
        self.is_warm.load(Ordering::Acquire)
    }

    /// Says whether that is news.
    pub(super) fn set_warm(&self) -> bool {
        !self.is_warm.swap(true, Ordering::AcqRel)
    }

    /// Waits for the admission to open a connection, oldest first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue.
    pub async fn admission(&self) -> SemaphorePermit<'_> {
        match self.connects.acquire().await {
            Ok(permit) => permit,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Notes that a connection has been opened, before it is handed out. Drivers whose connections
    /// have no [`Stamp`](super::Stamp) must: what was known of the server before may not be true of
    /// it.
    pub fn note_opened(&self) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        *opened = Some(Instant::now());
    }

    /// When a connection was last opened, if ever.
    pub(super) fn last_opened(&self) -> Option<Instant> {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes charge of a connection's task: it is aborted with the generation.
    pub fn own(&self, task: AbortHandle) {
        let mut connections = self.lock_connections();
        if connections.len() == connections.capacity() {
            connections.retain(|task| !task.is_finished());
        }
        connections.push(task);
        // `abort` may have come and gone between the connection's opening and now.
        if self.is_aborted() {
            for task in connections.drain(..) {
                task.abort();
            }
        }
    }

    /// Has something done when its connections are aborted, at once if that has been already; for
    /// drivers whose connections have no task that could be [owned](Self::own). It is called with
    /// locks held, so it must only hand on.
    pub fn when_aborted(&self, act: impl FnOnce() + Send + 'static) {
        let mut all = self.lock_when_aborted();
        all.push(Box::new(act));
        // `abort` may have come and gone.
        if self.is_aborted() {
            for act in all.drain(..) {
                act();
            }
        }
    }

    fn lock_when_aborted(&self) -> std::sync::MutexGuard<'_, Vec<AtAbort>> {
        self.when_aborted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_connections(&self) -> std::sync::MutexGuard<'_, Vec<AbortHandle>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the COMMITs that ended their wait for synchronous standbys early.
    pub(crate) fn unreplicated(&self) -> u64 {
        self.unreplicated.load(Ordering::Acquire)
    }

    pub(crate) fn note_unreplicated(&self) {
        self.unreplicated.fetch_add(1, Ordering::AcqRel);
    }

    /// Where signs of the host's life are noted.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// What is known of how far the host is.
    pub(crate) fn replay(&self) -> &Replay {
        &self.replay
    }

    /// Notes that something has come from the host over one of its connections: it lives.
    pub fn heard(&self) {
        self.pulse.beat();
    }

    /// Whether connections are open.
    pub(super) fn has_connections(&self) -> bool {
        let connections = self.lock_connections();
        connections.iter().any(|task| !task.is_finished())
    }

    /// Tells the monitor what a connection saw. It never waits.
    pub fn report(&self, report: Report) {
        self.reporter.report(&self.host, self.number, report);
    }

    /// Has the host looked at, and waits until that has happened or `limit` has passed.
    pub async fn verify(&self, report: Report, limit: Duration) {
        self.reporter
            .verify(&self.host, self.number, report, limit)
            .await;
    }

    /// Notes why a connection could not be opened, for the error that a checkout may end with.
    pub fn note_failure(&self, failure: impl Into<BoxError>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.into());
    }

    pub(crate) fn take_failure(&self) -> Option<BoxError> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("host", &self.host)
            .field("number", &self.number)
            .field("retired", &self.is_retired())
            .field("aborted", &self.is_aborted())
            .finish_non_exhaustive()
    }
}
