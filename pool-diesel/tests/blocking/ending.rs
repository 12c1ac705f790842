//! Pauses, drains, and the end of a pool, in both worlds.

use std::{
    sync::{Arc, Barrier, mpsc},
    thread,
    time::Duration,
};

use diesel::{PgConnection, RunQueryDsl as _};
use leadpool_diesel::{
    blocking::{Error, InteractPool, Pool},
    leadpool,
};

use crate::support::*;

fn is_closed(error: &Error) -> bool {
    matches!(error, Error::Pool(leadpool::Error::Closed))
}

fn sleep(conn: &mut PgConnection, seconds: f64) -> diesel::QueryResult<usize> {
    diesel::sql_query(format!("SELECT pg_sleep({seconds:?})")).execute(conn)
}

#[tokio::test]
async fn a_pause_makes_threads_wait_until_it_ends() {
    let (_servers, pool) = start().await;
    blocking(move || {
        let held = pool.get().unwrap();
        let pause = pool.pause(Duration::ZERO).unwrap();
        assert_eq!((pause.in_use(), pool.is_paused()), (1, true));
        drop(held);
        let pause_too = pool.pause(Duration::from_secs(10)).unwrap();
        assert_eq!(pause_too.in_use(), 0);
        assert!(pool.try_get().is_none());
        pool.get_timeout(Duration::from_millis(100)).unwrap_err();
        drop(pause);
        assert!(pool.is_paused());
        let (told, waiting) = mpsc::channel();
        let there = pool.clone();
        let waiter = thread::spawn(move || told.send(there.get().map(drop)).unwrap());
        pool.resume();
        let got = waiting.recv_timeout(Duration::from_secs(20)).unwrap();
        got.unwrap();
        waiter.join().unwrap();
        assert!(!pool.is_paused());
    })
    .await;
}

#[tokio::test]
async fn a_drain_brings_synchronous_transactions_to_their_end() {
    let (servers, pool) = start().await;
    blocking(move || {
        let begun = Arc::new(Barrier::new(2));
        let (there, begins) = (pool.clone(), begun.clone());
        let running = thread::spawn(move || {
            there.run_tx(|conn| {
                begins.wait();
                sleep(conn, 0.2)?;
                insert(conn)
            })
        });
        begun.wait();
        pool.drain(Duration::from_secs(10));
        running.join().unwrap().unwrap();
        assert!(is_closed(&pool.get().unwrap_err()));
        // Once more does no harm.
        pool.drain(Duration::from_secs(10));
        pool.close();
        assert!(is_closed(&pool.pause(Duration::ZERO).unwrap_err()));
    })
    .await;
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn closing_waits_for_nothing_and_what_is_in_use_finishes() {
    let (servers, pool) = start_as(Pool::builder()).await;
    blocking(move || {
        let mut held = pool.get().unwrap();
        pool.close();
        assert!(pool.is_closed() && is_closed(&pool.get().unwrap_err()));
        insert(&mut held).unwrap();
    })
    .await;
    assert_eq!(rows(&servers).await, 1);
}

async fn start_interacting() -> (leadpool_testkit::Cluster, InteractPool) {
    let servers = leadpool_testkit::Cluster::start().await.unwrap();
    prepare(&servers).await;
    let pool = InteractPool::connect(&servers.url()).await.unwrap();
    (servers, pool)
}

#[tokio::test]
async fn a_switchover_within_a_pause_costs_no_error() {
    let (servers, pool) = start_interacting().await;
    drop(pool.get().await.unwrap());
    let pause = soon("the pause", pool.pause(Duration::from_secs(5))).await;
    assert_eq!(pause.in_use(), 0);
    let there = pool.clone();
    let waiting = tokio::spawn(async move {
        let conn = there.get().await.unwrap();
        conn.interact(port).await.unwrap()
    });
    servers.switchover(1).await.unwrap();
    assert!(pool.is_paused() && !waiting.is_finished());
    let briefly = Duration::from_millis(100);
    pool.get_within(briefly).await.unwrap_err();
    pause.resume();
    let found = soon("the checkout", waiting).await.unwrap();
    assert_eq!(found, port_of(&servers, 1));
}

#[tokio::test]
async fn a_drain_brings_transactions_to_their_end() {
    let (servers, pool) = start_interacting().await;
    let there = pool.clone();
    let running = tokio::spawn(async move {
        let run = there.try_run_tx(|conn| {
            sleep(conn, 0.3)?;
            Ok::<_, Error>(insert(conn)?)
        });
        run.await.unwrap();
    });
    runs(&servers, 0, "pg_sleep(0.3)").await;
    soon("the drain", pool.drain(Duration::from_secs(10))).await;
    running.await.unwrap();
    assert_eq!(rows(&servers).await, 1);
    assert!(is_closed(&pool.get().await.unwrap_err()));
}

#[tokio::test]
async fn closing_ends_what_hangs_only_where_a_time_is_set() {
    let (servers, pool) = start_interacting().await;
    let (finite, endless) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let finishing = tokio::spawn(async move { finite.interact(|conn| sleep(conn, 0.3)).await });
    let hanging = tokio::spawn(async move { endless.interact(|conn| sleep(conn, 3600.0)).await });
    runs(&servers, 0, "pg_sleep(0.3)").await;
    runs(&servers, 0, "pg_sleep(3600.0)").await;
    pool.close();
    assert!(is_closed(&pool.get().await.unwrap_err()));
    let slept = soon("the statement", finishing).await.unwrap();
    slept.unwrap().unwrap();
    soon("the close", pool.close_within(Duration::from_millis(50))).await;
    let slept = soon("the other statement", hanging).await.unwrap();
    slept.unwrap().unwrap_err();
}

#[tokio::test]
async fn the_size_may_change() {
    let (_servers, pool) = start_interacting().await;
    pool.resize(1);
    let held = pool.get().await.unwrap();
    pool.get_within(Duration::from_millis(100))
        .await
        .unwrap_err();
    pool.resize(2);
    let other = soon("a second connection", pool.get()).await.unwrap();
    drop((held, other));
}
