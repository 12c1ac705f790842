//! Which of several standbys serves a read, and which serve none.

use std::{collections::HashMap, time::Duration};

use leadpool::{
    Event, HostAddr, Pool, Target,
    config::ConfigBuilder,
    routing::{LeastConnections, ReaderStrategy, Readers, ZoneAffinity},
};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

fn host(servers: &Servers, at: usize) -> HostAddr {
    let addr = servers.addr(at).unwrap();
    HostAddr::new(addr.ip().to_string(), addr.port())
}

async fn pool(servers: &Servers, change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Pool {
    let pool = connect_with(&servers.url(), change).await.unwrap();
    seen(&pool, "all standbys", |topology| {
        let up = |host: &&leadpool::topology::HostView| host.last_answer.is_some();
        topology.hosts().iter().filter(up).count() == servers.hosts()
    })
    .await;
    pool
}

/// How often each port was picked in so many checkouts.
async fn ports(pool: &Pool, times: usize) -> HashMap<u16, usize> {
    let mut ports = HashMap::new();
    for _ in 0..times {
        let client = pool.get_as(Target::Standby).await.unwrap();
        *ports.entry(port(&client).await).or_default() += 1;
    }
    ports
}

#[tokio::test]
async fn without_a_word_each_in_its_turn() {
    let (servers, _) = start().await;
    let pool = pool(&servers, |config| config).await;
    let ports = ports(&pool, 8).await;
    assert!(ports.values().all(|times| *times == 4), "{ports:?}");
    assert_eq!(ports.len(), 2);
}

#[tokio::test]
async fn the_one_with_the_fewest_connections_in_use() {
    let (servers, _) = start().await;
    let pool = pool(&servers, |config| {
        config.reader_strategy(LeastConnections::new())
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(pool.get_as(Target::Standby).await.unwrap());
    }
    let first = port(&held[0]).await;
    let mut kept = Vec::new();
    for client in held {
        if port(&client).await == first {
            kept.push(client);
        }
    }
    assert_eq!(kept.len(), 3, "half of them each");
    // Those of the other host have been returned: it gets the next three.
    for _ in 0..3 {
        let client = pool.get_as(Target::Standby).await.unwrap();
        assert_ne!(port(&client).await, first);
        kept.push(client);
    }
}

#[tokio::test]
async fn by_zone_by_weight_and_by_a_strategy_of_ones_own() {
    let (servers, _) = start().await;
    let (near, far) = (host(&servers, 2), host(&servers, 1));
    let zoned = pool(&servers, |config| {
        config
            .host_zone(near.clone(), "a")
            .host_zone(far.clone(), "b")
            .reader_strategy(ZoneAffinity::new("a", LeastConnections::new()))
    })
    .await;
    assert_eq!(ports(&zoned, 4).await, HashMap::from([(near.port(), 4)]));
    servers.kill(2).await.unwrap();
    seen(&zoned, "the loss", |topology| {
        topology.host(&near).is_some_and(|host| !host.is_reader())
    })
    .await;
    assert_eq!(ports(&zoned, 4).await, HashMap::from([(far.port(), 4)]));
    servers.start_host(2).await.unwrap();

    let weighted = pool(&servers, |config| config.host_weight(far.clone(), 0)).await;
    assert_eq!(ports(&weighted, 4).await, HashMap::from([(near.port(), 4)]));

    #[derive(Debug)]
    struct Last;
    impl ReaderStrategy for Last {
        fn pick(&self, readers: &Readers<'_>) -> usize {
            // Also a place that is not there does no harm.
            readers.len() + 7
        }
    }
    let own = pool(&servers, |config| config.reader_strategy(Last)).await;
    assert_eq!(ports(&own, 4).await, HashMap::from([(near.port(), 4)]));
}

#[tokio::test]
async fn a_standby_that_is_behind_gets_no_reads_until_it_has_caught_up() {
    let (servers, _) = start().await;
    let pool = pool(&servers, |config| {
        config
            .max_lag_bytes(Some(64 * 1024))
            .idle_interval(Duration::from_millis(100))
            .active_interval(Duration::from_millis(100))
    })
    .await;
    let mut events = pool.cluster().events();
    let slow = servers.connect(1).await.unwrap();
    slow.batch_execute("SELECT pg_wal_replay_pause()")
        .await
        .unwrap();
    let writer = pool.get().await.unwrap();
    writer
        .batch_execute("INSERT INTO t (n) SELECT g FROM generate_series(1, 10000) g")
        .await
        .unwrap();
    let addr = host(&servers, 1);
    until(&mut events, "the lag", |event| {
        matches!(event, Event::HostLagging { host, lag: Some(lag), .. }
            if *host == addr && *lag > 64 * 1024)
    })
    .await;
    let other = host(&servers, 2).port();
    assert_eq!(ports(&pool, 4).await, HashMap::from([(other, 4)]));
    let described = pool.cluster().topology();
    let described = described.host(&addr).unwrap().describe();
    assert!(described.contains("too far behind"), "{described}");
    slow.batch_execute("SELECT pg_wal_replay_resume()")
        .await
        .unwrap();
    until(
        &mut events,
        "the end of it",
        |event| matches!(event, Event::HostCaughtUp { host, .. } if *host == addr),
    )
    .await;
    assert_eq!(ports(&pool, 4).await.len(), 2);
}

#[tokio::test]
async fn data_that_is_too_old_is_found_out_without_the_standbys_clock() {
    let (servers, _) = start().await;
    let pool = pool(&servers, |config| {
        config
            .max_lag(Some(Duration::from_millis(300)))
            .idle_interval(Duration::from_millis(100))
            .active_interval(Duration::from_millis(100))
    })
    .await;
    let mut events = pool.cluster().events();
    let slow = servers.connect(2).await.unwrap();
    slow.batch_execute("SELECT pg_wal_replay_pause()")
        .await
        .unwrap();
    // One small write is enough: its age counts, not its size.
    let writer = pool.get().await.unwrap();
    writer
        .batch_execute("INSERT INTO t (n) VALUES (1)")
        .await
        .unwrap();
    let addr = host(&servers, 2);
    until(
        &mut events,
        "the age",
        |event| matches!(event, Event::HostLagging { host, staleness: Some(_), .. } if *host == addr),
    )
    .await;
    slow.batch_execute("SELECT pg_wal_replay_resume()")
        .await
        .unwrap();
    until(
        &mut events,
        "the end of it",
        |event| matches!(event, Event::HostCaughtUp { host, .. } if *host == addr),
    )
    .await;
}
