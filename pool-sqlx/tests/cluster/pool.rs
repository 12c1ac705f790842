//! The pool beside what sqlx's own does too, which is in `relied_on.rs`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use leadpool_sqlx::{PgPoolOptions, Pool};
use sqlx::Executor as _;

use crate::support::*;

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

#[tokio::test]
async fn after_connect_runs_on_every_connection_of_every_host() {
    let options = PgPoolOptions::new().after_connect(|conn, _| {
        Box::pin(async move {
            conn.execute("SET application_name = 'prepared'").await?;
            Ok(())
        })
    });
    let (servers, pool) = start_as(options).await;
    let name = async |pool: &Pool| -> String {
        let sql = "SELECT current_setting('application_name')";
        sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
    };
    assert_eq!(name(&pool).await, "prepared");
    assert_ne!(port(&pool.reader()).await, port_of(&servers, 0));
    assert_eq!(name(&pool.reader()).await, "prepared");
    servers.switchover(1).await.unwrap();
    follows(&servers, &pool, 1).await;
    assert_eq!(name(&pool).await, "prepared");
}

/// sqlx's own pool hands out the connection in the transaction that nobody knows of.
#[tokio::test]
async fn a_begin_that_is_dropped_in_flight_is_rolled_back() {
    let (servers, pool) = start_one(PgPoolOptions::new().max_connections(1)).await;
    drop(pool.acquire().await.unwrap());
    let host = servers.proxy(0).unwrap();
    let each = Duration::from_millis(30);
    host.delay(each, each);
    for number in 0..4 {
        until("its return", async || pool.num_idle() == 1).await;
        let before = host.turns();
        let begun = async {
            match number {
                0 => pool.begin().await.map(Some),
                1 => pool.begin_with("BEGIN READ ONLY").await.map(Some),
                2 => pool.try_begin().await,
                _ => pool.try_begin_with("BEGIN READ ONLY").await,
            }
        };
        tokio::select! {
            begun = begun => panic!("{number}: answered already: {begun:?}"),
            () = until("BEGIN on its way", async || host.turns() > before) => {}
        }
        let insert = pool.execute("INSERT INTO t (n) VALUES (1)");
        soon("the next", insert).await.unwrap();
        assert_eq!(rows(&servers).await, number + 1);
        no_open_transactions(&servers).await;
    }
}

#[tokio::test]
async fn begin_dropped_at_every_moment() {
    let (servers, pool) = start_one(PgPoolOptions::new().max_connections(2)).await;
    let each = Duration::from_millis(2);
    servers.proxy(0).unwrap().delay(each, each);
    for micros in (0..20_000).step_by(400) {
        let begun = tokio::time::timeout(Duration::from_micros(micros), pool.begin()).await;
        if let Ok(tx) = begun {
            tx.unwrap()
                .execute("INSERT INTO t (n) VALUES (1)")
                .await
                .unwrap();
        }
    }
    no_open_transactions(&servers).await;
    // Whatever was left is no part of the next one's.
    let mut conn = soon("a connection", pool.acquire()).await.unwrap();
    conn.execute("INSERT INTO t (n) VALUES (2)").await.unwrap();
    drop(conn);
    assert_eq!(rows(&servers).await, 1);
}
