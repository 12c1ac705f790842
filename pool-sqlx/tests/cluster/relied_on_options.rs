//! What applications rely on in the options of sqlx's own pool. Each test runs on both, as those of
//! `relied_on.rs`.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use log::LevelFilter;
use sqlx::Executor as _;

use super::{PgPoolOptions, Pool, relied_on::start_one};
use crate::support::*;

#[tokio::test]
async fn every_option_is_told_back() {
    let seconds = Duration::from_secs;
    let options = PgPoolOptions::default()
        .max_connections(7)
        .min_connections(0)
        .acquire_timeout(seconds(4))
        .acquire_time_level(LevelFilter::Off)
        .acquire_slow_level(LevelFilter::Warn)
        .acquire_slow_threshold(seconds(3))
        .max_lifetime(seconds(500))
        .idle_timeout(None)
        .test_before_acquire(true);
    let pool: Pool = options.connect_lazy("postgres://u@127.0.0.1:1/x").unwrap();
    let options = pool.options();
    assert_eq!(options.get_max_connections(), 7);
    assert_eq!(options.get_min_connections(), 0);
    assert_eq!(options.get_acquire_timeout(), seconds(4));
    assert_eq!(options.get_acquire_slow_threshold(), seconds(3));
    assert_eq!(options.get_max_lifetime(), Some(seconds(500)));
    assert_eq!(options.get_idle_timeout(), None);
    assert!(options.get_test_before_acquire());
}

#[tokio::test]
async fn min_connections_are_kept() {
    let (_servers, pool) = start_one(PgPoolOptions::new().min_connections(3)).await;
    until("three connections", async || pool.num_idle() == 3).await;
}

#[tokio::test]
async fn idle_timeout_closes_connections() {
    let options = PgPoolOptions::new().idle_timeout(Duration::from_millis(100));
    let (_servers, pool) = start_one(options).await;
    drop(pool.acquire().await.unwrap());
    until("its end", async || pool.size() == 0).await;
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
async fn max_lifetime_ends_nothing_that_is_in_use() {
    let lifetime = Duration::from_millis(100);
    let options = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(lifetime);
    let (_servers, pool) = start_one(options).await;
    let mut tx = pool.begin().await.unwrap();
    let first = backend(&mut *tx).await;
    // Beyond its life by the server's clock.
    let age = "SELECT clock_timestamp() > backend_start + interval '0.3 s' \
               FROM pg_stat_get_activity(pg_backend_pid())";
    until("its age", async || {
        sqlx::query_scalar(age).fetch_one(&mut *tx).await.unwrap()
    })
    .await;
    assert_eq!(backend(&mut *tx).await, first);
    tx.commit().await.unwrap();
    assert_ne!(backend(&pool).await, first);
}

#[tokio::test]
async fn an_error_of_after_connect_has_another_connection_opened() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let options = PgPoolOptions::new()
        .max_connections(1)
        .after_connect(move |_, _| {
            let call = counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                match call {
                    0..2 => Err(sqlx::Error::Protocol("not yet".into())),
                    _ => Ok(()),
                }
            })
        });
    let (_servers, pool) = start_one(options).await;
    soon("a statement", pool.execute("SELECT 1")).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert_eq!(pool.size(), 1);
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
async fn after_release_may_close_a_connection() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let options = PgPoolOptions::new()
        .max_connections(1)
        .after_release(move |conn, meta| {
            let told = told.clone();
            Box::pin(async move {
                let used = (backend(conn).await, meta.idle_for);
                told.lock().unwrap().push(used);
                Ok(false)
            })
        });
    let (_servers, pool) = start_one(options).await;
    let mut used = Vec::new();
    for _ in 0..3 {
        let mut conn = soon("a connection", pool.acquire()).await.unwrap();
        used.push((backend(&mut *conn).await, Duration::ZERO));
    }
    until("the end of the last", async || pool.size() == 0).await;
    assert_eq!(*seen.lock().unwrap(), used);
    used.dedup();
    assert_eq!(used.len(), 3, "a new one each time");
}
