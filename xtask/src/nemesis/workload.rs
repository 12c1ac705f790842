//! Mixed transactions. Each that writes leaves a row in the journal, with its number and attempt.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use leadpool::{Error, IsolationLevel, Pool, Target, Tx};
use leadpool_testkit::Cluster;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::book::{Book, Place, Told};
use crate::Result;

pub(super) const ACCOUNTS: i32 = 20;
pub(super) const BALANCE: i64 = 1_000;
const COUNTERS: i32 = 4;

const JOURNAL: &str = "\
INSERT INTO journal (id, attempt, kind, a, b, value) VALUES ($1, $2, $3, $4, $5, $6) \
RETURNING pg_walfile_name(pg_current_wal_insert_lsn()), (pg_current_wal_insert_lsn() - '0/0')::bigint";
const PLACE: &str = "SELECT pg_walfile_name(pg_current_wal_insert_lsn()), (pg_current_wal_insert_lsn() - '0/0')::bigint";
const SUMS: &str = "\
SELECT (SELECT sum(balance) FROM accounts)::bigint, (SELECT sum(n) FROM counters)::bigint, \
       (SELECT count(*) FROM journal WHERE kind = 'counter')";

pub(super) async fn prepare(servers: &Cluster) -> Result<()> {
    let client = servers.connect(servers.primary()).await?;
    client
        .batch_execute(&format!(
            "CREATE TABLE journal (id bigint, attempt int, kind text, a int, b int, value bigint); \
             CREATE INDEX ON journal (kind) WHERE kind = 'counter'; \
             CREATE TABLE accounts (id int PRIMARY KEY, balance bigint); \
             INSERT INTO accounts SELECT i, {BALANCE} FROM generate_series(0, {ACCOUNTS} - 1) i; \
             CREATE TABLE counters (id int PRIMARY KEY, n bigint); \
             INSERT INTO counters SELECT i, 0 FROM generate_series(0, {COUNTERS} - 1) i"
        ))
        .await?;
    servers.wait_replayed().await?;
    Ok(())
}

/// What one transaction does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Insert,
    /// From the first account to the second.
    Transfer(i32, i32, i64),
    /// Reads a counter and writes it back, serializable.
    Counter(i32),
}

/// The tasks of a run.
pub(super) struct Workload {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Workload {
    /// Starts `workers` tasks that write and two that read. With `places` each looks, after its
    /// commit, how far the log has come.
    pub(super) fn start(
        pool: &Pool,
        book: &Arc<Book>,
        workers: u32,
        seed: u64,
        places: bool,
    ) -> Self {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let ids = Arc::new(AtomicI64::new(0));
        for worker in 0..workers {
            let worker = Worker {
                pool: pool.clone(),
                book: book.clone(),
                ids: ids.clone(),
                random: fastrand::Rng::with_seed(seed << 16 | u64::from(worker)),
                places,
            };
            tasks.spawn(worker.write(stop.subscribe()));
        }
        for _ in 0..2 {
            tasks.spawn(read(pool.clone(), book.clone(), stop.subscribe()));
        }
        Self { tasks, stop }
    }

    /// Lets each transaction come to its end.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.stop.send_replace(true);
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended?;
            }
            Ok(())
        };
        timeout(Duration::from_secs(90), all)
            .await
            .map_err(|_| "a transaction went on beyond its deadline")?
    }
}

struct Worker {
    pool: Pool,
    book: Arc<Book>,
    ids: Arc<AtomicI64>,
    random: fastrand::Rng,
    places: bool,
}

impl Worker {
    async fn write(mut self, stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let kind = match self.random.u32(0..10) {
                0..4 => Kind::Insert,
                4..8 => {
                    let from = self.random.i32(0..ACCOUNTS);
                    let to = (from + self.random.i32(1..ACCOUNTS)) % ACCOUNTS;
                    Kind::Transfer(from, to, self.random.i64(1..100))
                }
                _ => Kind::Counter(self.random.i32(0..COUNTERS)),
            };
            let id = self.ids.fetch_add(1, Ordering::Relaxed);
            let told = self.transaction(id, kind).await;
            self.book.tell(id, told);
            let pause = self.random.u64(500..8_000);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
    }

    async fn transaction(&self, id: i64, kind: Kind) -> Told {
        let attempt = Arc::new(AtomicU32::new(0));
        let (number, book) = (attempt.clone(), self.book.clone());
        let mut tx = self
            .pool
            .tx()
            .on_attempt(move |begun| number.store(begun.attempt, Ordering::Relaxed))
            .on_resolved(move |resolved| book.find(id, resolved.attempt, resolved.outcome));
        if matches!(kind, Kind::Counter(_)) {
            tx = tx.isolation(IsolationLevel::Serializable);
        }
        let number = &attempt;
        let result = tx
            .run(|tx| async move {
                let attempt = number.load(Ordering::Relaxed);
                let place = act(&tx, id, attempt, kind).await?;
                Ok((attempt, place))
            })
            .await;
        match result {
            Ok((attempt, mut place)) => {
                if self.places {
                    place.before = self.end_of_log(place.timeline).await;
                }
                Told::Acknowledged { attempt, place }
            }
            Err(Error::Unknown(in_doubt)) => {
                Told::Unknown(in_doubt.evidence.clone().map(Box::new), in_doubt.doubt)
            }
            Err(Error::NotReplicated { .. }) => Told::NotReplicated,
            Err(error) => Told::Refused(error.to_string()),
        }
    }

    /// How far the log has come, if the writer is of the same history.
    async fn end_of_log(&self, timeline: u32) -> Option<u64> {
        let limit = Duration::from_millis(200);
        let asking = async {
            let client = self.pool.timeout_get(Target::Primary, limit).await.ok()?;
            let place = client.prepare_cached(PLACE).await.ok()?;
            read_place(&client.query_one(&place, &[]).await.ok()?)
        };
        let place = timeout(limit, asking).await.ok()??;
        (place.timeline == timeline).then_some(place.after)
    }
}

fn read_place(row: &tokio_postgres::Row) -> Option<Place> {
    let file: &str = row.get(0);
    Some(Place {
        timeline: u32::from_str_radix(file.get(..8)?, 16).ok()?,
        after: u64::try_from(row.get::<_, i64>(1)).ok()?,
        before: None,
    })
}

async fn act(tx: &Tx, id: i64, attempt: u32, kind: Kind) -> std::result::Result<Place, Error> {
    let journal = tx.prepare_cached(JOURNAL).await?;
    let attempt = i32::try_from(attempt).unwrap_or(i32::MAX);
    let (name, a, b, value) = match kind {
        Kind::Insert => ("insert", 0, 0, 0),
        Kind::Transfer(from, to, amount) => {
            let sql = "UPDATE accounts SET balance = balance + $2 WHERE id = $1";
            let change = tx.prepare_cached(sql).await?;
            tx.execute(&change, &[&from, &-amount]).await?;
            tx.execute(&change, &[&to, &amount]).await?;
            ("transfer", from, to, amount)
        }
        Kind::Counter(counter) => {
            let sql = "SELECT n FROM counters WHERE id = $1";
            let read = tx.prepare_cached(sql).await?;
            let n: i64 = tx.query_one(&read, &[&counter]).await?.get(0);
            let sql = "UPDATE counters SET n = $2 WHERE id = $1";
            let write = tx.prepare_cached(sql).await?;
            tx.execute(&write, &[&counter, &(n + 1)]).await?;
            ("counter", counter, 0, n + 1)
        }
    };
    let row = tx
        .query_one(&journal, &[&id, &attempt, &name, &a, &b, &value])
        .await?;
    read_place(&row).ok_or_else(|| Error::user("the server says no position"))
}

/// Sums must hold in every snapshot, on every host.
async fn read(pool: Pool, book: Arc<Book>, stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let sums = pool
            .tx()
            .reader()
            .isolation(IsolationLevel::RepeatableRead)
            .run(|tx| async move {
                let sums = tx.prepare_cached(SUMS).await?;
                let row = tx.query_one(&sums, &[]).await?;
                let number = |column| row.get::<_, i64>(column);
                Ok((number(0), number(1), number(2)))
            })
            .await;
        match sums {
            Ok((balance, counted, counters)) => {
                book.pages().reads += 1;
                if balance != i64::from(ACCOUNTS) * BALANCE || counted != counters {
                    let text = format!("balance {balance}, counted {counted}, rows {counters}");
                    book.pages().bad_reads.push(text);
                }
            }
            // A standby may end a query, and a deadline may pass; it was told.
            Err(error) if error.is_transient() => {}
            Err(error) => book.pages().bad_reads.push(error.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
