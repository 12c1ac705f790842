//! Tasks have owners: they end when they should, and are missed when they should not.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use leadpool::{
    Cluster, Config, Error, Event, HostAddr, Pool,
    discovery::{Discovering, Discovery, View},
};

use crate::support::*;

async fn sessions(servers: &leadpool_testkit::Cluster) -> i64 {
    let client = servers.connect(0).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND application_name <> 'testkit'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn dropping_the_pool_ends_its_tasks_and_connections() {
    let (servers, pool) = start().await;
    let (a, b) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert_eq!(sessions(&servers).await, 3, "two, and the monitor's");
    let native = pool.deadpool_pool();
    drop(native.get().await.unwrap());
    drop((a, b));
    drop(pool);
    drop(native);
    soon("the end of all sessions", async {
        while sessions(&servers).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn close_is_bounded_also_when_a_host_is_frozen() {
    let servers = leadpool_testkit::Cluster::start().await.unwrap();
    // The monitor gives no host up here: the bound must be close's own.
    let patient = Duration::from_secs(3600);
    let pool = connect_with(&servers.url(), |config| {
        config.silence_limit(patient).watchdog_limit(None)
    })
    .await
    .unwrap();
    let client = pool.get().await.unwrap();
    let mut events = pool.cluster().events();
    servers.freeze(0).await.unwrap();
    let query = async { client.simple_query("SELECT 1").await };
    let close = pool.close(Duration::from_millis(200));
    let (answer, ()) = tokio::join!(soon("the query", query), soon("close", close));
    assert!(answer.is_err(), "aborted after the time allowed");
    assert!(pool.is_closed());
    assert!(matches!(pool.get().await, Err(Error::Closed)));
    assert!(matches!(pool.reader().await, Err(Error::Closed)));
    soon("the end of the events", async {
        while events.next().await.is_some() {}
    })
    .await;
    servers.thaw(0).await.unwrap();
}

#[tokio::test]
async fn close_tells_those_who_wait() {
    let (servers, pool) = start().await;
    servers.kill(0).await.unwrap();
    soon("the loss", async {
        while pool.cluster().topology().writer.is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let (waiter, ()) = tokio::join!(soon("the waiter", pool.get()), async {
        while pool.status().waiting_for_writer == 0 {
            tokio::task::yield_now().await;
        }
        pool.close(Duration::from_millis(100)).await;
    });
    assert!(matches!(waiter, Err(Error::Closed)));
}

/// Finds the third host on its second try, after a panic.
#[derive(Debug)]
struct Clumsy {
    config: Config,
    tries: AtomicU32,
}

impl Discovery for Clumsy {
    fn name(&self) -> &str {
        "clumsy"
    }

    fn discover<'a>(&'a self, _: &'a View) -> Discovering<'a> {
        Box::pin(async {
            match self.tries.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("on purpose"),
                _ => Ok(self.config.hosts().iter().cloned().collect()),
            }
        })
    }

    fn vouches_for(&self, _: &HostAddr) -> bool {
        true
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(50))
    }
}

/// A list that the test changes.
#[derive(Debug)]
struct Changing(Arc<Mutex<Vec<HostAddr>>>);

impl Discovery for Changing {
    fn name(&self) -> &str {
        "changing"
    }

    fn discover<'a>(&'a self, _: &'a View) -> Discovering<'a> {
        Box::pin(async { Ok(self.0.lock().unwrap().iter().cloned().collect()) })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(20))
    }
}

#[tokio::test]
async fn a_primary_that_is_named_no_longer_stays_until_another_is_the_writer() {
    let servers = leadpool_testkit::Cluster::start().await.unwrap();
    let config = Config::from_url(&servers.url()).unwrap();
    let mut hosts = config.hosts().to_vec();
    let list = Arc::new(Mutex::new(hosts.clone()));
    let cluster = Cluster::connect_with(config, Changing(list.clone()))
        .await
        .unwrap();
    let pool = Pool::new(&cluster);
    let mut events = cluster.events();
    let client = pool.get().await.unwrap();
    drop(pool.get().await.unwrap());
    // A list ends nothing that works.
    hosts.remove(0);
    *list.lock().unwrap() = hosts;
    until(&mut events, "the contradiction", |event| {
        matches!(event, Event::DiscoveryContradicted { .. })
    })
    .await;
    client.simple_query("SELECT 1").await.unwrap();
    drop(pool.get().await.unwrap());
    servers.promote(1).await.unwrap();
    seen(&pool, "the departure", |topology| {
        topology.hosts().len() == 2
    })
    .await;
    let writer = soon("the new writer", pool.get()).await.unwrap();
    assert_eq!(port(&writer).await, servers.addr(1).unwrap().port());
    let gone = soon("the abort", client.simple_query("SELECT pg_sleep(60)"));
    assert!(gone.await.is_err());
}

#[tokio::test]
async fn a_background_task_that_panics_is_told_of_and_started_again() {
    let servers = leadpool_testkit::Cluster::start().await.unwrap();
    let known = servers.host_url(0).unwrap();
    let config = Config::from_url(&known).unwrap();
    let all = Config::from_url(&servers.url()).unwrap();
    let clumsy = Clumsy {
        config: all,
        tries: AtomicU32::new(0),
    };
    let lazy = Config::builder(&known).lazy(true).build().unwrap();
    let cluster = Cluster::connect_with(lazy, clumsy).await.unwrap();
    let mut events = cluster.events();
    let mut restarted = false;
    soon("the discovered hosts", async {
        let mut added = 0;
        while added < 2 {
            match events.next().await.expect("the monitor lives") {
                Event::TaskRestarted { task, .. } => {
                    assert_eq!(task, "discovery: clumsy");
                    restarted = true;
                }
                Event::HostAdded { .. } => added += 1,
                _ => {}
            }
        }
    })
    .await;
    assert!(restarted);
    assert_eq!(cluster.topology().hosts().len(), 3);
    assert_eq!(config.hosts().len(), 1);
    let pool = Pool::new(&cluster);
    soon("a reader", async {
        while port(&pool.reader().await.unwrap()).await == servers.addr(0).unwrap().port() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_pool_on_a_healthy_cluster_is_quiet() {
    let (servers, pool) = start_proxied_plain().await;
    let turns = || -> Vec<u64> {
        (0..3)
            .map(|host| servers.proxy(host).unwrap().turns())
            .collect()
    };
    // The first answers of all hosts, and what follows them, are not awaited by `connect`.
    let mut before = Vec::new();
    soon("the end of the beginning", async {
        while before != turns() {
            before = turns();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    let opened = monitors(&servers).await;
    let begun = std::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(21)).await;
    let probes = begun.elapsed().as_secs() / 10 + 1;
    let now_open = monitors(&servers).await;
    for (host, (after, before)) in turns().into_iter().zip(before).enumerate() {
        let turns = after - before;
        // A connection that was replaced takes two more.
        let allowed = match opened[host] == now_open[host] {
            true => probes,
            false => probes + 2,
        };
        assert!(
            turns <= allowed,
            "host {host}: {turns} round trips, {allowed} allowed"
        );
        assert!(turns >= 1, "host {host} is not watched");
    }
    drop(pool);
}

/// The process that serves the monitor, on each host.
async fn monitors(servers: &leadpool_testkit::Cluster) -> Vec<i32> {
    let monitor = "SELECT pid FROM pg_stat_activity WHERE application_name = 'leadpool monitor' \
                   ORDER BY backend_start DESC LIMIT 1";
    let mut pids = Vec::new();
    for host in 0..3 {
        let admin = servers.connect(host).await.unwrap();
        pids.push(admin.query_one(monitor, &[]).await.unwrap().get(0));
    }
    pids
}
