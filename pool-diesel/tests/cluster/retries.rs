//! `run_tx`: what is repeated, and what is not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use diesel::{
    prelude::*,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::RunQueryDsl;
use leadpool_diesel::{
    Error, diesel_async,
    leadpool::{self, IsolationLevel},
};
use leadpool_testkit::{Moment, Trigger};

use crate::support::*;

#[tokio::test]
async fn what_passes_is_repeated_whatever_diesel_calls_it() {
    let (servers, pool) = start().await;
    for code in ["40001", "40P01"] {
        let attempts = Arc::new(AtomicU32::new(0));
        let counted = attempts.clone();
        pool.run_tx(move |mut tx| {
            let counted = counted.clone();
            async move {
                insert(&mut tx, 1).await?;
                if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                    let first = raise(&mut tx, code).await.unwrap_err();
                    // Another one comes behind it, and the first is returned.
                    fail(&mut tx).await.unwrap_err();
                    return Err(first);
                }
                Ok(())
            }
        })
        .await
        .unwrap();
        assert_eq!(count(&attempts), 2, "{code}");
    }
    assert_eq!(rows(&servers).await, 2);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn a_serialization_failure_is_repeated() {
    let (servers, pool) = start().await;
    insert(&mut pool.get().await.unwrap(), 0).await.unwrap();
    let attempts = Arc::new(AtomicU32::new(0));
    let (counted, other) = (attempts.clone(), pool.clone());
    pool.tx()
        .isolation(IsolationLevel::RepeatableRead)
        .run(move |mut tx| {
            let (counted, other) = (counted.clone(), other.clone());
            async move {
                let n: i64 = t::table.select(t::n).first(&mut tx).await?;
                if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                    let mut conn = other.get().await.unwrap();
                    let more = diesel::update(t::table).set(t::n.eq(t::n + 1));
                    more.execute(&mut conn).await?;
                }
                diesel::update(t::table)
                    .set(t::n.eq(n + 1))
                    .execute(&mut tx)
                    .await
            }
        })
        .await
        .unwrap();
    assert_eq!(count(&attempts), 2);
    let mut conn = pool.get().await.unwrap();
    let n: i64 = t::table.select(t::n).first(&mut conn).await.unwrap();
    assert_eq!(n, 2);
    drop(conn);
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
            insert(&mut tx, 1).await?;
            if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                tell.notify_one();
                diesel::sql_query("SELECT pg_sleep(60)")
                    .execute(&mut tx)
                    .await?;
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
    assert_eq!(count(&attempts), 2);
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
        .run(|mut tx| async move { raise(&mut tx, "40P01").await })
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate(), Some("40P01"));
    let Error::Pool(leadpool::Error::RetriesExhausted { attempts, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!((attempts, count(&told)), (3, 2));
    let error = pool
        .tx()
        .deadline(Duration::from_millis(200))
        .run(|mut tx| async move {
            diesel::sql_query("SELECT pg_sleep(60)")
                .execute(&mut tx)
                .await
        })
        .await
        .unwrap_err();
    let is_told = matches!(error, Error::Pool(leadpool::Error::TxDeadline { .. }));
    assert!(is_told, "{error:?}");
    servers.terminate_backends(0).await.unwrap();
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn dropped_at_every_moment() {
    let (servers, pool) = start_one(2).await;
    let each = Duration::from_millis(1);
    servers.proxy(0).unwrap().delay(each, each);
    for micros in (0..30_000).step_by(500) {
        let writing = pool.run_tx(|mut tx| async move {
            insert(&mut tx, 1).await?;
            insert(&mut tx, 2).await
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
    Database(#[from] DieselError),
}

#[tokio::test]
async fn errors_of_the_applications_own() {
    let (servers, pool) = start().await;
    let error = pool
        .try_run_tx(|mut tx| async move {
            insert(&mut tx, 1).await?;
            Err::<(), _>(ShopError::OutOfStock)
        })
        .await
        .unwrap_err();
    assert!(matches!(error, ShopError::OutOfStock), "{error:?}");
    let error = pool
        .try_run_tx(|mut tx| async move {
            fail(&mut tx).await?;
            Ok::<_, ShopError>(())
        })
        .await
        .unwrap_err();
    let is_diesels = matches!(
        error,
        ShopError::Database(DieselError::DatabaseError(DatabaseErrorKind::Unknown, _))
    );
    assert!(is_diesels, "{error:?}");
    // One that hides in it is found, and repeated.
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    pool.try_run_tx(move |mut tx| {
        let counted = counted.clone();
        async move {
            if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                raise(&mut tx, "40P01").await?;
            }
            Ok::<_, ShopError>(())
        }
    })
    .await
    .unwrap();
    assert_eq!(count(&attempts), 2);
    let error = pool
        .tx()
        .deadline(Duration::from_millis(100))
        .try_run(|mut tx| async move {
            diesel::sql_query("SELECT pg_sleep(60)")
                .execute(&mut tx)
                .await?;
            Ok::<_, ShopError>(())
        })
        .await
        .unwrap_err();
    assert!(matches!(error, ShopError::Pool(_)), "{error:?}");
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn terminated_in_whatever_moment_nothing_is_lost_or_doubled() {
    let (servers, pool) = start_proxied().await;
    let mut expected = 0;
    for text in [
        "BEGIN",
        "INSERT INTO",
        "pg_current_xact_id_if_assigned",
        "COMMIT",
    ] {
        for moment in [
            Moment::BeforeForward,
            Moment::AfterForward,
            Moment::BeforeAnswer,
        ] {
            servers.proxy(0).unwrap().cut_at(Trigger::new(text, moment));
            let writing = pool.run_tx(|mut tx| async move { insert(&mut tx, 1).await });
            soon("the transaction", writing).await.unwrap();
            expected += 1;
            assert_eq!(rows(&servers).await, expected, "{text} {moment:?}");
            servers.proxy(0).unwrap().pass();
        }
    }
    no_open_transactions(&servers).await;
}
