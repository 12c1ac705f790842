//! The answers of those who get no connection.

use std::time::Duration;

use leadpool::Pool;

use super::*;
use crate::{
    drivers::{apps, native_of, odd},
    support::web::Error,
};

const SHORT: Duration = Duration::from_millis(300);

#[crate::support::test]
async fn while_there_is_no_writer_who_writes_is_told_when_to_come_again() {
    let servers = start().await;
    let url = servers.url() + "?checkout_timeout=300ms&tx_deadline=300ms";
    let apps = apps(&url).await;
    servers.kill(0).await.unwrap();
    for (driver, app) in apps {
        for path in ["/writer", "/tx/ok"] {
            let refused = soon(driver, post(&app, path)).await;
            refused.assert_problem(503, "unavailable", &servers);
            assert_eq!(refused.header("retry-after"), Some("2"), "{driver}");
        }
        // A connection may have to be opened first.
        until(driver, async || get(&app, "/reader").await.status == 200).await;
    }
}

#[crate::support::test]
async fn too_much_at_a_time_is_told() {
    let servers = start().await;
    let pool = pool_with(&servers, |config| {
        config.writer_size(1).checkout_timeout(SHORT)
    })
    .await;
    let held = pool.get().await.unwrap();
    let app = native_of(pool.clone()).await;
    let refused = post(&app, "/writer").await;
    refused.assert_problem(503, "overloaded", &servers);
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(held);
    assert_eq!(post(&app, "/writer").await.status, 200);
    // At once, since nobody may wait.
    let pool = pool_with(&servers, |config| {
        config.writer_size(1).max_waiting(Some(0))
    })
    .await;
    let held = pool.get().await.unwrap();
    let app = native_of(pool).await;
    let refused = soon("the refusal", post(&app, "/tx/ok")).await;
    refused.assert_problem(503, "overloaded", &servers);
    drop(held);
}

#[crate::support::test]
async fn a_pause_that_takes_too_long_is_told() {
    let servers = start().await;
    let pool = pool_with(&servers, |config| config.checkout_timeout(SHORT)).await;
    let app = native_of(pool.clone()).await;
    let pause = pool.pause(Duration::from_secs(5)).await;
    let refused = post(&app, "/writer").await;
    refused.assert_problem(503, "unavailable", &servers);
    drop(pause);
    assert_eq!(post(&app, "/writer").await.status, 200);
}

#[crate::support::test]
async fn a_closed_pool_is_told() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    pool.close(Duration::ZERO).await;
    let app = native_of(pool).await;
    for path in ["/writer", "/tx/ok"] {
        let refused = post(&app, path).await;
        refused.assert_problem(503, "unavailable", &servers);
    }
}

#[crate::support::test]
async fn a_login_that_is_refused_is_the_services_own_fault() {
    let servers = start().await;
    let pool = Pool::builder(&servers.url());
    let pool = pool.configure(|config| config.dbname("nowhere").lazy(true).checkout_timeout(SHORT));
    let answer = post(&native_of(pool.build().await.unwrap()).await, "/writer").await;
    assert!(answer.status >= 500, "{answer:?}");
    assert!(!answer.body.contains("nowhere"), "{answer:?}");
}

#[crate::support::test]
async fn errors_of_drivers_and_their_pools_have_answers_too() {
    let servers = start().await;
    let url = servers.url();
    let sqlx = leadpool_sqlx::PgPoolOptions::new();
    let sqlx = sqlx.max_connections(1).acquire_timeout(SHORT);
    let pool = sqlx.connect(&url).await.unwrap();
    let held = pool.acquire().await.unwrap();
    let error = Error::from(pool.acquire().await.unwrap_err());
    assert_eq!(error.problem().code(), "overloaded");
    drop(held);
    let wrong = sqlx::query("SELECT * FROM nothing").execute(&pool).await;
    assert_eq!(Error::from(wrong.unwrap_err()).problem().code(), "internal");
    pool.close().await;
    let error = Error::from(pool.acquire().await.unwrap_err());
    assert_eq!(error.problem().code(), "unavailable");

    let pool = leadpool_diesel::Pool::connect(&url).await.unwrap();
    pool.close();
    let error = pool.get().await.map(drop).unwrap_err();
    assert_eq!(Error::from(error).problem().code(), "unavailable");

    let pool = leadpool_diesel::blocking::InteractPool::connect(&url)
        .await
        .unwrap();
    pool.close();
    let error = pool.get().await.map(drop).unwrap_err();
    assert_eq!(Error::from(error).problem().code(), "unavailable");
}

#[crate::support::test]
async fn errors_of_run_tx_have_answers_too() {
    let servers = start().await;
    let app = odd(&servers.url()).await;
    let refused = post(&app, "/run_tx/refuse").await;
    refused.assert_problem(404, "refused", &servers);
    assert_eq!(refused.json()["detail"], "there is none");
    assert_eq!(rows(&servers).await, 0);
    post(&app, "/run_tx/deadline")
        .await
        .assert_problem(504, "deadline", &servers);
    post(&app, "/statement_timeout")
        .await
        .assert_problem(504, "deadline", &servers);
}
