//! `run_tx`: what is repeated, what is not, and what becomes of the connection.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use leadpool_sqlx::{
    Error, Pool, Tx,
    leadpool::{self, IsolationLevel},
};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};

use crate::support::*;

const INSERT: &str = "INSERT INTO t (n) VALUES (1)";

async fn insert(mut tx: Tx) -> Result<(), sqlx::Error> {
    sqlx::query(INSERT).execute(&mut *tx).await?;
    Ok(())
}

/// All connections can be had at once, and none holds a transaction.
async fn is_whole(servers: &Servers, pool: &Pool) {
    let mut held = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        held.push(soon("a connection", pool.acquire()).await.unwrap());
    }
    drop(held);
    no_open_transactions(servers).await;
}

#[tokio::test]
async fn ok_commits_and_an_error_rolls_back() {
    let (servers, pool) = start().await;
    let id: i64 = pool
        .run_tx(|mut tx| async move {
            sqlx::query_scalar("INSERT INTO t (n) VALUES (1) RETURNING id")
                .fetch_one(&mut *tx)
                .await
        })
        .await
        .unwrap();
    assert_eq!(id, 1);
    let error = pool
        .run_tx(|mut tx| async move {
            sqlx::query(INSERT).execute(&mut *tx).await?;
            sqlx::query("SELECT 1 FROM nowhere").execute(&mut *tx).await
        })
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("42P01"));
    assert!(matches!(error, Error::Sqlx(_)), "{error:?}");
    assert_eq!(rows(&servers).await, 1);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn a_connection_is_kept_and_clean_after_a_commit() {
    let (servers, pool) = start().await;
    let backend = |mut tx: Tx| async move {
        sqlx::query(INSERT).execute(&mut *tx).await?;
        sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()")
            .fetch_one(&mut *tx)
            .await
    };
    let first = pool.run_tx(backend).await.unwrap();
    until("its return", async || pool.num_idle() == 1).await;
    assert_eq!(pool.run_tx(backend).await.unwrap(), first);
    no_open_transactions(&servers).await;
    // What comes next is no part of a transaction that was begun behind COMMIT.
    until("its return", async || pool.num_idle() == 1).await;
    sqlx::query(INSERT).execute(&pool).await.unwrap();
    assert_eq!(rows(&servers).await, 3);
}

#[tokio::test]
async fn nested_transactions_are_savepoints() {
    let (servers, pool) = start().await;
    pool.run_tx(|mut tx| async move {
        sqlx::query(INSERT).execute(&mut *tx).await?;
        let mut inner = tx.begin().await?;
        sqlx::query(INSERT).execute(&mut *inner).await?;
        inner.commit().await?;
        let mut inner = tx.begin().await?;
        sqlx::query(INSERT).execute(&mut *inner).await?;
        sqlx::query("SELECT 1 FROM nowhere")
            .execute(&mut *inner)
            .await
            .unwrap_err();
        inner.rollback().await?;
        {
            // Dropped: rolled back with the next statement.
            let mut inner = tx.begin().await?;
            sqlx::query(INSERT).execute(&mut *inner).await?;
        }
        sqlx::query(INSERT).execute(&mut *tx).await?;
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(rows(&servers).await, 3);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn a_commit_answered_with_rollback_is_an_error() {
    let (servers, pool) = start().await;
    let swallow = |mut tx: Tx| async move {
        sqlx::query(INSERT).execute(&mut *tx).await?;
        let failed = sqlx::query("SELECT 1 FROM nowhere").execute(&mut *tx).await;
        assert!(failed.is_err());
        Ok(())
    };
    // sqlx's own says that all went well.
    let mut tx = pool.begin().await.unwrap();
    sqlx::query(INSERT).execute(&mut *tx).await.unwrap();
    sqlx::query("SELECT 1 FROM nowhere")
        .execute(&mut *tx)
        .await
        .unwrap_err();
    tx.commit().await.unwrap();
    assert_eq!(rows(&servers).await, 0);
    for evidence in [true, false] {
        let error = pool.tx().evidence(evidence).run(swallow).await.unwrap_err();
        let is_told = matches!(error, Error::Pool(leadpool::Error::RolledBack));
        assert!(is_told, "{evidence}: {error:?}");
    }
    assert_eq!(rows(&servers).await, 0);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn a_closure_that_ends_its_transaction_is_found_out() {
    let (servers, pool) = start().await;
    for sql in ["COMMIT", "COMMIT; BEGIN", "ROLLBACK"] {
        for evidence in [true, false] {
            let error = pool
                .tx()
                .evidence(evidence)
                .run(move |mut tx| async move { sqlx::raw_sql(sql).execute(&mut *tx).await })
                .await
                .unwrap_err();
            let is_told = matches!(error, Error::Pool(leadpool::Error::EndedByClosure));
            assert!(is_told, "{sql}, {evidence}: {error:?}");
        }
    }
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn a_handle_that_is_kept_makes_it_fail() {
    let (servers, pool) = start().await;
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let error = pool
        .run_tx(move |mut tx| async move {
            sqlx::query(INSERT).execute(&mut *tx).await?;
            *keep.lock().unwrap() = Some(tx);
            Ok(())
        })
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Pool(leadpool::Error::Escaped)),
        "{error:?}"
    );
    kept.lock().unwrap().take();
    assert_eq!(rows(&servers).await, 0);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn a_serialization_failure_is_repeated() {
    let (servers, pool) = start().await;
    sqlx::query("INSERT INTO t (n) VALUES (0)")
        .execute(&pool)
        .await
        .unwrap();
    let attempts = Arc::new(AtomicU32::new(0));
    let (counted, other) = (attempts.clone(), pool.clone());
    pool.tx()
        .isolation(IsolationLevel::RepeatableRead)
        .run(move |mut tx| {
            let (counted, other) = (counted.clone(), other.clone());
            async move {
                let n: i64 = sqlx::query_scalar("SELECT n FROM t")
                    .fetch_one(&mut *tx)
                    .await?;
                if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                    sqlx::query("UPDATE t SET n = n + 1")
                        .execute(&other)
                        .await?;
                }
                sqlx::query("UPDATE t SET n = $1")
                    .bind(n + 1)
                    .execute(&mut *tx)
                    .await
            }
        })
        .await
        .unwrap();
    assert_eq!(attempts.load(Ordering::Relaxed), 2);
    let n: i64 = sqlx::query_scalar("SELECT n FROM t")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(n, 2);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn lost_before_commit_is_repeated() {
    let (servers, pool) = start().await;
    servers.wait_replayed().await.unwrap();
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let lost = Arc::new(tokio::sync::Notify::new());
    let tell = lost.clone();
    let running = pool.run_tx(move |mut tx| {
        let (counted, tell) = (counted.clone(), tell.clone());
        async move {
            sqlx::query(INSERT).execute(&mut *tx).await?;
            if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                tell.notify_one();
                sqlx::query("SELECT pg_sleep(60)").execute(&mut *tx).await?;
            }
            Ok(())
        }
    });
    let failing_over = async {
        lost.notified().await;
        servers.freeze(0).await.unwrap();
        servers.failover().await.unwrap();
    };
    let (ran, ()) = tokio::join!(soon("the transaction", running), failing_over);
    ran.unwrap();
    assert_eq!(attempts.load(Ordering::Relaxed), 2);
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn retries_and_deadlines_end() {
    let (servers, pool) = start().await;
    let told = Arc::new(AtomicU32::new(0));
    let counted = told.clone();
    let error = pool
        .tx()
        .retries(2)
        .on_retry(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .run(|mut tx| async move {
            let raise = "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$";
            sqlx::query(raise).execute(&mut *tx).await
        })
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("40001"));
    let Error::Pool(leadpool::Error::RetriesExhausted { attempts, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!((attempts, told.load(Ordering::Relaxed)), (3, 2));
    let error = pool
        .tx()
        .deadline(Duration::from_millis(200))
        .run(|mut tx| async move { sqlx::query("SELECT pg_sleep(60)").execute(&mut *tx).await })
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Pool(leadpool::Error::TxDeadline { .. })),
        "{error:?}"
    );
    servers.terminate_backends(0).await.unwrap();
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn dropped_at_every_moment() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    prepare(&servers).await;
    let pool = leadpool_sqlx::PgPoolOptions::new()
        .max_connections(2)
        .connect(&servers.proxied_url())
        .await
        .unwrap();
    let each = Duration::from_millis(1);
    servers.proxy(0).unwrap().delay(each, each);
    for micros in (0..30_000).step_by(500) {
        let writing = pool.run_tx(|mut tx| async move {
            sqlx::query(INSERT).execute(&mut *tx).await?;
            sqlx::query(INSERT).execute(&mut *tx).await
        });
        drop(tokio::time::timeout(Duration::from_micros(micros), writing).await);
    }
    is_whole(&servers, &pool).await;
    assert_eq!(rows(&servers).await % 2, 0, "all or nothing");
}

#[derive(Debug, thiserror::Error)]
enum ShopError {
    #[error("out of stock")]
    OutOfStock,
    #[error(transparent)]
    Pool(#[from] Error),
    #[error("database")]
    Database(#[from] sqlx::Error),
}

#[tokio::test]
async fn errors_of_the_applications_own() {
    let (servers, pool) = start().await;
    let error = pool
        .try_run_tx(|mut tx| async move {
            sqlx::query(INSERT).execute(&mut *tx).await?;
            Err::<(), _>(ShopError::OutOfStock)
        })
        .await
        .unwrap_err();
    assert!(matches!(error, ShopError::OutOfStock), "{error:?}");
    let error = pool
        .try_run_tx(|mut tx| async move {
            sqlx::query("SELECT 1 FROM nowhere")
                .execute(&mut *tx)
                .await?;
            Ok::<_, ShopError>(())
        })
        .await
        .unwrap_err();
    assert!(matches!(error, ShopError::Database(_)), "{error:?}");
    // One that hides in it is found, and repeated.
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    pool.try_run_tx(move |mut tx| {
        let counted = counted.clone();
        async move {
            if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                let raise = "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$";
                sqlx::query(raise).execute(&mut *tx).await?;
            }
            Ok::<_, ShopError>(())
        }
    })
    .await
    .unwrap();
    assert_eq!(attempts.load(Ordering::Relaxed), 2);
    let error = pool
        .tx()
        .deadline(Duration::from_millis(100))
        .try_run(|mut tx| async move {
            sqlx::query("SELECT pg_sleep(60)").execute(&mut *tx).await?;
            Ok::<_, ShopError>(())
        })
        .await
        .unwrap_err();
    assert!(matches!(error, ShopError::Pool(_)), "{error:?}");
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn options_reach_the_server() {
    let (_servers, pool) = start().await;
    let of = |sql: &'static str| {
        move |mut tx: Tx| async move {
            sqlx::query_scalar::<_, String>(sql)
                .fetch_one(&mut *tx)
                .await
        }
    };
    let level = pool.tx().isolation(IsolationLevel::Serializable);
    let found = level.run(of("SHOW transaction_isolation")).await.unwrap();
    assert_eq!(found, "serializable");
    let read_only = pool.tx().read_only(true);
    assert_eq!(
        read_only
            .run(of("SHOW transaction_read_only"))
            .await
            .unwrap(),
        "on"
    );
    let error = pool.tx().read_only(true).run(insert).await.unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("25006"));
    // The next one on that connection has none of it.
    assert_eq!(
        pool.run_tx(of("SHOW transaction_isolation")).await.unwrap(),
        "read committed"
    );
}

#[tokio::test]
async fn round_trips() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.proxied_url()).await.unwrap();
    let turns = async |evidence: bool| {
        // The first prepares.
        let mut counted = 0;
        for _ in 0..2 {
            until("its return", async || {
                pool.num_idle() == pool.size() as usize
            })
            .await;
            let before = servers.proxy(0).unwrap().turns();
            pool.tx().evidence(evidence).run(insert).await.unwrap();
            counted = servers.proxy(0).unwrap().turns() - before;
        }
        counted
    };
    // BEGIN, the statement, COMMIT; the ping behind it and a probe may be counted too.
    let (without, with) = (turns(false).await, turns(true).await);
    assert!((3..=5).contains(&without), "{without}");
    assert!((4..=6).contains(&with), "{with}");
}

#[tokio::test]
async fn terminated_in_whatever_moment_nothing_is_lost_or_doubled() {
    let (servers, pool) = start_proxied().await;
    let mut expected = 0;
    for text in [
        "BEGIN",
        "INSERT INTO t",
        "pg_current_xact_id_if_assigned",
        "COMMIT",
    ] {
        for moment in [
            Moment::BeforeForward,
            Moment::AfterForward,
            Moment::BeforeAnswer,
        ] {
            servers.proxy(0).unwrap().cut_at(Trigger::new(text, moment));
            soon("the transaction", pool.run_tx(insert)).await.unwrap();
            expected += 1;
            assert_eq!(rows(&servers).await, expected, "{text} {moment:?}");
            servers.proxy(0).unwrap().pass();
        }
    }
    no_open_transactions(&servers).await;
}
