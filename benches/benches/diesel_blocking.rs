//! leadpool-diesel's blocking pool beside diesel's r2d2: taking and returning an idle connection,
//! and a transaction of one statement, on networks of different length.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use diesel::{Connection as _, PgConnection, QueryResult, RunQueryDsl as _};
use leadpool_benches::{TimedTurn, in_timed_turns};
use leadpool_testkit::Cluster as Servers;
use tokio::runtime::Runtime;

/// How many connections each pool has, and how often a thing is done in one turn.
const EACH: u32 = 16;

type Manager = diesel::r2d2::ConnectionManager<PgConnection>;

/// The pools, all with the same number of open connections through the same proxy.
struct Rivals {
    leadpool: leadpool_diesel::blocking::Pool,
    /// Asks nothing at checkout.
    bare: diesel::r2d2::Pool<Manager>,
    /// As r2d2 makes it: each checkout asks the server first.
    default: diesel::r2d2::Pool<Manager>,
    servers: Servers,
}

/// Does something so often and measures it, returning included.
macro_rules! turn {
    ($pool:expr, $work:expr) => {{
        let pool = &$pool;
        let turn: TimedTurn<'_> = Box::new(move |times| {
            Box::pin(async move {
                let begun = Instant::now();
                for _ in 0..times {
                    let _done = black_box($work(pool).unwrap());
                }
                begun.elapsed()
            })
        });
        turn
    }};
}

impl Rivals {
    async fn start() -> Self {
        let builder = Servers::builder().standbys(0).proxies(true);
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
        let url = servers.proxied_url();
        let open = move || {
            let builder = diesel::r2d2::Pool::builder().max_size(EACH);
            let bare = builder.test_on_check_out(false);
            let bare = bare.build(Manager::new(&url)).unwrap();
            let default = diesel::r2d2::Pool::builder().max_size(EACH);
            let default = default.build(Manager::new(&url)).unwrap();
            let leadpool = leadpool_diesel::blocking::Pool::builder().max_size(EACH);
            let manager = leadpool_diesel::blocking::r2d2::ConnectionManager::new(&url);
            let leadpool: leadpool_diesel::blocking::Pool = leadpool.build(manager).unwrap();
            drop(
                (0..EACH)
                    .map(|_| leadpool.get().unwrap())
                    .collect::<Vec<_>>(),
            );
            (leadpool, bare, default)
        };
        let opened = tokio::task::spawn_blocking(open).await;
        let (leadpool, bare, default) = opened.unwrap();
        Self {
            leadpool,
            bare,
            default,
            servers,
        }
    }

    fn checkouts(&self) -> [(&'static str, TimedTurn<'_>); 3] {
        [
            (
                "r2d2, no test",
                turn!(self.bare, diesel::r2d2::Pool::<Manager>::get),
            ),
            (
                "leadpool",
                turn!(self.leadpool, |pool: &leadpool_diesel::blocking::Pool| pool
                    .get()),
            ),
            (
                "r2d2",
                turn!(self.default, diesel::r2d2::Pool::<Manager>::get),
            ),
        ]
    }

    fn transactions(&self) -> Vec<(&'static str, TimedTurn<'_>)> {
        let run_tx = |pool: &leadpool_diesel::blocking::Pool, evidence| {
            let tx = pool.tx().evidence(evidence);
            tx.run(|conn| insert(conn))
        };
        vec![
            ("r2d2, no test", turn!(self.bare, by_hand)),
            ("run_tx", turn!(self.leadpool, |pool| run_tx(pool, true))),
            (
                "run_tx without evidence",
                turn!(self.leadpool, |pool| run_tx(pool, false)),
            ),
            ("r2d2", turn!(self.default, by_hand)),
        ]
    }
}

fn insert(conn: &mut PgConnection) -> QueryResult<usize> {
    diesel::sql_query("INSERT INTO t (n) VALUES (1)").execute(conn)
}

fn by_hand(pool: &diesel::r2d2::Pool<Manager>) -> QueryResult<usize> {
    pool.get().unwrap().transaction(|conn| insert(conn))
}

fn by_turns(_: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let rivals = Rivals::start().await;
        // Long turns: the first checkout after a rest wakes the monitor, and is not what is asked here.
        let [bare, leadpool, _] = rivals.checkouts();
        in_timed_turns("checkout", 100_000, EACH, &[bare, leadpool]).await;
        let kinds = [
            ("checkout", rivals.checkouts().into()),
            ("transaction", rivals.transactions()),
        ];
        for (what, kind) in kinds {
            for (delay, turns) in [(0, 1_000), (500, 100), (2_000, 20)] {
                let delay = Duration::from_micros(delay);
                rivals.servers.proxy(0).unwrap().delay(delay, delay);
                let what = format!("{what}, {delay:?} each way,");
                in_timed_turns(&what, turns, EACH, &kind).await;
            }
        }
    });
}

criterion_group!(benches, by_turns);
criterion_main!(benches);
