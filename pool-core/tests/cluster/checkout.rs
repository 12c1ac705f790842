//! Waiting, queueing, connecting: always within the deadline, oldest first.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use leadpool::{Error, Pool, Target, topology::HostView};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

#[tokio::test]
async fn an_idle_connection_is_handed_out_without_a_round_trip() {
    let (servers, pool) = start_proxied().await;
    drop(pool.get().await.unwrap());
    let turns = servers.proxy(0).unwrap().turns();
    for _ in 0..10 {
        drop(pool.get().await.unwrap());
    }
    // What the monitor may have asked meanwhile is one turn at most.
    assert!(servers.proxy(0).unwrap().turns() - turns <= 1);
}

#[tokio::test]
async fn opening_a_connection_asks_for_no_role() {
    let (servers, pool) = start_proxied_plain().await;
    let turns = servers.proxy(1).unwrap().turns();
    let before = servers.proxy(1).unwrap().connections();
    let readers = (pool.reader().await.unwrap(), pool.reader().await.unwrap());
    let opened = servers.proxy(1).unwrap().connections() - before;
    assert_eq!(opened, 1);
    // The start-up message, and nothing else of ours; one probe may fall in between.
    assert!(servers.proxy(1).unwrap().turns() - turns <= 2);
    drop(readers);
}

#[tokio::test]
async fn waiters_are_served_in_the_order_in_which_they_came() {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let pool = connect_with(&servers.url(), |config| {
        config.writer_size(1).reader_size(1)
    })
    .await
    .unwrap();
    servers.kill(0).await.unwrap();
    soon("the loss", async {
        while pool.cluster().topology().writer.is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..30 {
        let (mine, served) = (pool.clone(), served.clone());
        tasks.push(tokio::task::spawn(async move {
            let client = mine.get().await.unwrap();
            served.lock().unwrap().push(number);
            client.simple_query("SELECT 1").await.unwrap();
        }));
        soon("the place in the queue", async {
            while pool.status().waiting_for_writer <= number {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!(pool.status().waiting_for_writer, 30);
    servers.failover().await.unwrap();
    for task in tasks {
        soon("a waiter", task).await.unwrap();
    }
    assert_eq!(*served.lock().unwrap(), (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn connects_after_a_failover_are_capped() {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let pool = connect_with(&servers.proxied_url(), |config| {
        config.writer_size(16).max_concurrent_connects(2)
    })
    .await
    .unwrap();
    let host = servers.proxy(0).unwrap();
    let each = Duration::from_millis(20);
    host.delay(each, each);
    let before = host.connections();
    let held = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for _ in 0..12 {
        let (pool, held) = (pool.clone(), held.clone());
        tasks.push(tokio::task::spawn(async move {
            let client = pool.get().await.unwrap();
            held.lock().unwrap().push(client);
        }));
    }
    let mut most = 0;
    soon("all connections", async {
        while held.lock().unwrap().len() < 12 {
            let open = host.connections() - before;
            most = most.max(open.saturating_sub(held.lock().unwrap().len()));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // One more may have been counted just before it was handed out.
    assert!((1..=3).contains(&most), "{most} at the same time");
}

#[tokio::test]
async fn a_full_pool_says_so() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = connect_with(&servers.url(), |config| config.writer_size(2))
        .await
        .unwrap();
    let held = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let short = Duration::from_millis(400);
    let error = pool.timeout_get(Target::Primary, short).await.unwrap_err();
    let Error::QueueFull(full) = &error else {
        panic!("{error}");
    };
    assert_eq!((full.size, full.max_size), (2, 2));
    drop(held);
    let _client = pool.get().await.unwrap();
}

#[tokio::test]
async fn a_silent_host_delays_nobody_beyond_the_deadline() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    let pool = Pool::connect(&servers.proxied_url()).await.unwrap();
    servers.proxy(0).unwrap().black_hole();
    let short = Duration::from_millis(600);
    let get = pool.timeout_get(Target::Primary, short);
    let error = soon("the deadline", get).await.unwrap_err();
    assert!(matches!(error, Error::NoHost(_)), "{error}");

    // From the first moment of a pool too.
    let url = servers.proxied_url();
    let connect = connect_with(&url, |config| config.startup_timeout(short));
    let error = soon("the deadline", connect).await.unwrap_err();
    assert!(error.to_string().contains("no answer in time"), "{error}");
}

#[tokio::test]
async fn a_lazy_pool_starts_without_servers_and_recovers() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let url = servers.url();
    servers.stop_fast(0).await.unwrap();
    let pool = connect_with(&url, |config| config.lazy(true))
        .await
        .unwrap();
    let short = Duration::from_millis(200);
    assert!(pool.timeout_get(Target::Primary, short).await.is_err());
    let (client, started) = tokio::join!(soon("a checkout", pool.get()), servers.start_host(0));
    started.unwrap();
    client.unwrap().simple_query("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn what_waiting_cannot_cure_fails_at_once() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let addr = servers.addr(0).unwrap();
    let url = format!("postgres://postgres:geheim@{addr}/nowhere");
    let pool = connect_with(&url, |config| config.lazy(true))
        .await
        .unwrap();
    // The monitor can't get in either, so no host is known to be usable.
    let error = pool
        .timeout_get(Target::Primary, Duration::from_millis(400))
        .await
        .unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("3D000"), "{text}");
    assert!(!text.contains("geheim"), "{text}");
}

#[tokio::test]
async fn targets_choose_the_role() {
    let (servers, pool) = start().await;
    let primary = servers.addr(0).unwrap().port();
    let at = async |target| port(&pool.get_as(target).await.unwrap()).await;
    assert_eq!(at(Target::Primary).await, primary);
    assert_eq!(at(Target::PreferPrimary).await, primary);
    assert_ne!(at(Target::Standby).await, primary);
    assert_ne!(at(Target::PreferStandby).await, primary);
    servers.kill(1).await.unwrap();
    servers.kill(2).await.unwrap();
    seen(&pool, "their end", |topology| {
        !topology.hosts().iter().any(HostView::is_reader)
    })
    .await;
    // The writer takes over.
    let reader = soon("a reader", pool.reader()).await.unwrap();
    assert_eq!(port(&reader).await, primary);
    let short = Duration::from_millis(300);
    assert!(pool.timeout_get(Target::Standby, short).await.is_err());
}

#[tokio::test]
async fn resize_grows_at_once_and_shrinks_without_hurting() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = connect_with(&servers.url(), |config| config.writer_size(1))
        .await
        .unwrap();
    let first = pool.get().await.unwrap();
    let short = Duration::from_millis(100);
    assert!(pool.timeout_get(Target::Primary, short).await.is_err());
    pool.resize(3);
    let (second, third) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert!(pool.timeout_get(Target::Primary, short).await.is_err());
    drop(third);
    pool.resize(2);
    // What is out goes on working, and is not kept on return.
    first.simple_query("SELECT 1").await.unwrap();
    let counts = pool.status().sub_pools[0].counts;
    assert_eq!((counts.max_size, counts.size), (2, 0));
    drop((first, second));
    let held = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert!(pool.timeout_get(Target::Primary, short).await.is_err());
    drop(held);
}
