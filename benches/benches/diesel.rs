//! leadpool-diesel beside diesel-async's own deadpool: checkout of an idle connection, a statement,
//! and a transaction of one statement, on networks of different length.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use diesel::{QueryResult, prelude::*};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool::Pool,
    },
};
use leadpool_benches::{TimedTurn, in_timed_turns};
use leadpool_testkit::Cluster as Servers;
use tokio::runtime::Runtime;

use self::schema::t;

mod schema {
    diesel::table! {
        t (id) {
            id -> BigInt,
            n -> BigInt,
        }
    }
}

/// How many connections each pool may have.
const SIZE: usize = 16;

/// The pools, all through the same proxy.
struct Rivals {
    leadpool: leadpool_diesel::Pool,
    /// Asks nothing at checkout.
    fast: Pool<AsyncPgConnection>,
    /// As diesel-async makes it: each checkout asks the server first.
    default: Pool<AsyncPgConnection>,
    servers: Servers,
}

/// So many times, one after the other; says how long it took.
macro_rules! turn {
    ($pool:expr, $work:expr) => {{
        let pool = &$pool;
        let turn: TimedTurn<'_> = Box::new(move |times| {
            Box::pin(async move {
                let begun = Instant::now();
                for _ in 0..times {
                    $work(pool).await;
                }
                begun.elapsed()
            })
        });
        turn
    }};
}

/// A checkout, and what is done with the connection.
macro_rules! with {
    ($pool:expr, $work:expr) => {
        turn!($pool, async |pool| {
            let mut conn: Object = Gets::take(pool).await;
            $work(&mut conn).await.unwrap();
        })
    };
}

type Object = diesel_async::pooled_connection::deadpool::Object<AsyncPgConnection>;

trait Gets {
    fn take(&self) -> impl Future<Output = Object>;
}

impl Gets for Pool<AsyncPgConnection> {
    async fn take(&self) -> Object {
        self.get().await.unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Gets for leadpool_diesel::Pool {
    async fn take(&self) -> Object {
        self.get().await.unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Rivals {
    async fn start() -> Self {
        let builder = Servers::builder().standbys(0).proxies(true);
        let servers = builder.start().await.unwrap();
        let admin = servers.connect(0).await.unwrap();
        // What a transaction waits for is the disk: it would hide what is measured here.
        for sql in [
            "ALTER SYSTEM SET synchronous_commit = off",
            "SELECT pg_reload_conf()",
            "CREATE TABLE t (id bigserial PRIMARY KEY, n bigint NOT NULL)",
        ] {
            admin.batch_execute(sql).await.unwrap();
        }
        let url = servers.proxied_url();
        let bare = |method| {
            let mut config = ManagerConfig::default();
            config.recycling_method = method;
            let manager = AsyncDieselConnectionManager::new_with_config(&url, config);
            Pool::builder(manager).max_size(SIZE).build().unwrap()
        };
        let leadpool = leadpool_diesel::Pool::builder(&url).max_size(SIZE);
        let rivals = Self {
            fast: bare(RecyclingMethod::Fast),
            default: bare(RecyclingMethod::Verified),
            leadpool: leadpool.build().await.unwrap(),
            servers,
        };
        for pool in [&rivals.fast, &rivals.default] {
            drop(pool.take().await);
        }
        drop(rivals.leadpool.take().await);
        rivals
    }

    fn delay(&self, delay: Duration) {
        self.servers.proxy(0).unwrap().delay(delay, delay);
    }
}

async fn nothing(_: &mut AsyncPgConnection) -> QueryResult<()> {
    Ok(())
}

async fn read(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    let ids = t::table.select(t::id).limit(1).load::<i64>(conn);
    ids.await.map(drop)
}

async fn insert(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    let insert = diesel::insert_into(t::table).values(t::n.eq(1));
    insert.execute(conn).await
}

async fn by_hand(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    conn.transaction(async |conn| insert(conn).await).await
}

async fn run_tx(pool: &leadpool_diesel::Pool, evidence: bool) {
    let tx = pool.tx().evidence(evidence);
    tx.run(|mut tx| async move { insert(&mut tx).await })
        .await
        .unwrap();
}

fn by_turns(_: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let rivals = Rivals::start().await;
        macro_rules! all {
            ($work:expr) => {
                [
                    ("diesel-async, Fast", with!(rivals.fast, $work)),
                    ("diesel-async", with!(rivals.default, $work)),
                    ("leadpool", with!(rivals.leadpool, $work)),
                ]
            };
        }
        for delay in [Duration::ZERO, Duration::from_micros(500)] {
            rivals.delay(delay);
            let what = |what| format!("{what}, {delay:?} each way,");
            if delay.is_zero() {
                // Nothing is sent, so the network does not matter.
                let checkouts = [
                    ("diesel-async, Fast", with!(rivals.fast, nothing)),
                    ("leadpool", with!(rivals.leadpool, nothing)),
                ];
                in_timed_turns("checkout", 2_000, 500, &checkouts).await;
            }
            let reads = all!(read);
            in_timed_turns(&what("checkout and SELECT"), 100, 10, &reads).await;
            let mut transactions = Vec::from(all!(by_hand));
            transactions.pop();
            transactions.extend([
                (
                    "run_tx",
                    turn!(rivals.leadpool, async |pool| run_tx(pool, true).await),
                ),
                (
                    "run_tx without evidence",
                    turn!(rivals.leadpool, async |pool| run_tx(pool, false).await),
                ),
            ]);
            in_timed_turns(&what("transaction"), 100, 10, &transactions).await;
        }
    });
}

criterion_group!(benches, by_turns);
criterion_main!(benches);
