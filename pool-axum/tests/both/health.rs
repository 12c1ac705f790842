//! Liveness, readiness, the status.

use std::time::Duration;

use leadpool::Pool;

use super::*;
use crate::support::{
    web::{Health, Readiness},
    *,
};

#[crate::support::test]
async fn readiness_follows_the_cluster_and_liveness_does_not() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let writes = health_of(Health::new(pool.clone())).await;
    let reads = health_of(Health::new(pool.clone()).ready_with(Readiness::Reads)).await;
    for app in [&writes, &reads] {
        let ready = get(app, "/health/ready").await;
        assert_eq!(ready.status, 200);
        assert_eq!(ready.json()["ready"], true);
        assert_eq!(ready.header("cache-control"), Some("no-store"));
        assert_eq!(get(app, "/health/live").await.json()["live"], true);
    }
    servers.kill(0).await.unwrap();
    until("the loss of the writer", async || {
        get(&writes, "/health/ready").await.status == 503
    })
    .await;
    let refused = get(&writes, "/health/ready").await;
    refused.assert_problem(503, "unavailable", &servers);
    until("a standby", async || {
        get(&reads, "/health/ready").await.status == 200
    })
    .await;
    assert_eq!(get(&writes, "/health/live").await.status, 200);
    servers.failover().await.unwrap();
    until("the next writer", async || {
        get(&writes, "/health/ready").await.status == 200
    })
    .await;
    for host in 0..servers.hosts() {
        servers.kill(host).await.unwrap();
    }
    until("the loss of all", async || {
        get(&reads, "/health/ready").await.status == 503
    })
    .await;
    assert_eq!(get(&reads, "/health/live").await.status, 200);
    let head = send(&reads, Asked::new("HEAD", "/health/live")).await;
    assert_eq!(head.status, 200);
}

#[crate::support::test]
async fn a_pool_that_is_closed_is_not_ready_and_one_that_is_paused_is() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let app = health_of(Health::new(pool.clone())).await;
    let pause = pool.pause(Duration::from_secs(5)).await;
    assert_eq!(get(&app, "/health/ready").await.status, 200);
    drop(pause);
    pool.drain(Duration::from_secs(5)).await;
    assert_eq!(get(&app, "/health/ready").await.status, 503);
    assert_eq!(get(&app, "/health/live").await.status, 200);
}

#[crate::support::test]
async fn the_status_shows_only_where_that_is_wanted() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let app = health_of(Health::new(pool.clone()).with_status()).await;
    let shown = get(&app, "/health/status").await;
    assert_eq!(shown.header("content-type"), Some("application/json"));
    let status = serde_json::to_value(pool.status()).unwrap();
    assert_eq!(shown.json()["writer"], status["writer"]);
    assert_eq!(shown.json()["hosts"].as_array().unwrap().len(), 3);
    let without = health_of(Health::new(pool)).await;
    assert_eq!(get(&without, "/health/status").await.status, 404);
}

#[crate::support::test]
async fn it_is_the_same_over_each_driver() {
    let servers = start().await;
    let url = servers.url();
    let sqlx = leadpool_sqlx::Pool::connect(&url).await.unwrap();
    let diesel = leadpool_diesel::Pool::connect(&url).await.unwrap();
    let threads = leadpool_diesel::blocking::InteractPool::connect(&url)
        .await
        .unwrap();
    let apps = [
        health_of(Health::new(sqlx.clone())).await,
        health_of(Health::new(diesel.clone())).await,
        health_of(Health::new(threads.clone())).await,
    ];
    for app in &apps {
        assert_eq!(get(app, "/health/ready").await.status, 200);
    }
    sqlx.close().await;
    diesel.close();
    threads.close();
    for app in &apps {
        assert_eq!(get(app, "/health/ready").await.status, 503);
    }
}
