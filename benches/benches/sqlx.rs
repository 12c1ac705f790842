//! leadpool-sqlx beside `sqlx::PgPool`: checkout of an idle connection, a statement on the pool,
//! and a transaction of one statement, on networks of different length.
//!
//! sqlx returns what is dropped in a task that asks the server whether the connection still lives.
//! That is the same for all, and is waited for between the turns, outside of what is measured.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use leadpool_benches::{TimedTurn, in_timed_turns};
use leadpool_testkit::Cluster as Servers;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{runtime::Runtime, task::yield_now};

/// How many connections each pool has, and how often a thing is done in one turn: so there is
/// always an idle one.
const EACH: u32 = 16;
const INSERT: &str = "INSERT INTO t (n) VALUES (1)";

/// The pools, all with the same number of open connections through the same proxy.
struct Rivals {
    leadpool: leadpool_sqlx::Pool,
    /// Asks nothing at checkout.
    bare: PgPool,
    /// As sqlx makes it: each checkout asks the server first.
    default: PgPool,
    _servers: Servers,
}

/// Does something so often and measures it; then waits until all connections are idle again.
macro_rules! turn {
    ($pool:expr, $work:expr) => {{
        let pool = &$pool;
        let turn: TimedTurn<'_> = Box::new(move |times| {
            Box::pin(async move {
                let mut kept = Vec::with_capacity(times as usize);
                let begun = Instant::now();
                for _ in 0..times {
                    kept.push($work(pool).await.unwrap());
                }
                let took = begun.elapsed();
                drop(kept);
                while pool.num_idle() < EACH as usize {
                    yield_now().await;
                }
                took
            })
        });
        turn
    }};
}

/// Opens all of its connections.
macro_rules! open {
    ($pool:expr) => {{
        let pool = &$pool;
        let mut kept = Vec::new();
        for _ in 0..EACH {
            kept.push(pool.acquire().await.unwrap());
        }
        drop(kept);
        while pool.num_idle() < EACH as usize {
            yield_now().await;
        }
    }};
}

impl Rivals {
    /// On a network with this delay each way.
    async fn start(delay: Duration) -> Self {
        let builder = Servers::builder().standbys(0).proxies(!delay.is_zero());
        let servers = builder.start().await.unwrap();
        let admin = servers.connect(0).await.unwrap();
        // What a transaction waits for is the disk: it would hide what is measured here.
        admin
            .batch_execute("ALTER SYSTEM SET synchronous_commit = off")
            .await
            .unwrap();
        admin
            .batch_execute("SELECT pg_reload_conf()")
            .await
            .unwrap();
        admin
            .batch_execute("CREATE TABLE t (id bigserial PRIMARY KEY, n bigint)")
            .await
            .unwrap();
        let url = match servers.proxy(0) {
            Ok(proxy) => {
                proxy.delay(delay, delay);
                servers.proxied_url()
            }
            Err(_) => servers.url(),
        };
        let options = PgPoolOptions::new().max_connections(EACH);
        let rivals = Self {
            leadpool: leadpool_sqlx::PgPoolOptions::new()
                .max_connections(EACH)
                .connect(&url)
                .await
                .unwrap(),
            default: options.clone().connect(&url).await.unwrap(),
            bare: options
                .test_before_acquire(false)
                .connect(&url)
                .await
                .unwrap(),
            _servers: servers,
        };
        open!(rivals.leadpool);
        open!(rivals.default);
        open!(rivals.bare);
        rivals
    }

    /// The first rival of a kind, once more.
    fn first(&self, what: &str) -> (&'static str, TimedTurn<'_>) {
        match what {
            "checkout" => self.checkouts().swap_remove(0),
            "SELECT 1" => self.statements().swap_remove(0),
            _ => self.transactions().swap_remove(0),
        }
    }

    fn checkouts(&self) -> Vec<(&'static str, TimedTurn<'_>)> {
        vec![
            ("PgPool, no test", turn!(self.bare, PgPool::acquire)),
            ("PgPool", turn!(self.default, PgPool::acquire)),
            (
                "leadpool",
                turn!(self.leadpool, leadpool_sqlx::Pool::acquire),
            ),
        ]
    }

    fn statements(&self) -> Vec<(&'static str, TimedTurn<'_>)> {
        macro_rules! statement {
            ($pool:expr) => {
                turn!($pool, |pool| sqlx::query_scalar::<_, i32>("SELECT 1")
                    .fetch_one(pool))
            };
        }
        vec![
            ("PgPool, no test", statement!(self.bare)),
            ("PgPool", statement!(self.default)),
            ("leadpool", statement!(self.leadpool)),
        ]
    }

    fn transactions(&self) -> Vec<(&'static str, TimedTurn<'_>)> {
        vec![
            ("PgPool, no test", turn!(self.bare, by_hand)),
            ("PgPool", turn!(self.default, by_hand)),
            ("run_tx", turn!(self.leadpool, |pool| run_tx(pool, true))),
            (
                "run_tx without evidence",
                turn!(self.leadpool, |pool| run_tx(pool, false)),
            ),
        ]
    }
}

async fn by_hand(pool: &PgPool) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query(INSERT).execute(&mut *tx).await?;
    tx.commit().await
}

async fn run_tx(pool: &leadpool_sqlx::Pool, evidence: bool) -> Result<(), leadpool_sqlx::Error> {
    let tx = pool.tx().evidence(evidence);
    tx.run(|mut tx| async move {
        sqlx::query(INSERT).execute(&mut *tx).await?;
        Ok(())
    })
    .await
}

fn by_turns(_: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        for (delay, turns) in [(0, 1_000), (500, 50), (2_000, 50)] {
            let delay = Duration::from_micros(delay);
            let rivals = Rivals::start(delay).await;
            let kinds = [
                ("checkout", rivals.checkouts()),
                ("SELECT 1", rivals.statements()),
                ("transaction", rivals.transactions()),
            ];
            for (what, mut kind) in kinds {
                // Apart: whose turn came behind its long one would find everything cold.
                let tested = kind.remove(1);
                let with_test = vec![rivals.first(what), tested];
                let what = format!("{what}, {delay:?} each way,");
                in_timed_turns(&what, turns, EACH, &kind).await;
                in_timed_turns(&what, turns.div_ceil(5), EACH, &with_test).await;
            }
        }
    });
}

/// Without delay.
fn one_by_one(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let rivals = runtime.block_on(Rivals::start(Duration::ZERO));
    let kinds = [
        ("sqlx_checkout", rivals.checkouts()),
        ("sqlx_select_1", rivals.statements()),
        ("sqlx_transaction", rivals.transactions()),
    ];
    for (what, turns) in &kinds {
        let mut group = criterion.benchmark_group(*what);
        // Returning takes many times what checkout does, and is not counted.
        group
            .sample_size(20)
            .warm_up_time(Duration::from_millis(50))
            .measurement_time(Duration::from_millis(200));
        for (name, turn) in turns {
            group.bench_function(*name, |bencher| {
                bencher.iter_custom(|times| {
                    runtime.block_on(async {
                        let mut took = Duration::ZERO;
                        let mut left = times;
                        while left > 0 {
                            let now = left.min(u64::from(EACH));
                            took += turn(now as u32).await;
                            left -= now;
                        }
                        took
                    })
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, by_turns, one_by_one);
criterion_main!(benches);
