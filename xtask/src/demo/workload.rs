//! The application: tasks that write and read through a pool, and note what they were told.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};

use super::book::{Book, Told, Waits};
use crate::{Result, servers::Stack};

/// What a worker writes, for its number and that of the entry; answered with the server.
pub(super) const INSERT: &str = "INSERT INTO ledger (worker, entry) VALUES ($1, $2) RETURNING host(inet_server_addr()) || ':' || inet_server_port()";
/// What a reader asks, of a worker and from an entry on.
pub(super) const READ: &str = "SELECT count(*) FROM ledger WHERE worker = $1 AND entry > $2";

/// How the application works on one kind of pool.
pub(super) trait App: Clone + Send + Sync + 'static {
    const NAME: &'static str;

    /// Makes the pool.
    fn connect(servers: &Stack) -> impl Future<Output = Result<Self>>;
    /// One transaction that inserts one entry.
    fn write(&self, worker: i32, entry: i64) -> impl Future<Output = Told> + Send;
    /// One question.
    fn read(&self) -> impl Future<Output = std::result::Result<(), String>> + Send;
    /// Closes the pool; a second or so is enough.
    fn close(self) -> impl Future<Output = ()>;
}

/// An application at work.
pub(super) struct Workload<A> {
    app: A,
    book: Arc<Book>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl<A: App> Workload<A> {
    /// Starts tasks that write and read until they are stopped.
    pub(super) fn start(app: A, workers: u32, readers: u32, seed: u64) -> Self {
        let stop = watch::Sender::new(false);
        let book = Arc::new(Book::default());
        let mut tasks = JoinSet::new();
        for worker in 0..workers {
            let (stopped, app, book) = (stop.subscribe(), app.clone(), book.clone());
            let mut pauses = Pauses::new(seed, worker);
            let worker = i32::try_from(worker).unwrap_or(i32::MAX);
            tasks.spawn(async move {
                let mut entry = 0;
                while !*stopped.borrow() {
                    entry += 1;
                    book.attempted.fetch_add(1, Ordering::Relaxed);
                    let begun = Instant::now();
                    let waits = Waits::new(&book.waiting);
                    let told = app.write(worker, entry).await;
                    drop(waits);
                    book.enter(worker, entry, begun, told);
                    pauses.pause().await;
                }
            });
        }
        for reader in 0..readers {
            let (stopped, app, book) = (stop.subscribe(), app.clone(), book.clone());
            let mut pauses = Pauses::new(seed, workers + reader);
            tasks.spawn(async move {
                while !*stopped.borrow() {
                    book.read(app.read().await);
                    pauses.pause().await;
                }
            });
        }
        Self {
            app,
            book,
            tasks,
            stop,
        }
    }

    pub(super) fn book(&self) -> Arc<Book> {
        self.book.clone()
    }

    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // A pool without timeouts may hang for ever.
        let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
        drop(self.tasks);
        self.app.close().await;
    }
}

/// Pauses between transactions, the same for the same seed (SplitMix64).
struct Pauses(u64);

impl Pauses {
    fn new(seed: u64, task: u32) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(task) << 32)
    }

    async fn pause(&mut self) {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        tokio::time::sleep(Duration::from_micros(5_000 + (z ^ (z >> 31)) % 10_000)).await;
    }
}
