//! LISTEN that follows the writer.

use std::time::Duration;

use leadpool::{Error, Gap, Listener, ListenerEvent, Pool};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

async fn notify(servers: &Servers, host: usize, channel: &str, payload: &str) {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT pg_notify($1, $2)";
    client.execute(sql, &[&channel, &payload]).await.unwrap();
}

/// A channel and what was said there, or the gap.
async fn next(listener: &mut Listener) -> Result<(String, String), Gap> {
    match soon("an event", listener.next()).await.unwrap() {
        ListenerEvent::Notification(notification) => {
            Ok((notification.channel, notification.payload))
        }
        ListenerEvent::Gap(gap) => Err(gap),
        event => panic!("{event:?}"),
    }
}

fn heard(channel: &str, payload: &str) -> Result<(String, String), Gap> {
    Ok((channel.into(), payload.into()))
}

/// Between the two hosts, by their ports.
fn ports(gap: Gap) -> (u16, u16) {
    match gap {
        Gap::Reconnected { from, to, .. } => (from.port(), to.port()),
        gap => panic!("{gap:?}"),
    }
}

/// Notifies until the listener tells of the gap, and gives back the gap: what the old primary was
/// told meanwhile may come before it.
async fn gap(listener: &mut Listener) -> (u16, u16) {
    loop {
        match next(listener).await {
            Ok((_, payload)) => assert_eq!(payload, "during"),
            Err(gap) => return ports(gap),
        }
    }
}

/// No session of the server listens, but those that this test does not mean.
async fn listeners(servers: &Servers, host: usize) -> i64 {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %' \
               AND backend_type = 'client backend'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn it_follows_a_switchover_with_one_gap() {
    let (servers, pool) = start().await;
    let port = |host| servers.addr(host).unwrap().port();
    let mut listener = pool.listener();
    listener.listen("orders").await.unwrap();
    listener.listen("Odd \"one\"").await.unwrap();
    notify(&servers, 0, "orders", "before").await;
    notify(&servers, 0, "Odd \"one\"", "before").await;
    assert_eq!(next(&mut listener).await, heard("orders", "before"));
    assert_eq!(next(&mut listener).await, heard("Odd \"one\"", "before"));

    notify(&servers, 0, "orders", "during").await;
    servers.switchover(1).await.unwrap();
    assert_eq!(gap(&mut listener).await, (port(0), port(1)));
    notify(&servers, 1, "orders", "after").await;
    notify(&servers, 1, "Odd \"one\"", "after").await;
    assert_eq!(next(&mut listener).await, heard("orders", "after"));
    assert_eq!(next(&mut listener).await, heard("Odd \"one\"", "after"));

    servers.heal().await.unwrap();
    servers.switchover(0).await.unwrap();
    assert_eq!(gap(&mut listener).await, (port(1), port(0)));
    notify(&servers, 0, "orders", "after").await;
    assert_eq!(next(&mut listener).await, heard("orders", "after"));
}

#[tokio::test]
async fn a_frozen_primary_is_left() {
    let (servers, pool) = start().await;
    let mut listener = pool.listener();
    listener.listen("orders").await.unwrap();
    servers.freeze(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    let to = servers.addr(promoted).unwrap().port();
    assert_eq!(gap(&mut listener).await.1, to);
    notify(&servers, promoted, "orders", "after").await;
    assert_eq!(next(&mut listener).await, heard("orders", "after"));
    // It wakes up, and says what it has to say to nobody.
    servers.thaw(0).await.unwrap();
    notify(&servers, promoted, "orders", "again").await;
    assert_eq!(next(&mut listener).await, heard("orders", "again"));
}

#[tokio::test]
async fn a_killed_backend_is_one_gap() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let port = servers.addr(0).unwrap().port();
    let mut listener = pool.listener();
    listener.listen("orders").await.unwrap();
    for _ in 0..3 {
        servers.terminate_backends(0).await.unwrap();
        assert_eq!(gap(&mut listener).await, (port, port));
        notify(&servers, 0, "orders", "after").await;
        assert_eq!(next(&mut listener).await, heard("orders", "after"));
    }
    // A crash too, while there is no writer for a while.
    servers.kill(0).await.unwrap();
    servers.start_host(0).await.unwrap();
    assert_eq!(gap(&mut listener).await, (port, port));
}

#[tokio::test]
async fn it_waits_for_a_writer() {
    let (servers, pool) = start().await;
    let mut listener = pool.listener();
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    let (listened, promoted) = tokio::join!(
        soon("the subscription", listener.listen("orders")),
        servers.failover()
    );
    listened.unwrap();
    // Nothing was subscribed before: no gap.
    notify(&servers, promoted.unwrap(), "orders", "first").await;
    assert_eq!(next(&mut listener).await, heard("orders", "first"));
}

#[tokio::test]
async fn without_a_writer_it_says_so_in_time() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let url = servers.url();
    servers.kill(0).await.unwrap();
    let pool = connect_with(&url, |config| {
        config
            .lazy(true)
            .checkout_timeout(Duration::from_millis(300))
    })
    .await
    .unwrap();
    let mut listener = pool.listener();
    let error = soon("the deadline", listener.listen("orders")).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::NoHost(_)), "{error}");
    assert!(listener.channels().is_empty());
    for name in ["", "x\0", &"x".repeat(64)] {
        let error = listener.listen(name).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error}");
        assert!(error.to_string().contains("`channel`"), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_at_once() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = connect_with(&servers.url(), |config| {
        config.session_setting("no_such_setting", "1")
    })
    .await
    .unwrap();
    let mut listener = pool.listener();
    let error = soon("the refusal", listener.listen("orders")).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
    assert_eq!(error.sqlstate(), Some("42704"), "{error}");
}

#[tokio::test]
async fn channels_come_and_go() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let mut listener = pool.listener();
    listener.listen("a").await.unwrap();
    listener.listen("a").await.unwrap();
    listener.unlisten("a");
    listener.unlisten("never");
    // It is subscribed behind the end of the other.
    listener.listen("b").await.unwrap();
    assert_eq!(listener.channels(), ["b"]);
    notify(&servers, 0, "a", "not heard").await;
    notify(&servers, 0, "b", "heard").await;
    assert_eq!(next(&mut listener).await, heard("b", "heard"));
    listener.listen_all(["b", "c", "d"]).await.unwrap();
    assert_eq!(listener.channels(), ["b", "c", "d"]);
    notify(&servers, 0, "d", "heard").await;
    assert_eq!(next(&mut listener).await, heard("d", "heard"));
    // All or none.
    let error = listener.listen_all(["e", ""]).await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    assert_eq!(listener.channels(), ["b", "c", "d"]);
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = connect_with(&servers.url(), |config| config.listener_capacity(10))
        .await
        .unwrap();
    let mut listener = pool.listener();
    let mut witness = pool.listener();
    listener.listen("many").await.unwrap();
    witness.listen("last").await.unwrap();
    let client = servers.connect(0).await.unwrap();
    client
        .batch_execute("SELECT pg_notify('many', n::text) FROM generate_series(1, 100) AS n")
        .await
        .unwrap();
    // All have come once a later one has, on the same connection.
    listener.listen("last").await.unwrap();
    for n in 1..=10 {
        assert_eq!(next(&mut listener).await, heard("many", &n.to_string()));
    }
    let Err(Gap::Overflow { missed, .. }) = next(&mut listener).await else {
        panic!("what was missed is not told");
    };
    assert_eq!(missed, 90);
    notify(&servers, 0, "last", "x").await;
    assert_eq!(next(&mut listener).await, heard("last", "x"));
    assert_eq!(next(&mut witness).await, heard("last", "x"));
}

#[tokio::test]
async fn it_ends_with_the_pool_and_with_its_handle() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let mut first = pool.listener();
    first.listen("orders").await.unwrap();
    assert_eq!(listeners(&servers, 0).await, 1);
    drop(first);
    soon("the end of its connection", async {
        while listeners(&servers, 0).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut second = pool.listener();
    second.listen("orders").await.unwrap();
    notify(&servers, 0, "orders", "last").await;
    let client = pool.get().await.unwrap();
    // On its way before the pool is closed.
    client.simple_query("SELECT 1").await.unwrap();
    assert_eq!(next(&mut second).await, heard("orders", "last"));
    drop(client);
    pool.close(Duration::from_secs(5)).await;
    assert_eq!(soon("the end", second.next()).await, None);
    let error = soon("the end", second.listen("more")).await.unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
}
