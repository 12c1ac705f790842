//! Migrations: each once, whoever starts, and whoever leads.

use std::{sync::Arc, time::Duration};

use leadpool_sqlx::{Error, MigrationPhase, Pool};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};
use sqlx::{
    Connection as _, PgConnection, SqlSafeStr as _,
    migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator},
};
use tokio::task::JoinSet;

use crate::support::*;

/// A gate in a migration: open, unless somebody holds it on the same host.
const GATE: &str = "SELECT pg_advisory_lock(77)";

fn migration(version: i64, sql: &'static str) -> Migration {
    let name = format!("number {version}").into();
    Migration::new(
        version,
        name,
        MigrationType::Simple,
        sql.into_sql_str(),
        false,
    )
}

fn without_transaction(version: i64, sql: &'static str) -> Migration {
    let mut migration = migration(version, sql);
    migration.no_tx = true;
    migration
}

/// Three, of which the second waits at the gate.
fn gated() -> Migrator {
    Migrator::with_migrations(vec![
        migration(1, "INSERT INTO t (n) VALUES (1)"),
        migration(
            2,
            "INSERT INTO t (n) VALUES (2); SELECT pg_advisory_xact_lock(77)",
        ),
        migration(3, "INSERT INTO t (n) VALUES (3)"),
    ])
}

/// What the migrations have left on a host: each has left its number.
async fn left(servers: &Servers, host: usize) -> Vec<i64> {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT coalesce(array_agg(n ORDER BY n), '{}') FROM t";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// What the table says: versions, and whether they succeeded.
async fn entered(servers: &Servers, host: usize) -> Vec<(i64, bool)> {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT version, success FROM _sqlx_migrations ORDER BY version";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn close_gate(servers: &Servers, host: usize) -> tokio_postgres::Client {
    let client = servers.connect(host).await.unwrap();
    client.batch_execute(GATE).await.unwrap();
    client
}

/// Waits until a migration stands at the gate.
async fn at_the_gate(servers: &Servers, host: usize) {
    let client = servers.connect(host).await.unwrap();
    let sql =
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted";
    until("the migration at the gate", async || {
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
}

/// Another migrator of sqlx's, at work.
async fn hold_the_lock(servers: &Servers, host: usize) -> PgConnection {
    let mut conn = PgConnection::connect(&servers.host_url(host).unwrap())
        .await
        .unwrap();
    conn.lock().await.unwrap();
    conn
}

/// Waits until somebody has asked for sqlx's lock.
async fn asks_for_the_lock(servers: &Servers, host: usize) {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_try_advisory_lock($1)%' \
               AND pid <> pg_backend_pid()";
    until("the wait for the lock", async || {
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
}

/// No migrator holds its lock, sooner or later.
async fn no_locks(servers: &Servers, host: usize) {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid <> 77";
    until("the end of the lock", async || {
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

#[tokio::test]
async fn eight_start_together() {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let migrator = Arc::new(Migrator::with_migrations(vec![
        migration(1, "INSERT INTO t (n) VALUES (1); CREATE TABLE a (id int)"),
        migration(2, "INSERT INTO t (n) VALUES (2); ALTER TABLE a ADD n int"),
        // It waits for every snapshot there is, also those of who waits for it.
        without_transaction(3, "CREATE INDEX CONCURRENTLY a_n ON a (n)"),
        without_transaction(4, "INSERT INTO t (n) VALUES (4)"),
        migration(5, "INSERT INTO t (n) VALUES (5)"),
    ]));
    let mut starting = JoinSet::new();
    for _ in 0..8 {
        let (url, migrator) = (servers.url(), migrator.clone());
        starting.spawn(async move {
            let pool = Pool::connect(&url).await.unwrap();
            // Whatever the handle is for.
            pool.reader().migrate(&migrator).await
        });
    }
    while let Some(started) = soon("the migrations", starting.join_next()).await {
        started.unwrap().unwrap();
    }
    assert_eq!(left(&servers, 0).await, [1, 2, 4, 5]);
    let all = [(1, true), (2, true), (3, true), (4, true), (5, true)];
    assert_eq!(entered(&servers, 0).await, all);
    no_locks(&servers, 0).await;
}

#[tokio::test]
async fn the_macros_migrations_by_either_way() {
    let (servers, pool) = start().await;
    static MIGRATOR: Migrator = sqlx::migrate!("tests/migrations");
    pool.migrate(&MIGRATOR).await.unwrap();
    // sqlx's own way, on the writer too.
    MIGRATOR.run(&pool).await.unwrap();
    pool.migrate(&MIGRATOR).await.unwrap();
    assert_eq!(entered(&servers, 0).await, [(1, true), (2, true)]);
    let sql =
        "SELECT count(*) FROM pg_index WHERE indexrelid = 'visits_at'::regclass AND indisvalid";
    let valid: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
    assert_eq!(valid, 1);
}

#[tokio::test]
async fn what_was_cut_off_by_a_failover_is_applied_on_the_new_writer() {
    for frozen in [false, true] {
        let (servers, pool) = start().await;
        let _gate = close_gate(&servers, 0).await;
        let migrator = gated();
        let failing = async {
            at_the_gate(&servers, 0).await;
            for standby in [1, 2] {
                until("the first on the standbys", async || {
                    left(&servers, standby).await == [1]
                })
                .await;
            }
            match frozen {
                true => servers.freeze(0).await.unwrap(),
                false => servers.kill(0).await.unwrap(),
            }
            servers.failover().await.unwrap()
        };
        let (migrated, promoted) = tokio::join!(soon("the end", pool.migrate(&migrator)), failing);
        migrated.unwrap();
        assert_eq!(
            left(&servers, promoted).await,
            [1, 2, 3],
            "frozen: {frozen}"
        );
        let all = [(1, true), (2, true), (3, true)];
        assert_eq!(entered(&servers, promoted).await, all);
    }
}

#[tokio::test]
async fn a_wait_for_the_lock_ends_with_its_host() {
    for frozen in [false, true] {
        let (servers, pool) = start().await;
        // By sqlx's own hand: it is the same lock.
        let _other = hold_the_lock(&servers, 0).await;
        let migrator = gated();
        let failing = async {
            asks_for_the_lock(&servers, 0).await;
            match frozen {
                true => servers.freeze(0).await.unwrap(),
                false => servers.kill(0).await.unwrap(),
            }
            servers.failover().await.unwrap()
        };
        let (migrated, promoted) = tokio::join!(soon("the end", pool.migrate(&migrator)), failing);
        migrated.unwrap();
        assert_eq!(
            left(&servers, promoted).await,
            [1, 2, 3],
            "frozen: {frozen}"
        );
    }
}

#[tokio::test]
async fn a_switchover_in_the_midst() {
    let (servers, pool) = start().await;
    let _gate = close_gate(&servers, 0).await;
    let migrator = gated();
    let switching = async {
        at_the_gate(&servers, 0).await;
        servers.switchover(1).await.unwrap();
    };
    let (migrated, ()) = tokio::join!(soon("the end", pool.migrate(&migrator)), switching);
    migrated.unwrap();
    assert_eq!(left(&servers, 1).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_commit_without_an_answer_is_looked_up() {
    for moment in [
        Moment::BeforeForward,
        Moment::AfterForward,
        Moment::BeforeAnswer,
        // The session lives on, and holds the lock.
        Moment::Stranded,
    ] {
        let (servers, pool) = start_proxied().await;
        let migrator = gated();
        let proxy = servers.proxy(0).unwrap();
        proxy.cut_at(Trigger::new("COMMIT", moment));
        soon("the end", pool.migrate(&migrator)).await.unwrap();
        assert_eq!(left(&servers, 0).await, [1, 2, 3], "{moment:?}");
        no_locks(&servers, 0).await;
    }
}

#[tokio::test]
async fn what_runs_without_a_transaction_and_is_cut_off_is_told_and_not_repeated() {
    let (servers, pool) = start().await;
    let migrator = Migrator::with_migrations(vec![
        migration(1, "INSERT INTO t (n) VALUES (1)"),
        without_transaction(2, GATE),
        migration(3, "INSERT INTO t (n) VALUES (3)"),
    ]);
    let gate = close_gate(&servers, 0).await;
    let failing = async {
        at_the_gate(&servers, 0).await;
        servers.wait_replayed().await.unwrap();
        servers.kill(0).await.unwrap();
        servers.failover().await.unwrap()
    };
    let (migrated, promoted) = tokio::join!(soon("the end", pool.migrate(&migrator)), failing);
    drop(gate);
    assert!(
        matches!(migrated, Err(MigrateError::Dirty(2))),
        "{migrated:?}"
    );
    assert_eq!(left(&servers, promoted).await, [1]);
    // Whoever comes next is told too: another instance, and sqlx's own.
    let other = Pool::connect(&servers.url()).await.unwrap();
    for told in [
        soon("an answer", other.migrate(&migrator)).await,
        soon("an answer", migrator.run(&other)).await,
    ] {
        assert!(matches!(told, Err(MigrateError::Dirty(2))), "{told:?}");
    }
    // sqlx leaves its lock behind on a connection that it returns.
    other.close().await;
    let client = servers.connect(promoted).await.unwrap();
    client
        .batch_execute("UPDATE _sqlx_migrations SET success = true WHERE version = 2")
        .await
        .unwrap();
    soon("the end", pool.migrate(&migrator)).await.unwrap();
    assert_eq!(left(&servers, promoted).await, [1, 3]);
}

#[tokio::test]
async fn a_mark_that_did_not_reach_the_new_writer_says_that_nothing_did() {
    let servers = Servers::builder().standbys(1).start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    // It has nothing of what comes.
    servers.stop_fast(1).await.unwrap();
    let migrator = Migrator::with_migrations(vec![
        without_transaction(1, "INSERT INTO t (n) VALUES (1)"),
        without_transaction(2, GATE),
    ]);
    let _gate = close_gate(&servers, 0).await;
    let failing = async {
        at_the_gate(&servers, 0).await;
        assert_eq!(entered(&servers, 0).await, [(1, true), (2, false)]);
        servers.kill(0).await.unwrap();
        servers.start_host(1).await.unwrap();
        servers.promote(1).await.unwrap();
    };
    let (migrated, ()) = tokio::join!(soon("the end", pool.migrate(&migrator)), failing);
    migrated.unwrap();
    assert_eq!(left(&servers, 1).await, [1]);
    assert_eq!(entered(&servers, 1).await, [(1, true), (2, true)]);
}

#[tokio::test]
async fn what_the_server_refuses_is_told_and_may_be_tried_again() {
    let (servers, pool) = start().await;
    for is_marked in [false, true] {
        let mut refused = migration(1, "INSERT INTO missing VALUES (1)");
        refused.no_tx = is_marked;
        let migrator = Migrator::with_migrations(vec![refused]);
        let error = soon("the error", pool.migrate(&migrator))
            .await
            .unwrap_err();
        let MigrateError::ExecuteMigration(sqlx::Error::Database(error), 1) = &error else {
            panic!("{error}");
        };
        assert_eq!(error.code().as_deref(), Some("42P01"));
        assert_eq!(entered(&servers, 0).await, []);
        no_locks(&servers, 0).await;
    }
    // In a transaction of its own it has to be ended first.
    let migrator = Migrator::with_migrations(vec![without_transaction(
        1,
        "BEGIN; INSERT INTO t (n) VALUES (1); SELECT 1 / 0",
    )]);
    let error = soon("the error", pool.migrate(&migrator)).await;
    assert!(
        matches!(error, Err(MigrateError::ExecuteMigration(..))),
        "{error:?}"
    );
    assert_eq!(entered(&servers, 0).await, []);
    let migrator = Migrator::with_migrations(vec![migration(1, "INSERT INTO t (n) VALUES (1)")]);
    pool.migrate(&migrator).await.unwrap();
    assert_eq!(left(&servers, 0).await, [1]);
    let changed = Migrator::with_migrations(vec![migration(1, "SELECT 1")]);
    let error = pool.migrate(&changed).await;
    assert!(
        matches!(error, Err(MigrateError::VersionMismatch(1))),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_deadline_says_what_it_waited_for() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let ends_in = async |phase: MigrationPhase, text: &str| {
        let mut limit = Duration::from_millis(100);
        soon("that phase", async {
            loop {
                let migrating = pool.migrate_within(&gated(), limit).await;
                let error = sqlx::Error::from(migrating.unwrap_err());
                let Some(Error::MigrationDeadline(what)) = Error::inside(&error) else {
                    panic!("{error}");
                };
                assert_eq!(what.limit, limit);
                if what.phase == phase {
                    assert!(error.to_string().contains(text), "{error}");
                    break;
                }
                // It was slow, or the session before has not ended yet.
                limit *= 2;
            }
        })
        .await;
    };
    let other = hold_the_lock(&servers, 0).await;
    ends_in(MigrationPhase::Lock, "pg_locks").await;
    other.close().await.unwrap();
    let gate = close_gate(&servers, 0).await;
    ends_in(MigrationPhase::Applying(2), "migration 2 was running").await;
    drop(gate);
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    ends_in(MigrationPhase::Writer, "no connection to a writer").await;
    // Any limit is one.
    servers.start_host(0).await.unwrap();
    soon("the end", pool.migrate_within(&gated(), Duration::MAX))
        .await
        .unwrap();
    assert_eq!(left(&servers, 0).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_migration_that_nobody_waits_for_any_more_leaves_nothing() {
    let (servers, pool) = start().await;
    let gate = close_gate(&servers, 0).await;
    let migrator = gated();
    tokio::select! {
        migrated = pool.migrate(&migrator) => panic!("{migrated:?}"),
        () = at_the_gate(&servers, 0) => {}
    }
    // While the gate is closed still.
    no_locks(&servers, 0).await;
    drop(gate);
    assert_eq!(left(&servers, 0).await, [1]);
    assert_eq!((pool.size(), pool.num_idle()), (0, 0));
    pool.migrate(&migrator).await.unwrap();
    assert_eq!(left(&servers, 0).await, [1, 2, 3]);
}

#[tokio::test]
async fn settings_of_a_migration_reach_nobody() {
    let (_servers, pool) = start().await;
    let migrator = Migrator::with_migrations(vec![migration(
        1,
        "SELECT set_config('work_mem', '77kB', false)",
    )]);
    pool.migrate(&migrator).await.unwrap();
    assert_eq!(pool.size(), 0);
    let found: String = sqlx::query_scalar("SHOW work_mem")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_ne!(found, "77kB");
}

#[tokio::test]
async fn a_closed_pool_migrates_nothing() {
    let (servers, pool) = start().await;
    let _other = hold_the_lock(&servers, 0).await;
    let migrator = gated();
    let closing = async {
        asks_for_the_lock(&servers, 0).await;
        // It is not in the way of the end, which waits for what is in use.
        pool.close_within(Duration::from_secs(600)).await;
    };
    let closing = soon("the end", closing);
    let (migrated, ()) = tokio::join!(pool.migrate(&migrator), closing);
    assert!(
        matches!(
            migrated,
            Err(MigrateError::Execute(sqlx::Error::PoolClosed))
        ),
        "{migrated:?}"
    );
    let error = pool.migrate(&gated()).await.unwrap_err();
    assert!(
        matches!(error, MigrateError::Execute(sqlx::Error::PoolClosed)),
        "{error:?}"
    );
}
