//! `run_tx`: how it ends, and what becomes of the connection.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use diesel::{QueryResult, dsl::sql, prelude::*, result::Error as DieselError, sql_types::Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl, SimpleAsyncConnection as _};
use leadpool_diesel::{
    Error, Tx, diesel_async,
    leadpool::{self, IsolationLevel},
};

use crate::support::*;

#[tokio::test]
async fn ok_commits_and_an_error_rolls_back() {
    let (servers, pool) = start().await;
    let id = pool
        .run_tx(|mut tx| async move { insert(&mut tx, 1).await })
        .await
        .unwrap();
    assert_eq!(id, 1);
    let error = pool
        .run_tx(|mut tx| async move {
            insert(&mut tx, 1).await?;
            fail(&mut tx).await
        })
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate(), Some("42P01"));
    assert!(matches!(error, Error::Diesel { .. }), "{error:?}");
    let error = pool
        .run_tx(|mut tx| async move {
            insert(&mut tx, 1).await?;
            Err::<(), _>(diesel::NotFound)
        })
        .await
        .unwrap_err();
    let is_told = matches!(
        error,
        Error::Diesel {
            source: diesel::NotFound,
            ..
        }
    );
    assert!(is_told, "{error:?}");
    assert_eq!(rows(&servers).await, 1);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn a_connection_is_kept_and_clean_after_each_end() {
    let (servers, pool) = start_one(1).await;
    let first = pool
        .run_tx(|mut tx| async move { backend_of(&mut tx).await })
        .await
        .unwrap();
    for ends in ["commit", "rollback"] {
        let ended = pool
            .run_tx(|mut tx| async move {
                insert(&mut tx, 1).await?;
                assert_eq!(backend(&mut tx).await, first);
                match ends {
                    "commit" => Ok(()),
                    _ => Err(DieselError::RollbackTransaction),
                }
            })
            .await;
        assert_eq!(ended.is_ok(), ends == "commit");
        let mut conn = pool.get().await.unwrap();
        assert_eq!(backend(&mut conn).await, first, "{ends}");
        // What comes next is no part of it, and may be a transaction of diesel's.
        conn.transaction(async |conn| insert(conn, 2).await)
            .await
            .unwrap();
    }
    assert_eq!(rows(&servers).await, 3);
    no_open_transactions(&servers).await;
}

#[tokio::test]
async fn nested_transactions_are_savepoints() {
    let (servers, pool) = start().await;
    pool.run_tx(|mut tx| async move {
        insert(&mut tx, 1).await?;
        tx.transaction(async |conn| insert(conn, 2).await).await?;
        let undone = tx
            .transaction(async |conn| {
                insert(conn, 3).await?;
                fail(conn).await
            })
            .await;
        assert!(undone.is_err());
        insert(&mut tx, 4).await
    })
    .await
    .unwrap();
    assert_eq!(rows(&servers).await, 3);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn a_nested_transaction_that_is_left_open_commits_nothing() {
    let (servers, pool) = start().await;
    let error = pool
        .run_tx(|mut tx| async move {
            insert(&mut tx, 1).await?;
            let unfinished = tx.transaction(async |conn| {
                insert(conn, 2).await?;
                std::future::pending::<QueryResult<()>>().await
            });
            drop(tokio::time::timeout(Duration::from_millis(100), unfinished).await);
            Ok(())
        })
        .await
        .unwrap_err();
    let is_told = matches!(error, Error::Pool(leadpool::Error::EndedByClosure));
    assert!(is_told, "{error:?}");
    assert_eq!(rows(&servers).await, 0);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn a_commit_answered_with_rollback_is_an_error() {
    let (servers, pool) = start().await;
    // diesel's own says that all went well.
    let mut conn = pool.get().await.unwrap();
    conn.transaction(async |conn| {
        insert(conn, 1).await?;
        fail(conn).await.unwrap_err();
        QueryResult::Ok(())
    })
    .await
    .unwrap();
    assert_eq!(rows(&servers).await, 0);
    drop(conn);
    for evidence in [true, false] {
        let error = pool
            .tx()
            .evidence(evidence)
            .run(|mut tx| async move {
                insert(&mut tx, 1).await?;
                fail(&mut tx).await.unwrap_err();
                Ok(())
            })
            .await
            .unwrap_err();
        let is_told = matches!(error, Error::Pool(leadpool::Error::RolledBack));
        assert!(is_told, "{evidence}: {error:?}");
    }
    assert_eq!(rows(&servers).await, 0);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn a_closure_that_ends_its_transaction_is_found_out() {
    let (servers, pool) = start().await;
    for sql in ["COMMIT", "COMMIT; BEGIN", "ROLLBACK", "ROLLBACK; BEGIN"] {
        for evidence in [true, false] {
            let error = pool
                .tx()
                .evidence(evidence)
                .run(move |mut tx| async move { tx.batch_execute(sql).await })
                .await
                .unwrap_err();
            let is_told = matches!(error, Error::Pool(leadpool::Error::EndedByClosure));
            assert!(is_told, "{sql}, {evidence}: {error:?}");
        }
    }
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn an_error_at_commit_is_its_own() {
    let (servers, pool) = start().await;
    let client = servers.connect(0).await.unwrap();
    client
        .batch_execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM ''no number''::int; RETURN NULL; END'; \
             CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await
        .unwrap();
    for evidence in [true, false] {
        let error = pool
            .tx()
            .evidence(evidence)
            .run(|mut tx| async move { insert(&mut tx, 1).await })
            .await
            .unwrap_err();
        assert_eq!(error.sqlstate(), Some("22P02"), "{error:?}");
        assert!(matches!(error, Error::Diesel { .. }), "{error:?}");
    }
    assert_eq!(rows(&servers).await, 0);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn a_handle_that_is_kept_makes_it_fail() {
    let (servers, pool) = start().await;
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let error = pool
        .run_tx(move |mut tx| async move {
            insert(&mut tx, 1).await?;
            *keep.lock().unwrap() = Some(tx);
            Ok(())
        })
        .await
        .unwrap_err();
    let is_told = matches!(error, Error::Pool(leadpool::Error::Escaped));
    assert!(is_told, "{error:?}");
    kept.lock().unwrap().take();
    assert_eq!(rows(&servers).await, 0);
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn options_reach_the_server() {
    let (_servers, pool) = start().await;
    let of = |name: &'static str| {
        move |mut tx: Tx| async move {
            let setting = diesel::select(sql::<Text>(name));
            setting.get_result::<String>(&mut tx).await
        }
    };
    let level = pool.tx().isolation(IsolationLevel::Serializable);
    let found = level
        .run(of("current_setting('transaction_isolation')"))
        .await;
    assert_eq!(found.unwrap(), "serializable");
    let read_only = pool.tx().read_only(true);
    let found = read_only
        .run(of("current_setting('transaction_read_only')"))
        .await;
    assert_eq!(found.unwrap(), "on");
    let writing = pool
        .tx()
        .read_only(true)
        .run(|mut tx| async move { insert(&mut tx, 1).await });
    assert_eq!(writing.await.unwrap_err().sqlstate(), Some("25006"));
    // The next one on that connection has none of it.
    let found = pool
        .run_tx(of("current_setting('transaction_isolation')"))
        .await;
    assert_eq!(found.unwrap(), "read committed");
}

#[tokio::test]
async fn in_a_transaction_of_a_test_nothing_is_committed() {
    let (servers, pool) = start_one(1).await;
    let mut conn = pool.get().await.unwrap();
    conn.begin_test_transaction().await.unwrap();
    drop(conn);
    pool.run_tx(|mut tx| async move { insert(&mut tx, 1).await })
        .await
        .unwrap();
    let mut conn = pool.get().await.unwrap();
    let found = t::table.select(t::n).load::<i64>(&mut conn).await;
    assert_eq!(found.unwrap(), [1]);
    drop(conn);
    let undone = pool
        .run_tx(|mut tx| async move {
            insert(&mut tx, 2).await?;
            Err::<(), _>(DieselError::RollbackTransaction)
        })
        .await;
    assert!(undone.is_err());
    let error = pool
        .run_tx(|mut tx| async move {
            fail(&mut tx).await.unwrap_err();
            Ok(())
        })
        .await
        .unwrap_err();
    let is_told = matches!(error, Error::Pool(leadpool::Error::RolledBack));
    assert!(is_told, "{error:?}");
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn round_trips() {
    let (servers, pool) = start_one(1).await;
    let turns = async |evidence: bool| {
        // The first prepares.
        let mut counted = 0;
        for _ in 0..2 {
            let before = servers.proxy(0).unwrap().turns();
            let writing = pool.tx().evidence(evidence);
            writing
                .run(|mut tx| async move { insert(&mut tx, 1).await })
                .await
                .unwrap();
            counted = servers.proxy(0).unwrap().turns() - before;
        }
        counted
    };
    // BEGIN, the statement, COMMIT; a probe may be counted too.
    let (without, with) = (turns(false).await, turns(true).await);
    assert!((3..=4).contains(&without), "{without}");
    assert!((4..=5).contains(&with), "{with}");
}
