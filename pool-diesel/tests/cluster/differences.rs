//! Where leadpool's pool is not as diesel-async's, on purpose: each line of the README's table that
//! is not shown elsewhere, on both.

use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use diesel_async::{
    AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _,
    pooled_connection::{
        AsyncDieselConnectionManager,
        deadpool::{self, PoolError},
    },
};
use futures_util::StreamExt as _;
use leadpool_diesel::{Error, Pool, diesel_async, leadpool};
use leadpool_testkit::Cluster as Servers;

use crate::{
    pools::{diesels, leadpools},
    support::*,
};

const LONG: Duration = Duration::from_secs(20);

async fn start_both(size: usize) -> (Servers, deadpool::Pool<AsyncPgConnection>, Pool) {
    let one = Servers::builder().standbys(0).proxies(true);
    let servers = one.start().await.unwrap();
    prepare(&servers).await;
    let theirs = diesels::open(&servers, size, LONG).await;
    let ours = leadpools::open(&servers, size, LONG).await;
    (servers, theirs, ours)
}

#[tokio::test]
async fn a_checkout_asks_nothing() {
    let (servers, theirs, ours) = start_both(1).await;
    drop((theirs.get().await.unwrap(), ours.get().await.unwrap()));
    let host = servers.proxy(0).unwrap();
    let before = host.turns();
    for _ in 0..20 {
        drop(theirs.get().await.unwrap());
    }
    assert!(host.turns() - before >= 20);
    let before = host.turns();
    for _ in 0..20 {
        drop(ours.get().await.unwrap());
    }
    // A probe may be counted too.
    assert!(host.turns() - before <= 2);
}

#[tokio::test]
async fn building_a_pool_waits_for_a_writer() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let url = servers.url();
    servers.kill(0).await.unwrap();
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(&url);
    assert!(deadpool::Pool::builder(manager).build().is_ok());
    let building = Pool::builder(&url)
        .configure(|config| config.startup_timeout(Duration::from_millis(200)))
        .build();
    let error = soon("the end of the wait", building).await.unwrap_err();
    assert!(
        matches!(error, Error::Pool(leadpool::Error::NoHost(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_unknown_key_of_the_url_is_found_when_the_pool_is_built() {
    let url = "postgres://app@127.0.0.1:1/shop?colour=plum";
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    let theirs = deadpool::Pool::builder(manager).build().unwrap();
    assert!(matches!(refusal(theirs.get().await), PoolError::Backend(_)));
    let error = Pool::connect(url).await.unwrap_err();
    assert!(
        matches!(error, Error::Pool(leadpool::Error::Config(_))),
        "{error:?}"
    );
    assert!(error.to_string().contains("colour"), "{error}");
}

#[tokio::test]
async fn a_standby_is_not_taken_for_the_writer() {
    let servers = Servers::builder().standbys(1).start().await.unwrap();
    let url = servers.host_url(1).unwrap();
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(&url);
    let theirs = deadpool::Pool::builder(manager).build().unwrap();
    assert!(insert_none(&mut theirs.get().await.unwrap()).await.is_err());
    let building = Pool::builder(&url)
        .configure(|config| config.startup_timeout(Duration::from_millis(200)))
        .build();
    let error = soon("the end of the wait", building).await.unwrap_err();
    assert!(
        matches!(error, Error::Pool(leadpool::Error::NoHost(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_size_is_of_each_host() {
    let servers = Servers::builder().standbys(1).start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::builder(&servers.url()).max_size(1);
    let pool = pool.build().await.unwrap();
    seen(&pool, "the standby", |topology| {
        topology.hosts().iter().any(|host| host.is_reader())
    })
    .await;
    let mut writer = pool.get().await.unwrap();
    let mut reader = soon("another", pool.reader().get()).await.unwrap();
    assert_ne!(port(&mut writer).await, port(&mut reader).await);
}

#[tokio::test]
async fn those_in_use_do_not_count_after_a_resize_to_less() {
    let (_servers, theirs, ours) = start_both(2).await;
    let held = [theirs.get().await.unwrap(), theirs.get().await.unwrap()];
    theirs.resize(1);
    {
        let mut another = pin!(theirs.get());
        assert!(poll_fn(|cx| Poll::Ready(another.as_mut().poll(cx).is_pending())).await);
        drop(held);
        drop(soon("a place", another).await.unwrap());
    }
    let held = [ours.get().await.unwrap(), ours.get().await.unwrap()];
    ours.resize(1);
    let another = soon("another", ours.get()).await.unwrap();
    drop(held);
    assert_eq!(leadpools::gauges(&ours).size, 1);
    drop(another);
}

#[tokio::test]
async fn the_one_that_came_back_last_is_taken() {
    let (_servers, theirs, ours) = start_both(2).await;
    assert_eq!(which(async || theirs.get().await.unwrap()).await, Some(0));
    assert_eq!(which(async || ours.get().await.unwrap()).await, Some(1));
}

/// Of two that come back, which is handed out next.
async fn which(take: impl AsyncFn() -> Conn) -> Option<usize> {
    let (mut first, mut second) = (take().await, take().await);
    let pids = [backend(&mut first).await, backend(&mut second).await];
    drop(first);
    drop(second);
    let next = backend(&mut *take().await).await;
    pids.iter().position(|pid| *pid == next)
}

#[tokio::test]
async fn a_host_that_says_nothing_is_not_waited_for_without_an_end() {
    let one = Servers::builder().standbys(0).proxies(true);
    let servers = one.start().await.unwrap();
    let theirs = diesels::open(&servers, 1, Duration::from_millis(100)).await;
    let ours = leadpools::open(&servers, 1, Duration::from_millis(100)).await;
    servers.proxy(0).unwrap().black_hole();
    let began = Instant::now();
    refusal(soon("the end of the wait", ours.get()).await);
    // Their timeout is for a place; ours for all.
    let several = 3 * began.elapsed();
    assert!(tokio::time::timeout(several, theirs.get()).await.is_err());
}

#[tokio::test]
async fn notifications_are_the_listeners() {
    let (_servers, theirs, ours) = start_both(1).await;
    for (is_ours, mut conn) in [
        (false, theirs.get().await.unwrap()),
        (true, ours.get().await.unwrap()),
    ] {
        conn.batch_execute("LISTEN news; NOTIFY news, 'plums'")
            .await
            .unwrap();
        diesel::sql_query("SELECT 1")
            .execute(&mut conn)
            .await
            .unwrap();
        let mut stream = pin!(conn.notifications_stream());
        let next = poll_fn(|cx| Poll::Ready(stream.poll_next_unpin(cx))).await;
        assert_eq!(next.is_pending(), is_ours);
    }
}
