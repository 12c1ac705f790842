//! `run_tx`: once or not at all, and known which.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use leadpool::{Error, IsolationLevel, Pool, Target};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};

use crate::support::*;

async fn insert(pool: &Pool) -> Result<(), Error> {
    pool.run_tx(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_one_statement_transaction_takes_two_round_trips() {
    let (servers, pool) = start_proxied().await;
    let prepared = || {
        pool.run_tx(|tx| async move {
            let insert = tx.prepare_cached("INSERT INTO t (n) VALUES (1)").await?;
            tx.execute(&insert, &[]).await?;
            Ok(())
        })
    };
    prepared().await.unwrap(); // opens and prepares
    let proxy = servers.proxy(0).unwrap();
    let mut least = u64::MAX;
    for _ in 0..5 {
        let turns = proxy.turns();
        prepared().await.unwrap();
        least = least.min(proxy.turns() - turns);
    }
    // The least, because the monitor may probe meanwhile.
    assert_eq!(least, 2);
}

#[tokio::test]
async fn lost_before_commit_is_repeated_once() {
    for moment in [
        Moment::BeforeForward,
        Moment::AfterForward,
        Moment::BeforeAnswer,
    ] {
        let (servers, pool) = start_proxied().await;
        insert(&pool).await.unwrap();
        let retries = Arc::new(AtomicU32::new(0));
        let seen = retries.clone();
        servers
            .proxy(0)
            .unwrap()
            .cut_at(Trigger::new("INSERT INTO t (n) VALUES (2)", moment));
        pool.tx()
            .on_retry(move |retry| {
                assert!(retry.host.is_some());
                seen.fetch_add(1, Ordering::Relaxed);
            })
            .run(|tx| async move {
                tx.execute("INSERT INTO t (n) VALUES (2)", &[]).await?;
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(retries.load(Ordering::Relaxed), 1, "{moment:?}");
        assert_eq!(rows(&servers).await, 2, "{moment:?}");
    }
}

#[tokio::test]
async fn a_commit_in_flight_without_evidence_is_unknown_and_never_repeated() {
    for (moment, happened) in [
        (Moment::BeforeForward, 0),
        (Moment::AfterForward, 1),
        (Moment::BeforeAnswer, 1),
    ] {
        let (servers, pool) = start_proxied().await;
        servers
            .proxy(0)
            .unwrap()
            .cut_at(Trigger::new("COMMIT", moment));
        let attempts = AtomicU32::new(0);
        let error = pool
            .tx()
            .evidence(false)
            .run(|tx| {
                attempts.fetch_add(1, Ordering::Relaxed);
                async move {
                    tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
                    Ok(())
                }
            })
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Unknown(_)), "{moment:?}: {error}");
        assert_eq!(error.failover_class(), Some("08007"));
        assert!(!error.is_transient());
        assert_eq!(attempts.load(Ordering::Relaxed), 1, "{moment:?}");
        soon("the outcome", async {
            while rows(&servers).await != happened {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        // And the pool goes on.
        insert(&pool).await.unwrap();
        assert_eq!(rows(&servers).await, happened + 1);
    }
}

#[tokio::test]
async fn a_commit_answered_with_rollback_is_an_error() {
    let (servers, pool) = start().await;
    let error = pool
        .run_tx(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            // The mistake: the error is dropped.
            drop(tx.execute("SELECT 1/0", &[]).await);
            Ok(())
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::RolledBack), "{error}");
    assert_eq!(rows(&servers).await, 0);
    insert(&pool).await.unwrap();
}

#[tokio::test]
async fn a_closure_that_ends_the_transaction_is_found_out() {
    let (_servers, pool) = start().await;
    for evidence in [true, false] {
        for sql in [
            "COMMIT",
            "ROLLBACK",
            "COMMIT; BEGIN",
            "ROLLBACK; BEGIN",
            "COMMIT AND CHAIN",
            "INSERT INTO t (n) VALUES (1); COMMIT; BEGIN; INSERT INTO t (n) VALUES (2)",
        ] {
            let error = pool
                .tx()
                .evidence(evidence)
                .run(move |tx| async move {
                    tx.batch_execute(sql).await?;
                    Ok(())
                })
                .await
                .unwrap_err();
            assert!(matches!(error, Error::EndedByClosure), "{sql}: {error}");
            assert!(!error.is_transient());
        }
    }
    insert(&pool).await.unwrap();
}

#[tokio::test]
async fn a_closure_that_changes_the_isolation_is_found_out() {
    let (servers, pool) = start().await;
    let sql = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    for (level, expected) in [
        (None, "read committed"),
        (Some(IsolationLevel::RepeatableRead), "repeatable read"),
    ] {
        let mut tx = pool.tx();
        if let Some(level) = level {
            tx = tx.isolation(level);
        }
        let error = tx
            .run(move |tx| async move {
                tx.batch_execute(sql).await?;
                tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
                Ok(())
            })
            .await
            .unwrap_err();
        let Error::IsolationChanged { asked, found, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((&**asked, &**found), (expected, "serializable"));
    }
    assert_eq!(rows(&servers).await, 0);
    // A default that has changed on the server is nobody's fault.
    let client = servers.connect(0).await.unwrap();
    let sql = "ALTER SYSTEM SET default_transaction_isolation = 'repeatable read'";
    client.batch_execute(sql).await.unwrap();
    let sql = "SELECT pg_reload_conf()";
    client.batch_execute(sql).await.unwrap();
    for _ in 0..20 {
        insert(&pool).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rows(&servers).await, 20);
}

#[tokio::test]
async fn a_tx_that_escapes_commits_nothing() {
    let (servers, pool) = start().await;
    let kept = Arc::new(std::sync::Mutex::new(None));
    let error = pool
        .run_tx(|tx| async {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            *kept.lock().unwrap() = Some(tx);
            Ok(())
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Escaped), "{error}");
    drop(kept.lock().unwrap().take());
    no_open_transactions(&servers).await;
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn an_error_rolls_back_and_is_returned_as_it_is() {
    let (servers, pool) = start().await;
    #[derive(Debug, thiserror::Error)]
    enum ShopError {
        #[error("sold out")]
        SoldOut,
        #[error(transparent)]
        Pool(#[from] Error),
        #[error("database")]
        Database(#[from] tokio_postgres::Error),
    }
    let sold_out = pool
        .try_run_tx(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            Err::<(), _>(ShopError::SoldOut)
        })
        .await;
    assert!(matches!(sold_out, Err(ShopError::SoldOut)));
    let failed = pool
        .try_run_tx(|tx| async move {
            tx.execute("SELECT 1/0", &[]).await?;
            Ok::<_, ShopError>(())
        })
        .await;
    assert!(matches!(failed, Err(ShopError::Database(_))));
    let gone = pool
        .run_tx(|_tx| async { Err::<(), _>(Error::user("no")) })
        .await;
    assert!(matches!(gone, Err(Error::User(_))));
    pool.close(Duration::from_secs(1)).await;
    let closed = pool
        .try_run_tx(|_tx| async { Ok::<_, ShopError>(()) })
        .await;
    assert!(matches!(closed, Err(ShopError::Pool(Error::Closed))));
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn a_serialization_failure_is_repeated_here() {
    let (servers, pool) = start().await;
    insert(&pool).await.unwrap();
    let first = AtomicU32::new(0);
    let (other, first) = (&pool, &first);
    pool.tx()
        .isolation(IsolationLevel::RepeatableRead)
        .run(|tx| async move {
            tx.query("SELECT * FROM t", &[]).await?;
            if first.fetch_add(1, Ordering::Relaxed) == 0 {
                let client = other.get().await?;
                client.execute("UPDATE t SET n = n + 1", &[]).await?;
            }
            tx.execute("UPDATE t SET n = n + 10", &[]).await?;
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(first.load(Ordering::Relaxed), 2);
    let client = servers.connect(0).await.unwrap();
    let n: i64 = client
        .query_one("SELECT n FROM t", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(n, 12);
}

#[tokio::test]
async fn retries_are_bounded_by_number_and_by_the_shared_budget() {
    let (servers, _) = start().await;
    let pool = connect_with(&servers.url(), |config| {
        config.retries(3).retry_budget(5).retry_budget_ratio(0.0)
    })
    .await
    .unwrap();
    let fail = || {
        pool.run_tx(|tx| async move {
            tx.batch_execute("DO $$ BEGIN RAISE serialization_failure; END $$")
                .await?;
            Ok(())
        })
    };
    let error = fail().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::RetriesExhausted {
                attempts: 4,
                budget: false,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.sqlstate(), Some("40001"));
    let error = fail().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::RetriesExhausted {
                attempts: 3,
                budget: true,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_deadline_bounds_everything() {
    let (servers, pool) = start().await;
    let short = Duration::from_millis(300);
    let slow = pool.tx().deadline(short).run(|tx| async move {
        tx.execute("SELECT pg_sleep(60)", &[]).await?;
        Ok(())
    });
    let error = soon("the deadline", slow).await.unwrap_err();
    assert!(matches!(error, Error::TxDeadline { .. }), "{error}");
    assert!(
        error.to_string().contains("nothing was committed"),
        "{error}"
    );
    servers.kill(0).await.unwrap();
    let waiting = pool.tx().deadline(short).run(|_| async { Ok(()) });
    let error = soon("the deadline", waiting).await.unwrap_err();
    assert_eq!(error.failover_class(), Some("08S01"), "{error}");
}

#[tokio::test]
async fn options_reach_the_server() {
    let (_servers, pool) = start().await;
    let shown: String = pool
        .tx()
        .isolation(IsolationLevel::Serializable)
        .read_only(true)
        .deferrable()
        .run(|tx| async move {
            let sql = "SELECT concat_ws(' ', current_setting('transaction_isolation'), \
                       current_setting('transaction_read_only'), \
                       current_setting('transaction_deferrable'))";
            Ok(tx.query_one(sql, &[]).await?.get(0))
        })
        .await
        .unwrap();
    assert_eq!(shown, "serializable on on");
    let refused = pool.tx().read_only(true).run(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    });
    let error = soon("the refusal", refused).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("25006"));
    assert!(
        matches!(error, Error::Postgres(_)),
        "not repeated in vain: {error:?}"
    );
    let standby: bool = pool
        .tx()
        .target(Target::Standby)
        .read_only(true)
        .run(|tx| async move {
            Ok(tx
                .query_one("SELECT pg_is_in_recovery()", &[])
                .await?
                .get(0))
        })
        .await
        .unwrap();
    assert!(standby);
}

#[tokio::test]
async fn a_begin_that_fails_runs_nothing_outside_of_it() {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    // A standby refuses SERIALIZABLE (0A000): the statement behind it must fail too.
    let refused = pool
        .tx()
        .target(Target::Standby)
        .isolation(IsolationLevel::Serializable)
        .run(|tx| async move {
            tx.query_one("SELECT 1", &[]).await?;
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!(
        refused.sqlstate(),
        Some("0A000"),
        "the root cause: {refused}"
    );
    no_open_transactions(&servers).await;
}

#[tokio::test]
async fn terminated_in_whatever_moment_nothing_is_lost_or_doubled() {
    let (servers, pool) = start().await;
    written_once_while_terminated(&servers, move |key| {
        let pool = pool.clone();
        async move {
            pool.run_tx(|tx| async move {
                tx.execute("INSERT INTO t (n) VALUES ($1)", &[&key]).await?;
                Ok(())
            })
            .await
        }
    })
    .await;
}
