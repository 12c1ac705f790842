//! What happens to queries in flight on hosts that are gone without a word, while no successor is
//! in sight.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use deadpool_postgres::Client;
use leadpool::{Event, Events, Pool, failover::Invalidation};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

/// A primary and a standby behind proxies, and a pool that gives nobody up but by the watchdog.
async fn start_pair() -> (Servers, Pool) {
    let servers = Servers::builder().standbys(1).proxies(true).start();
    let servers = servers.await.unwrap();
    prepare(&servers).await;
    let hour = Duration::from_secs(3600);
    let pool = connect_with(&servers.proxied_url(), |config| config.silence_limit(hour))
        .await
        .unwrap();
    seen(&pool, "a reader", |topology| {
        topology.hosts().iter().any(|host| host.is_reader())
    })
    .await;
    (servers, pool)
}

/// Runs a query that the host will never answer; how long it took to end.
async fn doomed(client: &Client, struck: &Mutex<Option<Instant>>) -> Duration {
    let error = client.simple_query("SELECT pg_sleep(3600)").await;
    let ended = Instant::now();
    assert!(error.unwrap_err().is_closed());
    ended - struck.lock().unwrap().expect("not before the fault")
}

/// Every host was suspect before it was given up, and was given up for its silence.
async fn check_events(mut events: Events, hosts: usize) {
    let mut suspects = Vec::new();
    for _ in 0..hosts {
        let down = until(&mut events, "the loss", |event| {
            if let Event::HostSuspect { host, .. } = event {
                suspects.push(host.clone());
            }
            matches!(event, Event::HostDown { .. })
        });
        let Event::HostDown { host: down, .. } = down.await else {
            unreachable!()
        };
        assert!(suspects.contains(&down), "{down} was suspect first");
        until(&mut events, "the abort", |event| {
            matches!(event, Event::Invalidated { host, reason: Invalidation::Silent, aborted: true, .. }
                if *host == down)
        })
        .await;
    }
}

/// A writer and a reader wait for an answer while both hosts are struck.
async fn both_are_aborted(servers: &Servers, pool: &Pool, fault: &str) {
    let events = pool.cluster().events();
    let (writer, reader) = (pool.get().await.unwrap(), pool.reader().await.unwrap());
    assert_ne!(port(&writer).await, port(&reader).await);
    let struck = Arc::new(Mutex::new(None));
    let (of_writer, of_reader) = (doomed(&writer, &struck), doomed(&reader, &struck));
    let strike = async {
        busy(servers, 2).await;
        *struck.lock().unwrap() = Some(Instant::now());
        for host in 0..2 {
            match fault {
                "frozen" => servers.freeze(host).await.unwrap(),
                _ => servers.proxy(host).unwrap().black_hole(),
            }
        }
    };
    let all = async { tokio::join!(of_writer, of_reader, strike) };
    let (writer, reader, ()) = soon("the end of both queries", all).await;
    println!(
        "{fault}: the writer's query ended after {writer:.2?}, the reader's after {reader:.2?}"
    );
    check_events(events, 2).await;
    assert_eq!(pool.cluster().topology().writer, None);
}

/// Waits until so many hosts run the query.
async fn busy(servers: &Servers, hosts: usize) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
    for host in 0..hosts {
        let client = servers.connect(host).await.unwrap();
        soon("the query", async {
            while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn queries_on_frozen_hosts_are_aborted_without_a_successor() {
    let (servers, pool) = start_pair().await;
    both_are_aborted(&servers, &pool, "frozen").await;
    // It was only a pause, and everything is as before.
    for host in 0..2 {
        servers.thaw(host).await.unwrap();
    }
    let client = soon("the writer", pool.get()).await.unwrap();
    client.simple_query("SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_on_hosts_that_the_network_swallows_are_aborted() {
    let (servers, pool) = start_pair().await;
    both_are_aborted(&servers, &pool, "swallowed").await;
}

#[tokio::test]
async fn queries_of_a_pool_outside_are_aborted_too() {
    let (servers, pool) = start_pair().await;
    let outside = pool.deadpool_pool();
    let client = outside.get().await.unwrap();
    let struck = Mutex::new(None);
    let strike = async {
        busy(&servers, 1).await;
        *struck.lock().unwrap() = Some(Instant::now());
        servers.freeze(0).await.unwrap();
    };
    let all = async { tokio::join!(doomed(&client, &struck), strike) };
    let (after, ()) = soon("the end of the query", all).await;
    println!("frozen: the query of a pool outside ended after {after:.2?}");
}

#[tokio::test]
async fn a_transaction_on_a_frozen_primary_is_repeated_when_it_goes_on() {
    let (servers, pool) = start_pair().await;
    let (told, mut retries) = tokio::sync::mpsc::unbounded_channel();
    let writing = pool
        .tx()
        .on_retry(move |retry| told.send(retry.error.to_string()).unwrap())
        .run(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            tx.simple_query("SELECT pg_sleep(1)").await?;
            Ok(())
        });
    let thaw = async {
        busy(&servers, 1).await;
        servers.freeze(0).await.unwrap();
        let why = retries.recv().await.unwrap();
        servers.thaw(0).await.unwrap();
        why
    };
    let all = async { tokio::join!(writing, thaw) };
    let (written, why) = soon("the transaction", all).await;
    written.unwrap();
    assert!(why.contains("was invalidated"), "{why}");
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn switched_off_the_watchdog_aborts_nothing() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let hour = Duration::from_secs(3600);
    let pool = connect_with(&servers.url(), |config| {
        config.watchdog_limit(None).silence_limit(hour)
    })
    .await
    .unwrap();
    let client = pool.get().await.unwrap();
    let mut events = pool.cluster().events();
    let query = async { client.simple_query("SELECT pg_sleep(4)").await };
    let pause = async {
        busy(&servers, 1).await;
        servers.freeze(0).await.unwrap();
        until(&mut events, "the suspicion", |event| {
            matches!(event, Event::HostSuspect { .. })
        })
        .await;
        // Longer than the watchdog would wait.
        tokio::time::sleep(Duration::from_secs(3)).await;
        servers.thaw(0).await.unwrap();
    };
    let (answer, ()) = tokio::join!(soon("the query", query), pause);
    answer.unwrap();
}
