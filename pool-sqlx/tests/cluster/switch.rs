//! The socket switch: what the application holds ends with its host.

#![cfg(target_os = "linux")]

use std::time::Duration;

use leadpool_sqlx::PgPoolOptions;
use sqlx::Executor as _;

use crate::support::*;

#[tokio::test]
async fn what_is_held_on_a_frozen_primary_ends_when_a_newer_one_is_seen() {
    let (servers, pool) = start_as(PgPoolOptions::new().socket_switch(true)).await;
    let mut tx = pool.begin().await.unwrap();
    tx.execute("INSERT INTO t (n) VALUES (1)").await.unwrap();
    let mut conn = pool.pg_pool().acquire().await.unwrap();
    // Another pool's connections to the same host are none of its business.
    let other = sqlx::PgPool::connect(&servers.host_url(0).unwrap())
        .await
        .unwrap();
    let mut others = other.acquire().await.unwrap();
    servers.freeze(0).await.unwrap();
    let both = async {
        let held = async { tx.execute("SELECT 1").await };
        let real = async { conn.execute("SELECT 1").await };
        tokio::join!(held, real)
    };
    let (ended, promoted) = tokio::join!(soon("what is held", both), servers.failover());
    promoted.unwrap();
    assert!(matches!(ended.0, Err(sqlx::Error::Io(_))), "{:?}", ended.0);
    assert!(matches!(ended.1, Err(sqlx::Error::Io(_))), "{:?}", ended.1);
    drop((tx, conn));
    soon("a statement", pool.execute("SELECT 1")).await.unwrap();
    servers.thaw(0).await.unwrap();
    soon("the other pool's", others.execute("SELECT 1"))
        .await
        .unwrap();
}

#[tokio::test]
async fn close_ends_what_is_held_after_its_time() {
    let options = PgPoolOptions::new()
        .socket_switch(true)
        .configure(|config| config.silence_limit(Duration::from_secs(3_600)));
    let (servers, pool) = start_as(options).await;
    let mut conn = pool.acquire().await.unwrap();
    servers.freeze(0).await.unwrap();
    let (held, ()) = tokio::join!(
        soon("what is held", async { conn.execute("SELECT 1").await }),
        soon("the close", pool.close_within(Duration::from_millis(200)))
    );
    assert!(held.is_err());
    servers.thaw(0).await.unwrap();
}

#[tokio::test]
async fn keepalives_are_set() {
    let servers = leadpool_testkit::Cluster::builder()
        .standbys(0)
        .start()
        .await
        .unwrap();
    let url = format!("{}?keepalives_idle=77", servers.url());
    for switch in [false, true] {
        let pool = PgPoolOptions::new()
            .socket_switch(switch)
            .connect(&url)
            .await
            .unwrap();
        let mut conn = pool.acquire().await.unwrap();
        let port: i32 = sqlx::query_scalar("SELECT inet_client_port()")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        let timer = quiet_timer(u16::try_from(port).unwrap());
        let kept_alive = soon("nothing in flight", timer).await == KEEPALIVE;
        assert_eq!(kept_alive, switch, "switch: {switch}");
    }
}

/// What `tr` says of a socket whose pending timer is that of keepalives
/// ([proc(5)](https://man7.org/linux/man-pages/man5/proc_pid_net.5.html)).
const KEEPALIVE: &str = "02";

/// The timer of the socket of this port, as soon as nothing that it sent is unacknowledged: until
/// then the retransmission (`01`) or the window probe (`04`) hides that of keepalives.
async fn quiet_timer(port: u16) -> String {
    loop {
        let timer = timer(port);
        if !["01", "04"].contains(&timer.as_str()) {
            return timer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn timer(port: u16) -> String {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let local = format!(":{port:04X} ");
    let line = table
        .lines()
        .find(|line| {
            line.split_once(':')
                .is_some_and(|(_, rest)| rest[1..15].contains(&local))
        })
        .unwrap();
    let field = line.split_whitespace().nth(5).unwrap();
    field.split_once(':').unwrap().0.to_owned()
}
