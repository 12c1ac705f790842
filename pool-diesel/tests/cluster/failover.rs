//! Checkouts and statements when hosts are lost, on the pool and on all that follow the writer by
//! diesel-async's own types.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::RunQueryDsl as _;
use leadpool_diesel::{Pool, diesel_async};
use leadpool_testkit::Cluster as Servers;

use crate::{
    pools::{self, Gets},
    support::*,
};

fn is_cut_off(error: &DieselError) -> bool {
    matches!(
        error,
        DieselError::DatabaseError(DatabaseErrorKind::UnableToSendCommand, _)
    )
}

async fn idle_connections_are_dropped(servers: &Servers, pool: &impl Gets) {
    drop(pool.take().await);
    servers.switchover(1).await.unwrap();
    let mut conn = soon("a connection", pool.take()).await;
    assert_eq!(port(&mut conn).await, port_of(servers, 1));
    insert(&mut conn, 1).await.unwrap();
}

#[tokio::test]
async fn a_switchover_drops_idle_connections() {
    let (servers, pool) = start().await;
    idle_connections_are_dropped(&servers, &pool).await;
    let (servers, pool) = start().await;
    idle_connections_are_dropped(&servers, &pool.deadpool_pool()).await;
    let (servers, pool) = start().await;
    idle_connections_are_dropped(&servers, &pools::bb8(&pool, 4).await).await;
    let (servers, pool) = start().await;
    idle_connections_are_dropped(&servers, &pools::mobc(&pool, 4)).await;
}

async fn in_flight_ends(servers: &Servers, pool: &impl Gets) {
    let mut conn = pool.take().await;
    insert(&mut conn, 1).await.unwrap();
    servers.wait_replayed().await.unwrap();
    servers.freeze(0).await.unwrap();
    let (written, promoted) =
        tokio::join!(soon("the write", insert(&mut conn, 2)), servers.failover());
    let promoted = promoted.unwrap();
    let error = written.unwrap_err();
    assert!(is_cut_off(&error), "{error:?}");
    drop(conn);
    let mut conn = soon("a connection", pool.take()).await;
    assert_eq!(port(&mut conn).await, port_of(servers, promoted));
    assert_eq!(rows(servers).await, 1);
}

#[tokio::test]
async fn a_statement_in_flight_on_a_frozen_primary_ends() {
    let (servers, pool) = start().await;
    in_flight_ends(&servers, &pool).await;
    let (servers, pool) = start().await;
    in_flight_ends(&servers, &pool.deadpool_pool()).await;
    let (servers, pool) = start().await;
    in_flight_ends(&servers, &pools::bb8(&pool, 4).await).await;
    let (servers, pool) = start().await;
    in_flight_ends(&servers, &pools::mobc(&pool, 4)).await;
}

async fn waiters_are_served(servers: &Servers, pool: &Pool, from: &impl Gets) {
    drop(from.take().await);
    servers.wait_replayed().await.unwrap();
    servers.kill(0).await.unwrap();
    seen(pool, "the loss", |topology| topology.writer.is_none()).await;
    let waiting = async {
        let taken = tokio::join!(from.take(), from.take(), from.take());
        [taken.0, taken.1, taken.2]
    };
    let (served, promoted) = tokio::join!(soon("the waiters", waiting), servers.failover());
    let expected = port_of(servers, promoted.unwrap());
    for mut conn in served {
        assert_eq!(port(&mut conn).await, expected);
    }
}

#[tokio::test]
async fn those_who_wait_are_served_by_the_new_writer() {
    let (servers, pool) = start().await;
    waiters_are_served(&servers, &pool, &pool).await;
    let (servers, pool) = start().await;
    waiters_are_served(&servers, &pool, &pool.deadpool_pool()).await;
    let (servers, pool) = start().await;
    waiters_are_served(&servers, &pool, &pools::bb8(&pool, 4).await).await;
    let (servers, pool) = start().await;
    waiters_are_served(&servers, &pool, &pools::mobc(&pool, 4)).await;
}

#[tokio::test]
async fn a_stale_primary_gets_nothing() {
    let (servers, pool) = start().await;
    drop(pool.get().await.unwrap());
    servers.promote(1).await.unwrap();
    let promoted = port_of(&servers, 1);
    seen(&pool, "the new writer", |topology| {
        topology
            .writer
            .as_ref()
            .is_some_and(|host| host.port() == promoted)
    })
    .await;
    let mut conn = pool.get().await.unwrap();
    assert_eq!(port(&mut conn).await, promoted);
}

#[tokio::test]
async fn idle_connections_that_the_server_ended_are_not_handed_out() {
    let (servers, pool) = start().await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(pool.get().await.unwrap());
    }
    drop(held);
    servers.terminate_backends(0).await.unwrap();
    until("new connections", async || {
        let mut conn = pool.get().await.unwrap();
        insert(&mut conn, 1).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn opening_in_a_black_hole_delays_nobody_beyond_the_deadline() {
    let (servers, pool) = start_one(2).await;
    servers.proxy(0).unwrap().black_hole();
    let getting = pool.get_within(Duration::from_millis(300));
    refusal(soon("the deadline", getting).await);
    servers.proxy(0).unwrap().pass();
    let mut conn = soon("a connection", pool.get()).await.unwrap();
    insert(&mut conn, 1).await.unwrap();
    diesel::sql_query("SELECT 1")
        .execute(&mut conn)
        .await
        .unwrap();
}
