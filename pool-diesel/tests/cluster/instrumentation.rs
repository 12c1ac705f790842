//! Instrumentation: the events of diesel-async's own connections.

use diesel::{connection::set_default_instrumentation, result::Error as DieselError, sql_query};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
};

use crate::{events::*, support::*};

/// A bit of everything.
async fn work(conn: &mut AsyncPgConnection) {
    insert(conn, 1).await.unwrap();
    insert(conn, 2).await.unwrap();
    conn.batch_execute("SET work_mem = '1MB'").await.unwrap();
    fail(conn).await.unwrap_err();
    conn.transaction(async |conn| {
        insert(conn, 3).await?;
        let nested = conn.transaction(async |_| Err::<(), _>(DieselError::RollbackTransaction));
        nested.await.unwrap_err();
        Ok::<_, DieselError>(())
    })
    .await
    .unwrap();
    let ended = conn
        .transaction(async |conn| {
            insert(conn, 4).await?;
            fail(conn).await
        })
        .await;
    ended.unwrap_err();
}

#[tokio::test]
async fn a_pooled_connection_tells_what_diesels_own_does() {
    let (servers, pool) = start_one(1).await;
    let mut theirs = AsyncPgConnection::establish(&servers.host_url(0).unwrap())
        .await
        .unwrap();
    let expected = Events::default();
    theirs.set_instrumentation(expected.clone());
    work(&mut theirs).await;
    let events = Events::default();
    let mut conn = pool.get().await.unwrap();
    conn.set_instrumentation(events.clone());
    work(&mut conn).await;
    let expected = expected.take();
    assert_eq!(expected.len(), 33, "{expected:#?}");
    assert_eq!(events.take(), expected);
    // It stays with its connection.
    drop(conn);
    let mut conn = pool.get().await.unwrap();
    fail(&mut conn).await.unwrap_err();
    let told = events.take();
    assert_eq!(told.last().unwrap(), "finish SELECT 1 FROM nowhere false");
}

#[tokio::test]
async fn run_tx_tells_what_diesels_transaction_does_and_the_question() {
    let (servers, pool) = start_one(1).await;
    let mut theirs = AsyncPgConnection::establish(&servers.host_url(0).unwrap())
        .await
        .unwrap();
    let expected = Events::default();
    theirs.set_instrumentation(expected.clone());
    let events = Events::default();
    let mut conn = pool.get().await.unwrap();
    conn.set_instrumentation(events.clone());
    drop(conn);
    for _ in 0..2 {
        let done = theirs.transaction(async |conn| insert(conn, 1).await);
        done.await.unwrap();
        pool.run_tx_ref(async |conn| insert(conn, 1).await)
            .await
            .unwrap();
    }
    let with_question = events.take();
    let mut without = with_question.clone();
    without.retain(|event| !event.ends_with("EVIDENCE") && !event.contains("EVIDENCE "));
    assert_eq!(without, expected.take());
    // Of the cache once.
    assert_eq!(with_question.len() - without.len(), 5, "{with_question:?}");
    let failed = theirs.transaction(async |conn| fail(conn).await).await;
    failed.unwrap_err();
    let failed = pool.run_tx_ref(async |conn| fail(conn).await).await;
    failed.unwrap_err();
    assert_eq!(events.take(), expected.take());
    is_whole(&servers, &pool).await;
}

#[tokio::test]
async fn the_default_sees_a_connection_from_its_beginning() {
    let (servers, pool) = start_one(1).await;
    set_default_instrumentation(default_events).unwrap();
    let mut conn = pool.get().await.unwrap();
    sql_query("SELECT 'a sign'")
        .execute(&mut conn)
        .await
        .unwrap();
    drop(conn);
    // Those of diesel-async that leadpool makes too.
    let theirs = pool.deadpool_pool();
    let mut conn = theirs.get().await.unwrap();
    sql_query("SELECT 'a sign'")
        .execute(&mut conn)
        .await
        .unwrap();
    let told = of_those_that_were_told("a sign");
    assert_eq!(told.len(), 2);
    let proxy = servers.proxy(0).unwrap().addr();
    for told in told {
        let connected = [
            format!("connect postgres://{proxy}"),
            "connected true".to_owned(),
        ];
        assert_eq!(told[..2], connected);
        assert_eq!(told[2], "start SELECT 'a sign'");
    }
}
