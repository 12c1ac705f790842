//! What applications rely on in a pool of diesel-async's. Each test runs on its own, and on all
//! that stand in for it: see `main.rs`.

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _,
    pooled_connection::deadpool::{Object, PoolError},
};
use futures_util::FutureExt as _;
use leadpool_diesel::diesel_async;
use leadpool_testkit::Cluster as Servers;

use super::{Pool, gauges, open};
use crate::{pools::Gauges, support::*};

const LONG: Duration = Duration::from_secs(20);

async fn start_waiting(size: usize, wait: Duration) -> (Servers, Pool) {
    let one = Servers::builder().standbys(0).proxies(true);
    let servers = one.start().await.unwrap();
    prepare(&servers).await;
    let pool = open(&servers, size, wait).await;
    (servers, pool)
}

async fn start(size: usize) -> (Servers, Pool) {
    start_waiting(size, LONG).await
}

async fn take(pool: &Pool) -> Object<AsyncPgConnection> {
    soon("a connection", pool.get()).await.unwrap()
}

#[tokio::test]
async fn a_connection_comes_back_and_is_handed_out_again() {
    let (_servers, pool) = start(4).await;
    let empty = Gauges {
        max_size: 4,
        size: 0,
        idle: 0,
        waiting: 0,
    };
    assert_eq!(gauges(&pool), empty);
    let mut conn = take(&pool).await;
    let first = backend(&mut conn).await;
    assert_eq!((gauges(&pool).size, gauges(&pool).idle), (1, 0));
    drop(conn);
    assert_eq!((gauges(&pool).size, gauges(&pool).idle), (1, 1));
    for _ in 0..3 {
        assert_eq!(backend(&mut *take(&pool).await).await, first);
    }
    assert_eq!(gauges(&pool).size, 1);
}

#[tokio::test]
async fn nobody_waits_longer_than_the_timeout() {
    let (_servers, pool) = start_waiting(1, Duration::from_millis(200)).await;
    let held = take(&pool).await;
    let error = refusal(soon("the timeout", pool.get()).await);
    assert!(
        matches!(
            error,
            PoolError::Timeout(deadpool::managed::TimeoutType::Wait)
        ),
        "{error:?}"
    );
    drop(held);
    drop(take(&pool).await);
}

#[tokio::test]
async fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    let (servers, pool) = start(2).await;
    let held = [take(&pool).await, take(&pool).await];
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (mine, served) = (pool.clone(), served.clone());
        tasks.push(tokio::spawn(async move {
            let mut conn = mine.get().await.unwrap();
            served.lock().unwrap().push(number);
            insert(&mut conn, number).await.unwrap();
            assert!(gauges(&mine).size <= 2);
        }));
        let place = usize::try_from(number).unwrap() + 1;
        until("the place in the queue", async || {
            gauges(&pool).waiting == place
        })
        .await;
    }
    let [first, second] = held;
    drop(first);
    for task in tasks {
        soon("a waiter", task).await.unwrap();
    }
    drop(second);
    assert_eq!(*served.lock().unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(rows(&servers).await, 20);
}

#[tokio::test]
async fn who_gives_up_leaves_the_place_to_the_next() {
    let (_servers, pool) = start(1).await;
    let held = take(&pool).await;
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(pool.get())).collect();
    for waiter in &mut waiting {
        let first = poll_fn(|cx| Poll::Ready(waiter.as_mut().poll(cx).is_pending())).await;
        assert!(first);
    }
    // The first, while it waits; and the next when it has been let on already.
    drop(waiting.remove(0));
    drop(held);
    drop(waiting.remove(0));
    drop(soon("the last", waiting.remove(0)).await.unwrap());
}

#[tokio::test]
async fn get_dropped_at_every_moment() {
    let (servers, pool) = start(2).await;
    let each = Duration::from_millis(3);
    servers.proxy(0).unwrap().delay(each, each);
    // While connecting, and while queueing behind two that are held.
    for held in [0, 2] {
        let mut out = Vec::new();
        for _ in 0..held {
            out.push(take(&pool).await);
        }
        for micros in (0..25_000).step_by(500) {
            drop(tokio::time::timeout(Duration::from_micros(micros), pool.get()).await);
        }
    }
    drop((take(&pool).await, take(&pool).await));
    assert!(gauges(&pool).size <= 2);
}

async fn forever(conn: &mut AsyncPgConnection) -> diesel::QueryResult<()> {
    insert(conn, 1).await?;
    std::future::pending().await
}

#[tokio::test]
async fn a_connection_with_an_open_transaction_is_closed() {
    let (servers, pool) = start(1).await;
    // Begun by hand; and dropped in its midst, at the outer level and at an inner one.
    for depth in 0..3 {
        let mut conn = take(&pool).await;
        let first = backend(&mut conn).await;
        let short = Duration::from_millis(100);
        match depth {
            0 => {
                use diesel_async::{AnsiTransactionManager, TransactionManager as _};
                AnsiTransactionManager::begin_transaction(&mut *conn)
                    .await
                    .unwrap();
                insert(&mut conn, 1).await.unwrap();
            }
            1 => drop(
                tokio::time::timeout(short, conn.transaction(async |conn| forever(conn).await))
                    .await,
            ),
            _ => {
                let outer = conn
                    .transaction(async |conn| conn.transaction(async |c| forever(c).await).await);
                drop(tokio::time::timeout(short, outer).await);
            }
        }
        drop(conn);
        assert_ne!(backend(&mut *take(&pool).await).await, first, "{depth}");
    }
    no_open_transactions(&servers).await;
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn a_begin_that_is_dropped_in_flight_closes_the_connection() {
    let (servers, pool) = start(1).await;
    let mut conn = take(&pool).await;
    let first = backend(&mut conn).await;
    {
        let mut beginning = pin!(conn.transaction(async |conn| insert(conn, 1).await));
        let begun = poll_fn(|cx| Poll::Ready(beginning.as_mut().poll(cx).is_pending())).await;
        assert!(begun);
    }
    drop(conn);
    assert_ne!(backend(&mut *take(&pool).await).await, first);
    no_open_transactions(&servers).await;
}

#[tokio::test]
async fn what_diesel_knows_nothing_of_is_handed_on() {
    let (_servers, pool) = start(1).await;
    let mut conn = take(&pool).await;
    conn.batch_execute("SET app.tenant = '7'; BEGIN; INSERT INTO t (n) VALUES (1)")
        .await
        .unwrap();
    drop(conn);
    let mut conn = take(&pool).await;
    let tenant = text(&mut conn, "current_setting('app.tenant')").await;
    assert_eq!(tenant, "7");
    assert_eq!(number(&mut conn, "(SELECT count(*) FROM t)").await, 1);
    conn.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_panic_rolls_back_and_gives_the_place_back() {
    let (servers, pool) = start(1).await;
    for in_transaction in [false, true] {
        let panicking = async {
            let mut conn = take(&pool).await;
            if !in_transaction {
                insert(&mut conn, 1).await.unwrap();
                panic!("as a handler may");
            }
            conn.transaction(async |conn| {
                insert(conn, 2).await?;
                panic!("as a handler may");
                #[expect(unreachable_code, reason = "says the type")]
                diesel::QueryResult::Ok(())
            })
            .await
        };
        let caught = AssertUnwindSafe(panicking).catch_unwind().await;
        assert!(caught.is_err());
        let mut conn = take(&pool).await;
        assert!(insert_none(&mut conn).await.is_ok());
    }
    no_open_transactions(&servers).await;
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn a_taken_connection_frees_its_place() {
    let (servers, pool) = start(1).await;
    let mut own = Object::take(take(&pool).await);
    assert_eq!(gauges(&pool).size, 0);
    insert(&mut *take(&pool).await, 1).await.unwrap();
    pool.close();
    insert(&mut own, 2).await.unwrap();
    assert_eq!(rows(&servers).await, 2);
}

#[tokio::test]
async fn close_refuses_those_who_wait_and_lets_finish_what_is_in_use() {
    let (servers, pool) = start(1).await;
    let mut conn = take(&pool).await;
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { refusal(pool.get().await) }
    });
    until("the waiter", async || gauges(&pool).waiting == 1).await;
    pool.close();
    assert!(pool.clone().is_closed());
    let error = soon("the refusal", waiter).await.unwrap();
    assert!(matches!(error, PoolError::Closed), "{error:?}");
    let error = refusal(pool.get().await);
    assert!(matches!(error, PoolError::Closed), "{error:?}");
    // It goes on.
    conn.transaction(async |conn| insert(conn, 1).await)
        .await
        .unwrap();
    drop(conn);
    assert_eq!(rows(&servers).await, 1);
    drop(pool);
    no_sessions(&servers).await;
}

#[tokio::test]
async fn a_connection_outlives_the_pools_handles() {
    let (servers, pool) = start(1).await;
    let mut conn = take(&pool).await;
    drop(pool);
    insert(&mut conn, 1).await.unwrap();
    drop(conn);
    assert_eq!(rows(&servers).await, 1);
    no_sessions(&servers).await;
}

#[tokio::test]
async fn a_pool_that_grows_lets_on_who_waits() {
    let (_servers, pool) = start(1).await;
    let held = take(&pool).await;
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await.unwrap() }
    });
    until("the waiter", async || gauges(&pool).waiting == 1).await;
    pool.resize(2);
    let mut second = soon("the waiter", waiter).await.unwrap();
    assert!(insert_none(&mut second).await.is_ok());
    assert_eq!((gauges(&pool).max_size, gauges(&pool).size), (2, 2));
    drop((held, second));
}

#[tokio::test]
async fn a_pool_that_shrinks_closes_what_is_too_much() {
    let (_servers, pool) = start(3).await;
    let held = [take(&pool).await, take(&pool).await, take(&pool).await];
    pool.resize(1);
    assert_eq!(gauges(&pool).max_size, 1);
    drop(held);
    assert!(gauges(&pool).size <= 1);
    let one = take(&pool).await;
    {
        let mut another = pin!(pool.get());
        assert!(poll_fn(|cx| Poll::Ready(another.as_mut().poll(cx).is_pending())).await);
    }
    drop(one);
}

#[tokio::test]
async fn idle_connections_that_the_server_ended_are_replaced() {
    let (servers, pool) = start(2).await;
    let mut both = (take(&pool).await, take(&pool).await);
    let before = [backend(&mut both.0).await, backend(&mut both.1).await];
    drop(both);
    servers.terminate_backends(0).await.unwrap();
    // It is noticed a moment later.
    until("the end of the old ones", async || {
        !backends(&servers)
            .await
            .iter()
            .any(|pid| before.contains(pid))
    })
    .await;
    until("a new connection", async || {
        let mut conn = take(&pool).await;
        insert_none(&mut conn).await.is_ok()
    })
    .await;
    assert!(!before.contains(&backend(&mut *take(&pool).await).await));
}
