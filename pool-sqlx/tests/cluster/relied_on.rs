//! What applications rely on in sqlx's own pool. Each test runs on both, sqlx's and leadpool's: see
//! `main.rs`.

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt as _;
use leadpool_testkit::Cluster as Servers;
use sqlx::{Acquire as _, Connection as _, Executor as _, PgConnection};

use super::{PgPoolOptions, Pool};
use crate::support::*;

pub(crate) async fn start_one(options: PgPoolOptions) -> (Servers, Pool) {
    let servers = one_server().await;
    let pool = options.connect(&servers.proxied_url()).await.unwrap();
    (servers, pool)
}

/// A pool of one place.
async fn start_narrow() -> (Servers, Pool) {
    start_one(PgPoolOptions::new().max_connections(1)).await
}

async fn insert(conn: &mut PgConnection, n: i64) {
    sqlx::query("INSERT INTO t (n) VALUES ($1)")
        .bind(n)
        .execute(conn)
        .await
        .unwrap();
}

#[tokio::test]
async fn acquire_dropped_at_every_moment() {
    let (servers, pool) = start_one(PgPoolOptions::new().max_connections(2)).await;
    let each = Duration::from_millis(3);
    servers.proxy(0).unwrap().delay(each, each);
    // While connecting, and while queueing behind two that are held.
    for held in [0, 2] {
        let mut out = Vec::new();
        for _ in 0..held {
            out.push(pool.acquire().await.unwrap());
        }
        for micros in (0..25_000).step_by(500) {
            drop(tokio::time::timeout(Duration::from_micros(micros), pool.acquire()).await);
        }
    }
    let both = async { (pool.acquire().await.unwrap(), pool.acquire().await.unwrap()) };
    drop(soon("all connections", both).await);
    assert!(pool.size() <= 2);
}

#[tokio::test]
async fn a_cancelled_statement_disturbs_nobody() {
    let (_servers, pool) = start_one(PgPoolOptions::new().max_connections(1)).await;
    let slow = sqlx::query("SELECT pg_sleep(0.3)").execute(&pool);
    drop(tokio::time::timeout(Duration::from_millis(100), slow).await);
    let n: i32 = soon("the next", sqlx::query_scalar("SELECT 7").fetch_one(&pool))
        .await
        .unwrap();
    assert_eq!(n, 7);
}

#[tokio::test]
async fn a_full_pool_times_out() {
    let options = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_millis(300));
    let (_servers, pool) = start_one(options).await;
    let conn = pool.acquire().await.unwrap();
    let error = pool.acquire().await.unwrap_err();
    assert!(matches!(error, sqlx::Error::PoolTimedOut), "{error}");
    drop(conn);
    pool.acquire().await.unwrap();
}

#[tokio::test]
async fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    let (_servers, pool) = start_one(PgPoolOptions::new().max_connections(1)).await;
    let conn = pool.acquire().await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (mine, served) = (pool.clone(), served.clone());
        let begun = Arc::new(AtomicU32::new(0));
        let tell = begun.clone();
        tasks.push(tokio::spawn(async move {
            let mut getting = Box::pin(mine.acquire());
            // One poll puts it into the queue.
            let first = poll_fn(|cx| Poll::Ready(getting.as_mut().poll(cx))).await;
            assert!(first.is_pending());
            tell.store(1, Ordering::SeqCst);
            let mut conn = getting.await.unwrap();
            served.lock().unwrap().push(number);
            conn.execute("SELECT 1").await.unwrap();
        }));
        until("the place in the queue", async || {
            begun.load(Ordering::SeqCst) == 1
        })
        .await;
    }
    drop(conn);
    for task in tasks {
        soon("a waiter", task).await.unwrap();
    }
    assert_eq!(*served.lock().unwrap(), (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_gives_up_leaves_the_place_to_the_next() {
    let (_servers, pool) = start_narrow().await;
    let conn = pool.acquire().await.unwrap();
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(pool.acquire())).collect();
    for waiter in &mut waiting {
        let first = poll_fn(|cx| Poll::Ready(waiter.as_mut().poll(cx))).await;
        assert!(first.is_pending());
    }
    // The first, while it waits; and the next when it has been let on already.
    drop(waiting.remove(0));
    drop(conn);
    until("its return", async || pool.num_idle() == 1).await;
    drop(waiting.remove(0));
    drop(soon("the last", waiting.remove(0)).await.unwrap());
}

#[tokio::test]
async fn who_comes_by_does_not_overtake() {
    let (_servers, pool) = start_narrow().await;
    for _ in 0..20 {
        let conn = pool.acquire().await.unwrap();
        let mut waiter = Box::pin(pool.acquire());
        assert!(
            poll_fn(|cx| Poll::Ready(waiter.as_mut().poll(cx)))
                .await
                .is_pending()
        );
        let waiter = tokio::spawn(waiter);
        drop(conn);
        while !waiter.is_finished() {
            assert!(pool.try_acquire().is_none());
            tokio::task::yield_now().await;
        }
        drop(waiter.await.unwrap().unwrap());
        until("its return", async || pool.num_idle() == 1).await;
    }
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back() {
    let (servers, pool) = start_one(PgPoolOptions::new().max_connections(1)).await;
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO t (n) VALUES (1)")
        .execute(&mut *tx)
        .await
        .unwrap();
    drop(tx);
    // The same connection, and nothing of it is left.
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM t")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(n, 0);
    no_open_transactions(&servers).await;
}

#[tokio::test]
async fn a_dropped_savepoint_takes_its_own_back_only() {
    let (servers, pool) = start_narrow().await;
    let mut tx = pool.begin().await.unwrap();
    insert(&mut tx, 1).await;
    let mut nested = tx.begin().await.unwrap();
    insert(&mut nested, 2).await;
    drop(nested);
    insert(&mut tx, 3).await;
    tx.commit().await.unwrap();
    let numbers: Vec<i64> = sqlx::query_scalar("SELECT n FROM t ORDER BY n")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(numbers, [1, 3]);
    no_open_transactions(&servers).await;
}

#[tokio::test]
async fn a_panic_rolls_back_and_gives_the_place_back() {
    let (servers, pool) = start_narrow().await;
    let panicking = async {
        let mut tx = pool.begin().await.unwrap();
        insert(&mut tx, 1).await;
        panic!("as a handler may");
    };
    let caught: Result<(), _> = AssertUnwindSafe(panicking).catch_unwind().await;
    assert!(caught.is_err());
    drop(soon("its place", pool.acquire()).await.unwrap());
    no_open_transactions(&servers).await;
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn close_waits_for_what_is_checked_out() {
    let (servers, pool) = start_one(PgPoolOptions::new()).await;
    let mut conn = pool.acquire().await.unwrap();
    drop(pool.acquire().await.unwrap());
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    until("the close", async || pool.is_closed()).await;
    let error = pool.acquire().await.unwrap_err();
    assert!(matches!(error, sqlx::Error::PoolClosed), "{error}");
    assert!(pool.try_acquire().is_none());
    // It goes on working.
    conn.execute("INSERT INTO t (n) VALUES (1)").await.unwrap();
    assert!(!closing.is_finished());
    drop(conn);
    soon("the close", closing).await.unwrap();
    until("the end of all sessions", async || {
        sessions(&servers).await == 0
    })
    .await;
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn a_transaction_that_is_open_at_the_close_may_commit() {
    let (servers, pool) = start_one(PgPoolOptions::new()).await;
    let mut tx = pool.begin().await.unwrap();
    insert(&mut tx, 1).await;
    // Closed by the call, for all handles.
    let closing = pool.close();
    assert!(pool.clone().is_closed());
    let error = pool.execute("SELECT 1").await.unwrap_err();
    assert!(matches!(error, sqlx::Error::PoolClosed), "{error}");
    assert!(matches!(pool.begin().await, Err(sqlx::Error::PoolClosed)));
    let ((), ()) = soon("the close", async {
        tokio::join!(closing, async {
            insert(&mut tx, 2).await;
            tx.commit().await.unwrap();
        })
    })
    .await;
    assert_eq!(rows(&servers).await, 2);
    // Again, it is no mistake.
    soon("the second close", pool.close()).await;
}

#[tokio::test]
async fn a_connection_outlives_the_pools_handles() {
    let (servers, pool) = start_one(PgPoolOptions::new()).await;
    let mut conn = pool.acquire().await.unwrap();
    drop(pool);
    insert(&mut conn, 1).await;
    drop(conn);
    assert_eq!(rows(&servers).await, 1);
    until("its end", async || sessions(&servers).await == 0).await;
}

#[tokio::test]
async fn a_detached_connection_frees_its_place() {
    let (servers, pool) = start_narrow().await;
    let mut own = pool.acquire().await.unwrap().detach();
    assert_eq!(pool.size(), 0);
    let mut conn = soon("the place", pool.acquire()).await.unwrap();
    insert(&mut conn, 1).await;
    conn.close().await.unwrap();
    until("the free place", async || pool.size() == 0).await;
    let mut conn = soon("the place", pool.acquire()).await.unwrap();
    conn.close_on_drop();
    drop(conn);
    until("the free place", async || pool.size() == 0).await;
    // It goes on, also without the pool.
    pool.close().await;
    insert(&mut own, 2).await;
    own.close().await.unwrap();
    assert_eq!(rows(&servers).await, 2);
}

#[tokio::test]
async fn futures_need_no_pool_and_may_be_sent() {
    let (_servers, pool) = start_narrow().await;
    let acquiring = pool.acquire();
    let beginning = {
        let pool = pool.clone();
        async move { pool.begin().await }
    };
    drop(pool);
    let conn = soon("a connection", tokio::spawn(acquiring)).await;
    drop(conn.unwrap().unwrap());
    let tx = soon("a transaction", tokio::spawn(beginning)).await;
    tx.unwrap().unwrap().rollback().await.unwrap();
}
