//! The application: tasks that write and read, and a book of what they were told.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use leadpool::{Error, Target, discovery::patroni::Patroni};
use tokio::{sync::watch, task::JoinSet};
use tokio_postgres::NoTls;

use super::stack::Stack;
use crate::Result;

const INSERT: &str = "INSERT INTO ledger (worker, entry) VALUES ($1, $2) RETURNING host(inet_server_addr()) || ':' || inet_server_port()";
const READ: &str = "SELECT count(*) FROM ledger WHERE worker = $1 AND entry > $2";

/// Something that runs the workers on some pool.
pub(super) trait Workload: Sized {
    const NAME: &'static str;

    async fn start(servers: &Stack, workers: u32, readers: u32, seed: u64) -> Result<Self>;
    fn book(&self) -> Arc<Book>;
    async fn stop(self);
}

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

enum Told {
    Acknowledged { server: String, written: Instant },
    Unknown,
    Error(String),
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, worker: i32, entry: i64, begun: Instant, told: Told) {
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

    /// What the live line shows: acknowledged, errors, server of the last write.
    pub(super) fn glance(&self) -> (usize, u64, u64, Option<String>) {
        let state = self.lock();
        (
            state.acknowledged.len(),
            state.unknown,
            state.errors,
            state.last_writer.clone(),
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

    fn read(&self, result: std::result::Result<(), String>) {
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
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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

/// The tasks of a run.
struct Tasks {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Tasks {
    /// Starts tasks that repeat `work` with growing numbers until they are stopped.
    fn start<Fut>(
        workers: u32,
        readers: u32,
        seed: u64,
        write: impl Fn(i32, i64) -> Fut + Clone + Send + Sync + 'static,
        read: impl AsyncTask,
    ) -> Self
    where
        Fut: Future<Output = ()> + Send,
    {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for worker in 0..workers {
            let (stopped, write) = (stop.subscribe(), write.clone());
            tasks.spawn(async move {
                let mut pauses = Pauses::new(seed, worker);
                let mut entry = 0;
                while !*stopped.borrow() {
                    entry += 1;
                    write(i32::try_from(worker).unwrap_or(i32::MAX), entry).await;
                    pauses.pause().await;
                }
            });
        }
        for reader in 0..readers {
            let (stopped, read) = (stop.subscribe(), read.clone());
            tasks.spawn(async move {
                let mut pauses = Pauses::new(seed, workers + reader);
                while !*stopped.borrow() {
                    read.call().await;
                    pauses.pause().await;
                }
            });
        }
        Self { tasks, stop }
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // A pool without timeouts may hang for ever.
        let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
    }
}

/// A reader's work.
trait AsyncTask: Clone + Send + Sync + 'static {
    fn call(&self) -> impl Future<Output = ()> + Send;
}

/// On leadpool: `run_tx` on the writer, read-only transactions on the standbys.
pub(super) struct Leadpool {
    book: Arc<Book>,
    tasks: Tasks,
    pool: leadpool::Pool,
}

#[derive(Clone)]
struct LeadpoolReads(leadpool::Pool, Arc<Book>);

impl AsyncTask for LeadpoolReads {
    async fn call(&self) {
        let Self(pool, book) = self;
        let read = pool.tx().target(Target::PreferStandby).read_only(true);
        let result = read
            .run(|tx| async move {
                let statement = tx.prepare_cached(READ).await?;
                tx.query_one(&statement, &[&0_i32, &10_i64]).await?;
                Ok(())
            })
            .await;
        book.read(result.map_err(|error| error.to_string()));
    }
}

impl Workload for Leadpool {
    const NAME: &'static str = "leadpool";

    async fn start(servers: &Stack, workers: u32, readers: u32, seed: u64) -> Result<Self> {
        let (url, rest) = servers.urls();
        let pool = match rest.is_empty() {
            true => leadpool::Pool::connect(&url).await?,
            false => {
                leadpool::Pool::builder(&url)
                    .discovery(Patroni::new(rest)?)
                    .build()
                    .await?
            }
        };
        let book = Arc::new(Book::default());
        let (writes, noted) = (pool.clone(), book.clone());
        let write = move |worker: i32, entry: i64| {
            let (pool, book) = (writes.clone(), noted.clone());
            async move {
                book.attempted.fetch_add(1, Ordering::Relaxed);
                let begun = Instant::now();
                let waits = Waits::new(&book.waiting);
                let result = pool
                    .run_tx(|tx| async move {
                        let insert = tx.prepare_cached(INSERT).await?;
                        let row = tx.query_one(&insert, &[&worker, &entry]).await?;
                        Ok((row.get(0), Instant::now()))
                    })
                    .await;
                drop(waits);
                let told = match result {
                    Ok((server, written)) => Told::Acknowledged { server, written },
                    Err(Error::Unknown(_)) => Told::Unknown,
                    Err(error) => Told::Error(error.to_string()),
                };
                book.enter(worker, entry, begun, told);
            }
        };
        let reads = LeadpoolReads(pool.clone(), book.clone());
        let tasks = Tasks::start(workers, readers, seed, write, reads);
        Ok(Self { book, tasks, pool })
    }

    fn book(&self) -> Arc<Book> {
        self.book.clone()
    }

    async fn stop(self) {
        self.tasks.stop().await;
        self.pool.close(Duration::from_secs(1)).await;
    }
}

/// On a plain deadpool-postgres pool with a multi-host URL.
pub(super) struct Plain {
    book: Arc<Book>,
    tasks: Tasks,
}

#[derive(Clone)]
struct PlainReads(deadpool_postgres::Pool, Arc<Book>);

impl AsyncTask for PlainReads {
    async fn call(&self) {
        let Self(pool, book) = self;
        let result = async {
            let client = pool.get().await.map_err(|error| error.to_string())?;
            let read = async {
                let statement = client.prepare_cached(READ).await?;
                client.query_one(&statement, &[&0_i32, &10_i64]).await
            };
            read.await
                .map_err(|error: tokio_postgres::Error| error.to_string())?;
            Ok(())
        };
        book.read(result.await);
    }
}

fn plain_pool(url: &str, attrs: &str) -> Result<deadpool_postgres::Pool> {
    let config = format!("{url}?target_session_attrs={attrs}").parse()?;
    let recycling_method = RecyclingMethod::Fast;
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
    Ok(deadpool_postgres::Pool::builder(manager)
        .max_size(16)
        .build()?)
}

impl Workload for Plain {
    const NAME: &'static str = "deadpool-postgres";

    async fn start(servers: &Stack, workers: u32, readers: u32, seed: u64) -> Result<Self> {
        let (url, _) = servers.urls();
        let pool = plain_pool(&url, "read-write")?;
        let reads = plain_pool(&url, "any")?;
        let book = Arc::new(Book::default());
        let noted = book.clone();
        let write = move |worker: i32, entry: i64| {
            let (pool, book) = (pool.clone(), noted.clone());
            async move {
                book.attempted.fetch_add(1, Ordering::Relaxed);
                let begun = Instant::now();
                let waits = Waits::new(&book.waiting);
                let result = async {
                    let mut client = pool.get().await.map_err(|error| error.to_string())?;
                    let insert = async {
                        let tx = client.transaction().await?;
                        let insert = tx.prepare_cached(INSERT).await?;
                        let server: String =
                            tx.query_one(&insert, &[&worker, &entry]).await?.get(0);
                        let written = Instant::now();
                        tx.commit().await?;
                        Ok::<_, tokio_postgres::Error>((server, written))
                    };
                    insert.await.map_err(|error| error.to_string())
                };
                let told = match result.await {
                    Ok((server, written)) => Told::Acknowledged { server, written },
                    Err(error) => Told::Error(error),
                };
                drop(waits);
                book.enter(worker, entry, begun, told);
            }
        };
        let tasks = Tasks::start(
            workers,
            readers,
            seed,
            write,
            PlainReads(reads, book.clone()),
        );
        Ok(Self { book, tasks })
    }

    fn book(&self) -> Arc<Book> {
        self.book.clone()
    }

    async fn stop(self) {
        self.tasks.stop().await;
    }
}
