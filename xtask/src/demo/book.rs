//! What the workers were told, to be compared with what is in the table.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// What the workers were told.
#[derive(Default)]
pub(super) struct Book {
    state: Mutex<State>,
    pub(super) attempted: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) waiting: AtomicUsize,
}

#[derive(Default)]
struct State {
    acknowledged: Vec<(i32, i64)>,
    unknown: u64,
    errors: u64,
    /// The first few, for a person to read.
    error_texts: Vec<String>,
    last_writer: Option<String>,
    last_ack: Option<Instant>,
    longest_outage: Duration,
    marked: Marked,
}

/// What happened since the last mark.
#[derive(Default)]
struct Marked {
    /// When which server acknowledged, in order of time.
    acks: Vec<Ack>,
    longest: Duration,
}

struct Ack {
    at: Instant,
    server: String,
    /// When the server had answered the write itself.
    written: Instant,
}

/// What the book says of one fault.
pub(super) struct Seen {
    pub(super) first_ack: Option<Duration>,
    pub(super) longest: Duration,
    pub(super) stale_acks: usize,
}

/// A summary.
pub(super) struct Totals {
    pub(super) acknowledged: Vec<(i32, i64)>,
    pub(super) unknown: u64,
    pub(super) errors: u64,
    pub(super) error_texts: Vec<String>,
    pub(super) longest_outage: Duration,
}

/// What became of one transaction, as far as the application was told.
pub(super) enum Told {
    /// By which server, and when it had answered the write itself.
    Acknowledged {
        server: String,
        written: Instant,
    },
    Unknown,
    Error(String),
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, worker: i32, entry: i64, begun: Instant, told: Told) {
        let now = Instant::now();
        let mut state = self.lock();
        state.marked.longest = state.marked.longest.max(now - begun);
        match told {
            Told::Acknowledged { server, written } => {
                state.acknowledged.push((worker, entry));
                state.marked.acks.push(Ack {
                    at: now,
                    server: server.clone(),
                    written,
                });
                state.last_writer = Some(server);
                if let Some(last) = state.last_ack.replace(now) {
                    state.longest_outage = state.longest_outage.max(now - last);
                }
            }
            Told::Unknown => state.unknown += 1,
            Told::Error(text) => state.error(text),
        }
    }

    /// Forgets what was marked before.
    pub(super) fn mark(&self) {
        self.lock().marked = Marked::default();
    }

    pub(super) fn since_mark(
        &self,
        old: SocketAddr,
        new: SocketAddr,
        accepted_at: Instant,
    ) -> Seen {
        let (old, new) = (old.to_string(), new.to_string());
        let state = self.lock();
        let acks = &state.marked.acks;
        let first = acks.iter().find(|ack| ack.server == new);
        let first = first.map(|ack| ack.at);
        let stale = acks
            .iter()
            .filter(|ack| ack.server == old && ack.written > accepted_at)
            .count();
        Seen {
            first_ack: first.map(|first| first.saturating_duration_since(accepted_at)),
            longest: state.marked.longest,
            stale_acks: stale,
        }
    }

    /// What the live line shows.
    pub(super) fn progress(&self) -> String {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let state = self.lock();
        format!(
            "writer {} | {} written, {} unknown, {} errors | {waiting} in a transaction",
            state.last_writer.as_deref().unwrap_or("-"),
            state.acknowledged.len(),
            state.unknown,
            state.errors
        )
    }

    pub(super) fn totals(&self) -> Totals {
        let state = self.lock();
        Totals {
            acknowledged: state.acknowledged.clone(),
            unknown: state.unknown,
            errors: state.errors,
            error_texts: state.error_texts.clone(),
            // One that lasts until the end counts too.
            longest_outage: state.last_ack.map_or(state.longest_outage, |last| {
                state.longest_outage.max(last.elapsed())
            }),
        }
    }

    pub(super) fn read(&self, result: std::result::Result<(), String>) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if let Err(text) = result {
            self.lock().error(text);
        }
    }
}

impl State {
    fn error(&mut self, text: String) {
        self.errors += 1;
        if self.error_texts.len() < 5 && !self.error_texts.contains(&text) {
            self.error_texts.push(text);
        }
    }
}

/// Counts a task as waiting while it lives.
pub(super) struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    pub(super) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
