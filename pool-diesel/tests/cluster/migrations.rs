//! Migrations: each once, whoever starts, and whoever leads.

use std::time::Duration;

use diesel::{connection::BoxableConnection, pg::Pg};
use diesel_async::{
    AsyncConnection as _, AsyncMigrationHarness, async_connection_wrapper::AsyncConnectionWrapper,
};
use leadpool_diesel::{
    Pool,
    diesel_migrations::{self, EmbeddedMigrations, MigrationHarness as _, embed_migrations},
    leadpool,
    migrations::{MigrationError, MigrationPhase},
};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};
use tokio::task::JoinSet;

use crate::{steps::*, support::*};

const EMBEDDED: EmbeddedMigrations = embed_migrations!("tests/migrations");

/// What a migration gets by diesel-async's harness.
pub(crate) fn is_as_on_diesels(conn: &dyn BoxableConnection<Pg>) -> bool {
    conn.is::<AsyncConnectionWrapper<Conn>>()
}

#[tokio::test]
async fn eight_start_together() {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let steps = Steps(vec![
        migration(1, "INSERT INTO t (n) VALUES (1); CREATE TABLE a (id int)"),
        migration(2, "INSERT INTO t (n) VALUES (2); ALTER TABLE a ADD n int"),
        // It waits for every snapshot there is, also those of who waits for it.
        without_transaction(3, "CREATE INDEX CONCURRENTLY a_n ON a (n)"),
        without_transaction(4, "INSERT INTO t (n) VALUES (4)"),
        migration(5, "INSERT INTO t (n) VALUES (5)"),
    ]);
    let mut starting = JoinSet::new();
    for _ in 0..8 {
        let (url, steps) = (servers.url(), steps.clone());
        starting.spawn(async move {
            let pool = Pool::connect(&url).await.unwrap();
            // Whatever the handle is for.
            pool.reader().run_migrations(steps).await
        });
    }
    let mut applied = Vec::new();
    while let Some(started) = soon("the migrations", starting.join_next()).await {
        applied.extend(texts(&started.unwrap().unwrap()));
    }
    applied.sort();
    assert_eq!(applied, ["1", "2", "3", "4", "5"]);
    assert_eq!(left(&servers, 0).await, [1, 2, 4, 5]);
    assert_eq!(entered(&servers, 0).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(marked(&servers, 0).await, [""; 0]);
    no_locks(&servers, 0).await;
}

#[tokio::test]
async fn what_was_cut_off_by_a_failover_is_applied_on_the_new_writer() {
    for frozen in [false, true] {
        let (servers, pool) = start().await;
        let _gate = hold(&servers, 0, GATE).await;
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
        let migrating = soon("the end", pool.run_migrations(gated()));
        let (migrated, promoted) = tokio::join!(migrating, failing);
        assert_eq!(texts(&migrated.unwrap()), ["1", "2", "3"]);
        assert_eq!(
            left(&servers, promoted).await,
            [1, 2, 3],
            "frozen: {frozen}"
        );
        assert_eq!(entered(&servers, promoted).await, ["1", "2", "3"]);
        no_locks(&servers, promoted).await;
    }
}

#[tokio::test]
async fn a_wait_for_the_lock_ends_with_its_host() {
    for frozen in [false, true] {
        let (servers, pool) = start().await;
        let _other = hold(&servers, 0, LOCK).await;
        let failing = async {
            asks_for_the_lock(&servers, 0).await;
            match frozen {
                true => servers.freeze(0).await.unwrap(),
                false => servers.kill(0).await.unwrap(),
            }
            servers.failover().await.unwrap()
        };
        let migrating = soon("the end", pool.run_migrations(gated()));
        let (migrated, promoted) = tokio::join!(migrating, failing);
        migrated.unwrap();
        assert_eq!(
            left(&servers, promoted).await,
            [1, 2, 3],
            "frozen: {frozen}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_in_the_midst() {
    let (servers, pool) = start().await;
    let _gate = hold(&servers, 0, GATE).await;
    let switching = async {
        at_the_gate(&servers, 0).await;
        servers.switchover(1).await.unwrap();
    };
    let migrating = soon("the end", pool.run_migrations(gated()));
    let (migrated, ()) = tokio::join!(migrating, switching);
    assert_eq!(texts(&migrated.unwrap()), ["1", "2", "3"]);
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
        let proxy = servers.proxy(0).unwrap();
        proxy.cut_at(Trigger::new("COMMIT", moment));
        let migrated = soon("the end", pool.run_migrations(gated())).await;
        assert_eq!(texts(&migrated.unwrap()), ["1", "2", "3"], "{moment:?}");
        assert_eq!(left(&servers, 0).await, [1, 2, 3], "{moment:?}");
        no_locks(&servers, 0).await;
    }
}

#[tokio::test]
async fn what_runs_without_a_transaction_and_is_cut_off_is_told_and_not_repeated() {
    let (servers, pool) = start().await;
    let steps = Steps(vec![
        migration(1, "INSERT INTO t (n) VALUES (1)"),
        without_transaction(2, GATE),
        migration(3, "INSERT INTO t (n) VALUES (3)"),
    ]);
    let gate = hold(&servers, 0, GATE).await;
    let failing = async {
        at_the_gate(&servers, 0).await;
        servers.wait_replayed().await.unwrap();
        servers.kill(0).await.unwrap();
        servers.failover().await.unwrap()
    };
    let migrating = soon("the end", pool.run_migrations(steps.clone()));
    let (migrated, promoted) = tokio::join!(migrating, failing);
    drop(gate);
    let is_unknown = |told| match told {
        Err(MigrationError::Unknown(what)) => {
            assert_eq!(what.version, "2");
            assert_eq!(what.host.port(), port_of(&servers, promoted));
        }
        told => panic!("{told:?}"),
    };
    is_unknown(migrated);
    assert_eq!(left(&servers, promoted).await, [1]);
    // Whoever comes next is told too.
    let other = Pool::connect(&servers.url()).await.unwrap();
    is_unknown(soon("an answer", other.run_migrations(steps.clone())).await);
    let client = servers.connect(promoted).await.unwrap();
    client
        .batch_execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('2')")
        .await
        .unwrap();
    let migrated = soon("the end", pool.run_migrations(steps)).await.unwrap();
    assert_eq!(texts(&migrated), ["3"]);
    assert_eq!(left(&servers, promoted).await, [1, 3]);
    assert_eq!(marked(&servers, promoted).await, [""; 0]);
}

#[tokio::test]
async fn a_mark_that_did_not_reach_the_new_writer_says_that_nothing_did() {
    let servers = Servers::builder().standbys(1).start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    // It has nothing of what comes.
    servers.stop_fast(1).await.unwrap();
    let steps = Steps(vec![
        without_transaction(1, "INSERT INTO t (n) VALUES (1)"),
        without_transaction(2, GATE),
    ]);
    let _gate = hold(&servers, 0, GATE).await;
    let failing = async {
        at_the_gate(&servers, 0).await;
        assert_eq!(entered(&servers, 0).await, ["1"]);
        assert_eq!(marked(&servers, 0).await, ["2"]);
        servers.kill(0).await.unwrap();
        servers.start_host(1).await.unwrap();
        servers.promote(1).await.unwrap();
    };
    let migrating = soon("the end", pool.run_migrations(steps));
    let (migrated, ()) = tokio::join!(migrating, failing);
    assert_eq!(texts(&migrated.unwrap()), ["1", "2"]);
    assert_eq!(left(&servers, 1).await, [1]);
    assert_eq!(entered(&servers, 1).await, ["1", "2"]);
}

#[tokio::test]
async fn what_the_server_refuses_is_told_and_may_be_tried_again() {
    let (servers, pool) = start().await;
    for refused in [
        migration(
            1,
            "INSERT INTO t (n) VALUES (1); INSERT INTO missing VALUES (1)",
        ),
        without_transaction(1, "INSERT INTO missing VALUES (1)"),
        // In a transaction of its own, which has to be ended first.
        without_transaction(1, "BEGIN; INSERT INTO t (n) VALUES (1); SELECT 1 / 0"),
    ] {
        let migrating = pool.run_migrations(Steps(vec![refused]));
        let error = soon("the error", migrating).await.unwrap_err();
        let MigrationError::Failed { phase, source, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*phase, MigrationPhase::Applying("1".to_owned()));
        let text = source.to_string();
        assert!(
            text.contains("\"missing\" does not exist") || text.contains("division by zero"),
            "{text}"
        );
        assert_eq!(entered(&servers, 0).await, [""; 0]);
        no_locks(&servers, 0).await;
    }
    assert_eq!(marked(&servers, 0).await, [""; 0]);
    let steps = Steps(vec![migration(1, "INSERT INTO t (n) VALUES (1)")]);
    pool.run_migrations(steps).await.unwrap();
    assert_eq!(left(&servers, 0).await, [1]);
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
                let migrating = pool.run_migrations_within(gated(), limit).await;
                let error = migrating.unwrap_err();
                let MigrationError::Deadline(what) = &error else {
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
    let other = hold(&servers, 0, LOCK).await;
    ends_in(MigrationPhase::Lock, "pg_locks").await;
    drop(other);
    let gate = hold(&servers, 0, GATE).await;
    let applying = MigrationPhase::Applying("2".to_owned());
    ends_in(applying, "migration 2 was running").await;
    drop(gate);
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    ends_in(MigrationPhase::Writer, "no connection to a writer").await;
    // Any limit is one.
    servers.start_host(0).await.unwrap();
    soon(
        "the end",
        pool.run_migrations_within(gated(), Duration::MAX),
    )
    .await
    .unwrap();
    assert_eq!(left(&servers, 0).await, [1, 2, 3]);
}

#[tokio::test]
async fn migrations_that_nobody_waits_for_any_more_leave_nothing() {
    let (servers, pool) = start().await;
    let gate = hold(&servers, 0, GATE).await;
    tokio::select! {
        migrated = pool.run_migrations(gated()) => panic!("{migrated:?}"),
        () = at_the_gate(&servers, 0) => {}
    }
    // While the gate is closed still.
    no_locks(&servers, 0).await;
    drop(gate);
    assert_eq!(left(&servers, 0).await, [1]);
    let migrated = soon("the end", pool.run_migrations(gated())).await.unwrap();
    assert_eq!(texts(&migrated), ["2", "3"]);
    assert_eq!(left(&servers, 0).await, [1, 2, 3]);
}

#[tokio::test]
async fn settings_of_a_migration_reach_nobody_but_in_a_test() {
    let (servers, pool) = start_one(1).await;
    let steps = |version| {
        Steps(vec![migration(
            version,
            "SELECT set_config('work_mem', '77kB', false)",
        )])
    };
    pool.run_migrations(steps(1)).await.unwrap();
    assert_eq!(idle(&pool), 0);
    let mut conn = pool.get().await.unwrap();
    let pid = backend(&mut conn).await;
    // All of it would be lost with its connection.
    conn.begin_test_transaction().await.unwrap();
    drop(conn);
    let migrated = pool.run_migrations(steps(2)).await.unwrap();
    assert_eq!(texts(&migrated), ["2"]);
    assert_eq!(
        texts(&pool.run_migrations(steps(2)).await.unwrap()),
        [""; 0]
    );
    let mut conn = pool.get().await.unwrap();
    assert_eq!(backend(&mut conn).await, pid);
    assert_eq!(entered(&servers, 0).await, ["1"]);
    no_locks(&servers, 0).await;
}

#[tokio::test]
async fn a_closed_pool_migrates_nothing() {
    let (servers, pool) = start().await;
    let _other = hold(&servers, 0, LOCK).await;
    let closing = async {
        asks_for_the_lock(&servers, 0).await;
        // It is not in the way of the end, which waits for what is in use.
        pool.close_within(Duration::from_secs(600)).await;
    };
    let closing = soon("the end", closing);
    let (migrated, ()) = tokio::join!(pool.run_migrations(gated()), closing);
    for ended in [migrated, pool.run_migrations(gated()).await] {
        assert!(
            matches!(ended, Err(MigrationError::Pool(leadpool::Error::Closed))),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn a_panic_in_a_migration_is_the_callers() {
    let (servers, pool) = start_one(1).await;
    let theirs = pool.clone();
    let steps = Steps(vec![
        migration(1, "INSERT INTO t (n) VALUES (1)"),
        migration(2, "panic"),
    ]);
    let migrating = tokio::spawn(async move { theirs.run_migrations(steps).await });
    let ended = soon("the panic", migrating).await;
    assert!(ended.unwrap_err().is_panic());
    assert_eq!(left(&servers, 0).await, [1]);
    no_locks(&servers, 0).await;
    is_whole(&servers, &pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn diesels_own_harness_and_this_one_know_of_each_other() {
    let (servers, pool) = start().await;
    let mut harness = AsyncMigrationHarness::new(pool.get().await.unwrap());
    assert!(harness.has_pending_migration(EMBEDDED).unwrap());
    let first = harness.run_next_migration(EMBEDDED).unwrap();
    assert_eq!(first.to_string(), "20260101000001");
    drop(harness);
    let migrated = pool.run_migrations(EMBEDDED).await.unwrap();
    assert_eq!(texts(&migrated), ["20260101000002"]);
    assert_eq!(marked(&servers, 0).await, [""; 0]);
    let client = servers.connect(0).await.unwrap();
    let sql =
        "SELECT count(*) FROM pg_index WHERE indexrelid = 'visits_at'::regclass AND indisvalid";
    let valid: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(valid, 1);
    let mut harness = AsyncMigrationHarness::new(pool.get().await.unwrap());
    assert!(!harness.has_pending_migration(EMBEDDED).unwrap());
    let mut reverted = harness.revert_all_migrations(EMBEDDED).unwrap();
    reverted.reverse();
    assert_eq!(texts(&reverted), ["20260101000001", "20260101000002"]);
    assert_eq!(entered(&servers, 0).await, [""; 0]);
    // And on it goes, with the connection of before.
    let ran = harness.run_pending_migrations(EMBEDDED).unwrap();
    assert_eq!(texts(&ran), ["20260101000001", "20260101000002"]);
    drop(harness);
    assert_eq!(idle(&pool), 1);
}
