//! Migrations: each once, whoever starts, and whoever leads.

use std::{thread, time::Duration};

use diesel::{Connection as _, PgConnection, connection::BoxableConnection, pg::Pg};
use leadpool_diesel::{
    blocking::{
        InteractPool, Pool,
        r2d2::{ConnectionManager, PooledConnection, TestCustomizer},
    },
    diesel_migrations::{self, EmbeddedMigrations, MigrationHarness as _, embed_migrations},
    leadpool,
    migrations::{MigrationError, MigrationPhase},
};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};

use crate::{steps::*, support::*};

const EMBEDDED: EmbeddedMigrations = embed_migrations!("tests/migrations");

/// What a migration gets on diesel's r2d2, and from `interact`.
pub(crate) fn is_as_on_diesels(conn: &dyn BoxableConnection<Pg>) -> bool {
    conn.is::<PooledConnection<ConnectionManager<PgConnection>>>() || conn.is::<PgConnection>()
}

/// Runs them as a synchronous application does.
async fn run(pool: &Pool, steps: Steps) -> Result<Vec<String>, MigrationError> {
    let pool = pool.clone();
    blocking(move || Ok(texts(&pool.run_migrations(steps)?))).await
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
    let starting: Vec<_> = (0..8)
        .map(|_| {
            let (url, steps) = (servers.url(), steps.clone());
            thread::spawn(move || {
                let pool = Pool::connect(&url).unwrap();
                // Whatever the handle is for.
                texts(&pool.reader().run_migrations(steps).unwrap())
            })
        })
        .collect();
    let mut applied = blocking(move || {
        let started = starting.into_iter().flat_map(|one| one.join().unwrap());
        started.collect::<Vec<_>>()
    })
    .await;
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
        let (migrated, promoted) = tokio::join!(run(&pool, gated()), failing);
        assert_eq!(migrated.unwrap(), ["1", "2", "3"]);
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
        let (migrated, promoted) = tokio::join!(run(&pool, gated()), failing);
        migrated.unwrap();
        assert_eq!(
            left(&servers, promoted).await,
            [1, 2, 3],
            "frozen: {frozen}"
        );
    }
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
        let migrated = run(&pool, gated()).await.unwrap();
        assert_eq!(migrated, ["1", "2", "3"], "{moment:?}");
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
    let (migrated, promoted) = tokio::join!(run(&pool, steps.clone()), failing);
    drop(gate);
    // Whoever comes next is told too.
    for told in [migrated, run(&pool, steps.clone()).await] {
        let Err(MigrationError::Unknown(what)) = told else {
            panic!("{told:?}");
        };
        assert_eq!(what.version, "2");
        assert_eq!(what.host.port(), port_of(&servers, promoted));
    }
    assert_eq!(left(&servers, promoted).await, [1]);
    // Nothing of it is there: undone, it runs.
    let client = servers.connect(promoted).await.unwrap();
    client
        .batch_execute("DELETE FROM __leadpool_begun_migrations WHERE version = '2'")
        .await
        .unwrap();
    assert_eq!(run(&pool, steps).await.unwrap(), ["2", "3"]);
    assert_eq!(left(&servers, promoted).await, [1, 3]);
    assert_eq!(marked(&servers, promoted).await, [""; 0]);
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
        let error = run(&pool, Steps(vec![refused])).await.unwrap_err();
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
    run(&pool, steps).await.unwrap();
    assert_eq!(left(&servers, 0).await, [1]);
}

#[tokio::test]
async fn the_deadline_ends_what_is_in_flight() {
    let (servers, pool) = start().await;
    let gate = hold(&servers, 0, GATE).await;
    let ended = blocking(move || {
        let mut limit = Duration::from_millis(100);
        loop {
            let ended = pool.run_migrations_within(gated(), limit);
            let Err(MigrationError::Deadline(what)) = ended else {
                panic!("{ended:?}");
            };
            if let MigrationPhase::Applying(version) = what.phase {
                break version;
            }
            // It was slow, or the session before has not ended yet.
            limit *= 2;
        }
    });
    assert_eq!(ended.await, "2");
    // While the gate is closed still.
    no_locks(&servers, 0).await;
    drop(gate);
    assert_eq!(left(&servers, 0).await, [1]);
}

#[tokio::test]
async fn asynchronous_code_runs_them_in_a_thread_and_may_give_them_up() {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let pool = InteractPool::connect(&servers.url()).await.unwrap();
    let gate = hold(&servers, 0, GATE).await;
    tokio::select! {
        migrated = pool.run_migrations(gated()) => panic!("{migrated:?}"),
        () = at_the_gate(&servers, 0) => {}
    }
    // While the gate is closed still.
    no_locks(&servers, 0).await;
    servers.wait_replayed().await.unwrap();
    let failing = async {
        at_the_gate(&servers, 0).await;
        servers.freeze(0).await.unwrap();
        servers.failover().await.unwrap()
    };
    let migrating = soon("the end", pool.run_migrations(gated()));
    let (migrated, promoted) = tokio::join!(migrating, failing);
    drop(gate);
    assert_eq!(texts(&migrated.unwrap()), ["2", "3"]);
    assert_eq!(left(&servers, promoted).await, [1, 2, 3]);
    let steps = Steps(vec![migration(4, "panic")]);
    let theirs = pool.clone();
    let migrating = tokio::spawn(async move { theirs.run_migrations(steps).await });
    let ended = soon("the panic", migrating).await;
    assert!(ended.unwrap_err().is_panic());
    no_locks(&servers, promoted).await;
}

#[tokio::test]
async fn settings_of_a_migration_reach_nobody_but_in_a_test() {
    let (servers, pool) = start().await;
    let steps = || {
        Steps(vec![migration(
            1,
            "SELECT set_config('work_mem', '77kB', false)",
        )])
    };
    run(&pool, steps()).await.unwrap();
    assert_eq!(pool.state().connections, 0);
    let one = Pool::builder().max_size(1);
    let one = one.connection_customizer(Box::new(TestCustomizer));
    let (other, pool) = start_as(one).await;
    assert_eq!(run(&pool, steps()).await.unwrap(), ["1"]);
    // All of it would be lost with its connection.
    assert_eq!(run(&pool, steps()).await.unwrap(), [""; 0]);
    assert_eq!(pool.state().idle_connections, 1);
    no_locks(&servers, 0).await;
    no_locks(&other, 0).await;
}

#[tokio::test]
async fn a_panic_in_a_migration_is_the_callers() {
    let (servers, pool) = start().await;
    let steps = Steps(vec![
        migration(1, "INSERT INTO t (n) VALUES (1)"),
        migration(2, "panic"),
    ]);
    let migrating = thread::spawn(move || pool.run_migrations(steps).is_ok());
    assert!(blocking(move || migrating.join().is_err()).await);
    assert_eq!(left(&servers, 0).await, [1]);
    no_locks(&servers, 0).await;
}

#[tokio::test]
async fn a_closed_pool_migrates_nothing() {
    let (servers, pool) = start().await;
    let _other = hold(&servers, 0, LOCK).await;
    let closed = pool.clone();
    let closing = async {
        asks_for_the_lock(&servers, 0).await;
        // It is not in the way of the end, which waits for what is in use.
        blocking(move || closed.close_within(Duration::from_secs(600))).await;
    };
    let (migrated, ()) = tokio::join!(run(&pool, gated()), closing);
    for ended in [migrated, run(&pool, gated()).await] {
        assert!(
            matches!(ended, Err(MigrationError::Pool(leadpool::Error::Closed))),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn diesels_own_harness_and_this_one_know_of_each_other() {
    let (servers, pool) = start().await;
    blocking(move || {
        let mut conn = pool.get().unwrap();
        assert!(conn.has_pending_migration(EMBEDDED).unwrap());
        let first = conn.run_next_migration(EMBEDDED).unwrap();
        assert_eq!(first.to_string(), "20260101000001");
        drop(conn);
        let migrated = pool.run_migrations(EMBEDDED).unwrap();
        assert_eq!(texts(&migrated), ["20260101000002"]);
        let mut conn = pool.get().unwrap();
        let sql =
            "SELECT count(*) AS n FROM pg_index WHERE indexrelid = 'visits_at'::regclass AND indisvalid";
        assert_eq!(number(&mut conn, sql).unwrap(), 1);
        assert!(!conn.has_pending_migration(EMBEDDED).unwrap());
        let last = conn.revert_last_migration(EMBEDDED).unwrap();
        assert_eq!(last.to_string(), "20260101000002");
        // In a transaction of the application's own, as ever.
        conn.transaction(|conn| conn.revert_last_migration(EMBEDDED).map(drop))
            .unwrap();
        // On what it dereferences to.
        let ran = (*conn).run_pending_migrations(EMBEDDED).unwrap();
        assert_eq!(texts(&ran), ["20260101000001", "20260101000002"]);
        drop(conn);
        assert_eq!(pool.state().idle_connections, 1);
    })
    .await;
    assert_eq!(
        entered(&servers, 0).await,
        ["20260101000001", "20260101000002"]
    );
}
