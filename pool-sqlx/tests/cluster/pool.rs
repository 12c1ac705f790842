//! What applications rely on in sqlx's own pool.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use leadpool_sqlx::{PgPoolOptions, Pool};
use leadpool_testkit::Cluster as Servers;
use sqlx::Executor as _;

use crate::support::*;

async fn start_one(options: PgPoolOptions) -> (Servers, Pool) {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    prepare(&servers).await;
    let pool = options.connect(&servers.proxied_url()).await.unwrap();
    (servers, pool)
}

async fn backend(executor: impl sqlx::PgExecutor<'_>) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(executor)
        .await
        .unwrap()
}

async fn sessions(servers: &Servers) -> i64 {
    let client = servers.connect(0).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND application_name <> 'testkit'";
    client.query_one(sql, &[]).await.unwrap().get(0)
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
async fn close_tells_those_who_wait() {
    let (_servers, pool) = start_one(PgPoolOptions::new().max_connections(1)).await;
    let conn = pool.acquire().await.unwrap();
    let (waiter, ()) = tokio::join!(soon("the waiter", pool.acquire()), async {
        tokio::task::yield_now().await;
        pool.close_within(Duration::from_millis(50)).await;
    });
    assert!(matches!(waiter, Err(sqlx::Error::PoolClosed)));
    drop(conn);
}

#[tokio::test]
async fn dropping_the_pool_ends_its_tasks_and_connections() {
    let (servers, pool) = start_one(PgPoolOptions::new()).await;
    let (a, b) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    drop(pool.pg_pool().acquire().await.unwrap());
    assert_eq!(sessions(&servers).await, 4, "three, and the monitor's");
    drop((a, b));
    drop(pool);
    until("the end of all sessions", async || {
        sessions(&servers).await == 0
    })
    .await;
}

#[tokio::test]
async fn max_lifetime_replaces_connections() {
    let options = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(Duration::from_millis(150));
    let (_servers, pool) = start_one(options).await;
    let first = backend(&pool).await;
    until("its replacement", async || backend(&pool).await != first).await;
}

#[tokio::test]
async fn idle_timeout_closes_connections() {
    let options = PgPoolOptions::new().idle_timeout(Duration::from_millis(100));
    let (_servers, pool) = start_one(options).await;
    drop(pool.acquire().await.unwrap());
    until("its end", async || pool.size() == 0).await;
}

#[tokio::test]
async fn min_connections_are_kept() {
    let (_servers, pool) = start_one(PgPoolOptions::new().min_connections(3)).await;
    until("three connections", async || pool.num_idle() == 3).await;
}

#[tokio::test]
async fn hooks_are_called() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (connected, acquired, released) = (calls.clone(), calls.clone(), calls.clone());
    let options = PgPoolOptions::new()
        .max_connections(1)
        .after_connect(move |conn, _| {
            connected.lock().unwrap().push("connected");
            Box::pin(async move {
                conn.execute("SET application_name = 'hooked'").await?;
                Ok(())
            })
        })
        .before_acquire(move |_, _| {
            acquired.lock().unwrap().push("acquired");
            Box::pin(async { Ok(true) })
        })
        .after_release(move |_, _| {
            released.lock().unwrap().push("released");
            Box::pin(async { Ok(true) })
        });
    let (_servers, pool) = start_one(options).await;
    for _ in 0..2 {
        let mut conn = pool.acquire().await.unwrap();
        let name: String = sqlx::query_scalar("SHOW application_name")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        assert_eq!(name, "hooked");
        drop(conn);
        until("its return", async || pool.num_idle() == 1).await;
    }
    assert!(pool.try_acquire().is_none(), "it would pass by the hook");
    let expected = ["connected", "released", "acquired", "released"];
    assert_eq!(*calls.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_hook_that_refuses_an_idle_connection_has_it_replaced() {
    let options = PgPoolOptions::new()
        .max_connections(1)
        .before_acquire(|_, _| Box::pin(async { Ok(false) }));
    let (_servers, pool) = start_one(options).await;
    let first = backend(&pool).await;
    until("its return", async || pool.num_idle() == 1).await;
    assert_ne!(backend(&pool).await, first);
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
            let first = std::future::poll_fn(|cx| Poll::Ready(getting.as_mut().poll(cx))).await;
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
async fn those_who_wait_for_a_writer_keep_their_order() {
    let (servers, pool) = start_as(PgPoolOptions::new().max_connections(1)).await;
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (mine, served) = (pool.clone(), served.clone());
        tasks.push(tokio::spawn(async move {
            let mut conn = mine.acquire().await.unwrap();
            served.lock().unwrap().push(number);
            conn.execute("SELECT 1").await.unwrap();
        }));
        until("the place in the queue", async || {
            pool.status().waiting_for_writer > number
        })
        .await;
    }
    servers.failover().await.unwrap();
    for task in tasks {
        soon("a waiter", task).await.unwrap();
    }
    assert_eq!(*served.lock().unwrap(), (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_pool_times_out_as_sqlxs_does() {
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
async fn an_idle_connection_is_handed_out_without_a_round_trip_unless_asked_for() {
    for (test, allowed) in [(false, 0..=1), (true, 10..=11)] {
        let options = PgPoolOptions::new()
            .max_connections(1)
            .test_before_acquire(test);
        let (servers, pool) = start_one(options).await;
        drop(pool.acquire().await.unwrap());
        let mut counted = 0;
        for _ in 0..10 {
            until("its return", async || pool.num_idle() == 1).await;
            let before = servers.proxy(0).unwrap().turns();
            let conn = pool.acquire().await.unwrap();
            counted += servers.proxy(0).unwrap().turns() - before;
            drop(conn);
        }
        assert!(allowed.contains(&counted), "{test}: {counted}");
    }
}

#[tokio::test]
async fn connects_are_capped() {
    let options = PgPoolOptions::new()
        .max_connections(16)
        .configure(|config| config.max_concurrent_connects(2));
    let (servers, pool) = start_one(options).await;
    let host = servers.proxy(0).unwrap();
    let each = Duration::from_millis(20);
    host.delay(each, each);
    let before = host.connections();
    let held = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for _ in 0..12 {
        let (pool, held) = (pool.clone(), held.clone());
        tasks.push(tokio::spawn(async move {
            let conn = pool.acquire().await.unwrap();
            held.lock().unwrap().push(conn);
        }));
    }
    let mut most = 0;
    soon("all connections", async {
        while held.lock().unwrap().len() < 12 {
            let open = host.connections() - before;
            most = most.max(open.saturating_sub(held.lock().unwrap().len()));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // One more may have been counted just before it was handed out.
    assert!((1..=3).contains(&most), "{most} at the same time");
}
