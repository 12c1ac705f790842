//! A page that shows the cluster, and what keeps it up to date.

mod page;
mod record;
mod seats;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    record::{Millis, Record},
    seats::Seats,
};
use super::{Answer, Problem, WebPool};
use crate::{observe::Events, pool::Status};

/// A frame comes at least this often, for what changes without an event.
const EVERY: Duration = Duration::from_secs(1);
/// And at most this often, however much happens.
const AT_MOST_EVERY: Duration = Duration::from_millis(100);
/// How long one stream lasts. The browser asks for the next one by itself, and is looked at again.
const STREAM_LASTS: Duration = Duration::from_secs(600);
/// How many may watch, if nothing else is said.
const WATCHERS: usize = 32;

/// A page that shows the cluster, and the events that keep it up to date: hosts, sub-pools, who was
/// the writer when, transactions and what became of them.
///
/// It only shows. It names hosts, and what they say of themselves, so the web crates show it only to
/// those whom the application [lets](https://docs.rs/leadpool-axum) see it.
///
/// From its making on it records who is the writer, in a task of its own that ends with the last
/// clone; at most 256 changes and 100 events are remembered. Make it once, at the start.
///
/// ```no_run
/// use leadpool::{Pool, web::Dashboard};
///
/// # async fn f(pool: Pool) -> Result<(), leadpool::web::Problem> {
/// let dashboard = Dashboard::new(pool);
/// assert_eq!(dashboard.page().status(), 200);
/// let mut watcher = dashboard.watch()?;
/// while let Some(frame) = watcher.next().await {
///     print!("{frame}"); // of a `text/event-stream`
/// }
/// # Ok(())
/// # }
/// ```
pub struct Dashboard<P> {
    inner: Arc<Inner<P>>,
}

struct Inner<P> {
    shared: Arc<Shared<P>>,
    recorder: JoinHandle<()>,
}

struct Shared<P> {
    pool: P,
    record: Mutex<Record>,
    seats: Arc<Seats>,
    frames: watch::Sender<Arc<str>>,
    /// Somebody has come to watch.
    came: Notify,
}

/// What the page is sent.
#[derive(Serialize)]
struct Frame<'a> {
    at: Millis,
    status: Status,
    #[serde(flatten)]
    record: &'a Record,
}

impl<P: WebPool> Dashboard<P> {
    /// Shows this pool, to 32 at most at a time.
    #[must_use]
    pub fn new(pool: P) -> Self {
        let cluster = pool.cluster().clone();
        let events = cluster.events();
        let topology = cluster.topology();
        let mut record = Record::new(now());
        let term = topology.term.map(|term| term.get());
        record.writer(topology.writer.as_ref(), term, now());
        let shared = Arc::new(Shared {
            pool,
            record: Mutex::new(record),
            seats: Arc::new(Seats::new(WATCHERS)),
            frames: watch::Sender::new("".into()),
            came: Notify::new(),
        });
        // `Inner` owns it, and aborts it. Who makes a dashboard need not be inside of a runtime.
        let recorder = cluster.runtime().spawn(shared.clone().record(events));
        Self {
            inner: Arc::new(Inner { shared, recorder }),
        }
    }

    /// How many may watch at a time; whoever comes then is refused with 503.
    #[must_use]
    pub fn most_watchers(self, most: usize) -> Self {
        self.inner.shared.seats.resize(most);
        self
    }

    /// The page. It asks for `events` below its own path, with its own query.
    #[must_use]
    pub fn page(&self) -> Answer {
        page::page()
    }

    /// What it is answered with whom the application does not let see it.
    #[must_use]
    pub fn forbidden() -> Answer {
        Problem::refused(403, "You may not see this page.").answer()
    }

    /// A stream of frames, which lasts 10 minutes at most, and ends when the service is told to end.
    ///
    /// # Errors
    ///
    /// Too many watch: 503.
    pub fn watch(&self) -> Result<Watcher, Problem> {
        let shared = &self.inner.shared;
        let seat = shared.seats.take().ok_or_else(Problem::crowded)?;
        shared.publish();
        let mut frames = shared.frames.subscribe();
        frames.mark_changed();
        shared.came.notify_one();
        Ok(Watcher {
            seat,
            frames,
            until: Instant::now() + STREAM_LASTS,
            end: shared.pool.cluster().service_end(),
        })
    }
}

impl<P: WebPool> Shared<P> {
    async fn record(self: Arc<Self>, mut events: Events) {
        let (mut last, mut has_changed) = (Instant::now(), false);
        loop {
            let pause = if has_changed { AT_MOST_EVERY } else { EVERY };
            let is_watched = !self.seats.are_empty();
            tokio::select! {
                event = events.next() => {
                    let Some(event) = event else {
                        break;
                    };
                    self.record_mut(|record| record.event(&event, now()));
                    has_changed = true;
                }
                () = sleep_until(last + pause), if is_watched => {
                    self.publish();
                    (last, has_changed) = (Instant::now(), false);
                }
                () = self.came.notified(), if !is_watched => {}
            }
        }
        // The cluster is closed: that is the last thing that can be shown.
        self.publish();
    }

    fn publish(&self) {
        let status = self.pool.status();
        let frame = self.record_mut(|record| {
            serde_json::to_string(&Frame {
                at: now(),
                status,
                record,
            })
        });
        if let Ok(frame) = frame {
            self.frames
                .send_replace(format!("retry: 1000\ndata: {frame}\n\n").into());
        }
    }

    fn record_mut<R>(&self, look: impl FnOnce(&mut Record) -> R) -> R {
        look(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// The stream of one who watches a [`Dashboard`].
///
/// Frames are the newest ones: who is slow misses those between. Who takes none for a minute while
/// others want to watch loses the place to them.
///
/// ```no_run
/// # async fn f(dashboard: leadpool::web::Dashboard<leadpool::Pool>) -> Result<(), leadpool::web::Problem> {
/// let mut watcher = dashboard.watch()?;
/// let first = watcher.next().await; // at once
/// # drop(first);
/// # Ok(())
/// # }
/// ```
pub struct Watcher {
    seat: seats::Seat,
    frames: watch::Receiver<Arc<str>>,
    until: Instant,
    end: CancellationToken,
}

impl Watcher {
    /// The next frame, of a `text/event-stream`
    /// ([HTML, section 9.2](https://html.spec.whatwg.org/multipage/server-sent-events.html));
    /// `None` when the stream has ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        if !self.seat.renew() {
            return None;
        }
        tokio::select! {
            biased;
            () = self.end.cancelled() => None,
            () = sleep_until(self.until) => None,
            changed = self.frames.changed() => {
                changed.ok()?;
                Some(self.frames.borrow_and_update().clone())
            }
        }
    }
}

impl<P> Drop for Inner<P> {
    fn drop(&mut self) {
        self.recorder.abort();
    }
}

impl<P> Clone for Dashboard<P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<P> fmt::Debug for Dashboard<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("seats", &self.inner.shared.seats)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}
