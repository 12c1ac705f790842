//! LISTEN that follows the writer, under sqlx's names.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use leadpool_sqlx::{
    Error, PgListener, PgPoolOptions, Pool,
    leadpool::{self, Gap},
};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

async fn notify(servers: &Servers, host: usize, channel: &str, payload: &str) {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT pg_notify($1, $2)";
    client.execute(sql, &[&channel, &payload]).await.unwrap();
}

/// A channel and what was said there; `None` at a gap.
async fn next(listener: &mut PgListener) -> Option<(String, String)> {
    let received = soon("a notification", listener.try_recv()).await.unwrap()?;
    Some((received.channel().into(), received.payload().into()))
}

fn heard(channel: &str, payload: &str) -> Option<(String, String)> {
    Some((channel.into(), payload.into()))
}

/// The session that listens.
async fn session(servers: &Servers) -> Option<i32> {
    let client = servers.connect(0).await.unwrap();
    let sql = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN %'";
    let found = client.query(sql, &[]).await.unwrap();
    found.first().map(|row| row.get(0))
}

/// Ends the session that listens, and waits for the next one.
async fn cut(servers: &Servers) {
    let old = session(servers).await.unwrap();
    servers.terminate_backends(0).await.unwrap();
    until("the new subscription", async || {
        session(servers).await.is_some_and(|new| new != old)
    })
    .await;
}

/// How many sessions listen.
async fn listeners(servers: &Servers, host: usize) -> i64 {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn it_follows_the_writer_and_tells_the_gap() {
    for frozen in [false, true] {
        let (servers, pool) = start().await;
        let mut listener = PgListener::connect_with(&pool).await.unwrap();
        listener.eager_reconnect(false);
        listener
            .listen_all(["orders", "Odd \"one\""])
            .await
            .unwrap();
        notify(&servers, 0, "orders", "before").await;
        notify(&servers, 0, "Odd \"one\"", "before").await;
        assert_eq!(next(&mut listener).await, heard("orders", "before"));
        assert_eq!(next(&mut listener).await, heard("Odd \"one\"", "before"));
        assert!(listener.gap().is_none());

        match frozen {
            true => servers.freeze(0).await.unwrap(),
            false => servers.kill(0).await.unwrap(),
        }
        let promoted = servers.failover().await.unwrap();
        assert_eq!(next(&mut listener).await, None, "frozen: {frozen}");
        let Some(Gap::Reconnected { from, to, .. }) = listener.gap() else {
            panic!("{:?}", listener.gap());
        };
        assert_eq!(from.port(), port_of(&servers, 0));
        assert_eq!(to.port(), port_of(&servers, promoted));

        notify(&servers, promoted, "orders", "after").await;
        notify(&servers, promoted, "Odd \"one\"", "after").await;
        assert_eq!(next(&mut listener).await, heard("orders", "after"));
        assert_eq!(next(&mut listener).await, heard("Odd \"one\"", "after"));
    }
}

#[tokio::test]
async fn recv_and_streams_pass_by_gaps() {
    let (servers, pool) = start().await;
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("orders").await.unwrap();
    cut(&servers).await;
    let client = servers.connect(0).await.unwrap();
    let row = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap();
    client.batch_execute("NOTIFY orders, 'one'").await.unwrap();
    let received = soon("a notification", listener.recv()).await.unwrap();
    assert_eq!(received.payload(), "one");
    assert_eq!(received.process_id(), row.get::<_, i32>(0).cast_unsigned());
    assert_eq!(received.host().port(), port_of(&servers, 0));
    assert!(listener.gap().is_some());

    let mut stream = listener.into_stream();
    cut(&servers).await;
    notify(&servers, 0, "orders", "two").await;
    let received = soon("a notification", stream.try_next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(received.payload(), "two");
    pool.close().await;
    let ended = soon("the end", stream.next()).await.unwrap();
    assert!(matches!(ended, Err(sqlx::Error::PoolClosed)), "{ended:?}");
    assert!(soon("the end", stream.next()).await.is_none());
}

#[tokio::test]
async fn what_is_buffered_does_not_hide_a_gap() {
    let (servers, pool) = start().await;
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("orders").await.unwrap();
    assert!(listener.next_buffered().is_none());
    notify(&servers, 0, "orders", "one").await;
    let mut found = None;
    until("the notification", async || {
        found = listener.next_buffered();
        found.is_some()
    })
    .await;
    assert_eq!(found.unwrap().payload(), "one");
    cut(&servers).await;
    notify(&servers, 0, "orders", "two").await;
    // Behind the notification, on the same connection.
    listener.listen("last").await.unwrap();
    assert!(listener.next_buffered().is_none());
    assert!(listener.next_buffered().is_none());
    assert_eq!(next(&mut listener).await, None);
    assert_eq!(listener.next_buffered().unwrap().payload(), "two");
}

#[tokio::test]
async fn channels_come_and_go() {
    let (servers, pool) = start().await;
    let mut listener = PgListener::connect_with(&pool.reader()).await.unwrap();
    listener.listen_all(["a", "b", "c"]).await.unwrap();
    listener.unlisten("a").await.unwrap();
    listener.listen("d").await.unwrap();
    for channel in ["a", "b", "d"] {
        notify(&servers, 0, channel, "x").await;
    }
    assert_eq!(next(&mut listener).await, heard("b", "x"));
    assert_eq!(next(&mut listener).await, heard("d", "x"));
    listener.unlisten_all().await.unwrap();
    listener.listen("e").await.unwrap();
    notify(&servers, 0, "b", "x").await;
    notify(&servers, 0, "e", "x").await;
    assert_eq!(next(&mut listener).await, heard("e", "x"));
}

#[tokio::test]
async fn dropped_or_closed_it_leaves_nothing() {
    let (servers, pool) = start().await;
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("orders").await.unwrap();
    assert_eq!(listeners(&servers, 0).await, 1);
    assert_eq!((pool.size(), pool.num_idle()), (0, 0));
    drop(listener);
    until("its end", async || listeners(&servers, 0).await == 0).await;

    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("orders").await.unwrap();
    pool.close().await;
    until("its end", async || listeners(&servers, 0).await == 0).await;
    let ended = soon("the end", listener.recv()).await;
    assert!(matches!(ended, Err(sqlx::Error::PoolClosed)), "{ended:?}");
    let refused = listener.listen("more").await;
    assert!(
        matches!(refused, Err(sqlx::Error::PoolClosed)),
        "{refused:?}"
    );
    let refused = PgListener::connect_with(&pool).await;
    assert!(
        matches!(refused, Err(sqlx::Error::PoolClosed)),
        "{refused:?}"
    );

    // With a pool of its own, which nobody else holds.
    let mut listener = PgListener::connect(&servers.url()).await.unwrap();
    listener.listen("orders").await.unwrap();
    notify(&servers, 0, "orders", "x").await;
    assert_eq!(next(&mut listener).await, heard("orders", "x"));
    drop(listener);
    until("its end", async || listeners(&servers, 0).await == 0).await;
}

#[tokio::test]
async fn without_a_writer_it_says_so_in_time() {
    let options = PgPoolOptions::new().acquire_timeout(Duration::from_millis(300));
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let config = leadpool::Config::from_url(&servers.url()).unwrap();
    let cluster = leadpool::Cluster::connect(config).await.unwrap();
    // The limit is the pool's, not that of the cluster.
    let pool: Pool = options.connect_cluster(&cluster).unwrap();
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    let error = soon("the deadline", listener.listen("orders"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            Error::inside(&error),
            Some(Error::Pool(leadpool::Error::NoHost(_)))
        ),
        "{error}"
    );
    let error = listener.listen_all(["fine", ""]).await.unwrap_err();
    assert!(matches!(error, sqlx::Error::Configuration(_)), "{error}");
    assert!(error.to_string().contains("channel"), "{error}");
}
