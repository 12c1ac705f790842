//! Connections when hosts are lost.

use std::{thread, time::Duration};

use diesel::RunQueryDsl as _;
use leadpool_diesel::{
    blocking::{Error, Pool},
    leadpool,
};

use crate::support::*;

#[tokio::test]
async fn idle_connections_follow_a_failover() {
    let (servers, pool) = start().await;
    let there = pool.clone();
    blocking(move || {
        let held: Vec<_> = (0..4).map(|_| there.get().unwrap()).collect();
        drop(held);
        assert_eq!(there.state().idle_connections, 4);
    })
    .await;
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    let there = pool.clone();
    let writing = tokio::spawn(blocking(move || {
        let conn = &mut there.get().unwrap();
        insert(conn).unwrap();
        port(conn)
    }));
    let promoted = servers.failover().await.unwrap();
    let found = writing.await.unwrap();
    assert_eq!(found, port_of(&servers, promoted));
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn all_who_wait_are_served_by_the_new_writer() {
    let (servers, pool) = start().await;
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || insert(&mut pool.get().unwrap()).unwrap())
        })
        .collect();
    until("the waiters", async || {
        pool.status().waiting_for_writer == 20
    })
    .await;
    servers.failover().await.unwrap();
    blocking(move || {
        waiters
            .into_iter()
            .for_each(|waiter| assert_eq!(waiter.join().unwrap(), 1))
    })
    .await;
    assert_eq!(rows(&servers).await, 20);
}

#[tokio::test]
async fn a_statement_in_flight_on_a_frozen_primary_ends() {
    let (servers, pool) = start().await;
    let there = pool.clone();
    let hanging = tokio::spawn(blocking(move || {
        let mut conn = there.get().unwrap();
        let error = diesel::sql_query("SELECT pg_sleep(3600)").execute(&mut conn);
        (error.unwrap_err(), conn.host().port())
    }));
    runs(&servers, 0, "pg_sleep(3600)").await;
    servers.freeze(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    let (error, from) = soon("the statement", hanging).await.unwrap();
    assert!(Error::from(error).is_transient());
    assert_eq!(from, port_of(&servers, 0));
    let found = blocking(move || port(&mut pool.get().unwrap())).await;
    assert_eq!(found, port_of(&servers, promoted));
}

#[tokio::test]
async fn a_connection_held_over_a_switchover_does_not_come_back() {
    let (servers, pool) = start().await;
    let there = pool.clone();
    let held = blocking(move || there.get().unwrap()).await;
    servers.switchover(1).await.unwrap();
    let to = port_of(&servers, 1);
    seen(&pool, "the new writer", |topology| {
        topology
            .writer
            .as_ref()
            .is_some_and(|host| host.port() == to)
    })
    .await;
    drop(held);
    let found = blocking(move || port(&mut pool.get().unwrap())).await;
    assert_eq!(found, to);
}

#[tokio::test]
async fn idle_connections_that_the_server_ended_are_not_handed_out() {
    let (servers, pool) = start().await;
    let there = pool.clone();
    let before = blocking(move || {
        let mut held: Vec<_> = (0..4).map(|_| there.get().unwrap()).collect();
        held.iter_mut().map(backend).collect::<Vec<_>>()
    })
    .await;
    servers.terminate_backends(0).await.unwrap();
    let client = servers.connect(0).await.unwrap();
    until("their end", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)";
        let pids: Vec<i32> = before
            .iter()
            .map(|pid| i32::try_from(*pid).unwrap())
            .collect();
        client
            .query_one(sql, &[&pids])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
    })
    .await;
    // What was used a moment ago is not looked at.
    tokio::time::sleep(Duration::from_millis(110)).await;
    blocking(move || {
        for _ in 0..4 {
            insert(&mut pool.get().unwrap()).unwrap();
        }
    })
    .await;
    assert_eq!(rows(&servers).await, 4);
}

#[tokio::test]
async fn where_one_connection_was_lost_the_other_idle_ones_are_looked_at() {
    let (servers, pool) = start().await;
    let there = pool.clone();
    let mut held = blocking(move || {
        let mut held: Vec<_> = (0..4).map(|_| there.get().unwrap()).collect();
        held.iter_mut()
            .for_each(|conn| assert_eq!(insert(conn), Ok(1)));
        held.pop().unwrap()
    })
    .await;
    servers.terminate_backends(0).await.unwrap();
    let there = pool.clone();
    blocking(move || {
        let error = insert(&mut held).unwrap_err();
        assert!(Error::from(error).is_transient());
        drop(held);
        // The kernel has heard of all ends, sooner or later.
        while there.state().connections > 0 {
            match insert(&mut there.get().unwrap()) {
                Ok(_) => break,
                Err(error) => assert!(Error::from(error).is_transient()),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_host_that_hangs_in_the_login_delays_nobody_beyond_the_deadline() {
    let builder = Pool::builder()
        .connection_timeout(Duration::from_millis(600))
        .configure(|config| config.connect_timeout(Duration::from_millis(200)));
    let (servers, pool) = start_as(builder).await;
    servers.freeze(0).await.unwrap();
    let error = blocking(move || pool.get().unwrap_err()).await;
    assert!(
        matches!(
            &error,
            Error::Pool(leadpool::Error::NoHost(_) | leadpool::Error::QueueFull(_))
        ),
        "{error:?}"
    );
    servers.thaw(0).await.unwrap();
}

#[tokio::test]
async fn no_host_says_what_was_seen() {
    let builder = Pool::builder().connection_timeout(Duration::from_millis(400));
    let (servers, pool) = start_as(builder).await;
    for host in 0..3 {
        servers.kill(host).await.unwrap();
    }
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    let error = blocking(move || pool.get().unwrap_err()).await;
    let text = error.to_string();
    assert!(text.contains(&port_of(&servers, 0).to_string()), "{text}");
}

/// What a pool of diesel's own does not do, in short.
#[tokio::test]
async fn statements_through_a_switchover() {
    let (servers, pool) = start().await;
    let there: Pool = pool.clone();
    let writing = tokio::spawn(blocking(move || {
        let mut written = 0;
        for _ in 0..300 {
            match insert(&mut there.get().unwrap()) {
                Ok(_) => written += 1,
                // A fast shutdown may break a connection off without a word.
                Err(error) => assert!(Error::from(error).is_transient()),
            }
            thread::sleep(Duration::from_millis(5));
        }
        written
    }));
    servers.switchover(1).await.unwrap();
    let written = writing.await.unwrap();
    assert!(written > 290, "{written}");
    assert!(rows(&servers).await >= written);
}
