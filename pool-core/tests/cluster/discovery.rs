//! Hosts that come, go, move, or are made up.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use leadpool::{
    Cluster, Config, Event, HostAddr, Pool, Target,
    discovery::{Discovering, Discovery, Replica, Replicas, View},
    failover::Invalidation,
};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

const OFTEN: Duration = Duration::from_millis(100);

fn host(servers: &Servers, at: usize) -> HostAddr {
    let addr = servers.addr(at).unwrap();
    HostAddr::new(addr.ip().to_string(), addr.port())
}

/// A source that the test changes. It can also fail, or never answer.
#[derive(Clone, Debug, Default)]
struct Told {
    hosts: Arc<Mutex<Vec<HostAddr>>>,
    fails: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
}

impl Told {
    fn tell(&self, hosts: impl IntoIterator<Item = HostAddr>) {
        *self.hosts.lock().unwrap() = hosts.into_iter().collect();
    }
}

impl Discovery for Told {
    fn name(&self) -> &str {
        "told"
    }

    fn discover<'a>(&'a self, _: &'a View) -> Discovering<'a> {
        Box::pin(async {
            if self.hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            if self.fails.load(Ordering::Relaxed) {
                return Err("out of order".into());
            }
            Ok(self.hosts.lock().unwrap().iter().cloned().collect())
        })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(OFTEN)
    }
}

/// Standbys are found by their names: here they all have one address.
fn by_name(servers: &Arc<Servers>) -> Replicas {
    let servers = Arc::downgrade(servers);
    Replicas::new().host_of(move |replica: &Replica| {
        let at = replica
            .application_name
            .strip_prefix("host")?
            .parse()
            .ok()?;
        Some(host(&*servers.upgrade()?, at))
    })
}

async fn readers(pool: &Pool, what: &str, count: usize) {
    seen(pool, what, |topology| {
        topology
            .hosts()
            .iter()
            .filter(|host| host.is_reader())
            .count()
            == count
    })
    .await;
}

#[tokio::test]
async fn standbys_are_found_by_asking_the_primary_and_new_ones_take_reads() {
    let servers = Arc::new(Servers::start().await.unwrap());
    let pool = Pool::builder(&servers.host_url(0).unwrap())
        .configure(|config| {
            config
                .allowed_hosts("127.0.0.0/8")
                .discovery_interval(Some(OFTEN))
        })
        .discovery(by_name(&servers))
        .build()
        .await
        .unwrap();
    readers(&pool, "both standbys", 2).await;
    let added = servers.add_standby().await.unwrap();
    readers(&pool, "the third standby", 3).await;
    let mut ports = Vec::new();
    for _ in 0..3 {
        let client = pool.reader().await.unwrap();
        ports.push(port(&client).await);
    }
    assert!(ports.contains(&host(&servers, added).port()), "{ports:?}");
    // The cluster is found again from a standby that is the primary now.
    servers.kill(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    let writer = soon("the new writer", pool.get()).await.unwrap();
    assert_eq!(port(&writer).await, host(&servers, promoted).port());
}

#[tokio::test]
async fn a_promoted_standby_that_nobody_names_is_there_by_its_own_answer() {
    let servers = Arc::new(Servers::start().await.unwrap());
    let pool = Pool::builder(&servers.host_url(0).unwrap())
        .configure(|config| {
            config
                .allowed_hosts("127.0.0.0/8")
                .discovery_interval(Some(OFTEN))
        })
        .discovery(by_name(&servers).forget_after(Duration::ZERO))
        .build()
        .await
        .unwrap();
    readers(&pool, "both standbys", 2).await;
    let mut events = pool.cluster().events();
    servers.kill(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    let writer = soon("the new writer", pool.get()).await.unwrap();
    assert_eq!(port(&writer).await, host(&servers, promoted).port());
    // The list has been asked for since.
    let added = host(&servers, servers.add_standby().await.unwrap());
    soon("the new standby", async {
        loop {
            match events.next().await.expect("the monitor lives") {
                Event::HostAdded { host, .. } if host == added => break,
                Event::DiscoveryContradicted { problem, .. } => panic!("{problem}"),
                _ => {}
            }
        }
    })
    .await;
}

/// A source that takes its time: it says what it knew when it was asked.
#[derive(Clone, Debug, Default)]
struct Slow {
    told: Told,
    asked: Arc<AtomicUsize>,
    held: Arc<AtomicBool>,
    let_go: Arc<tokio::sync::Notify>,
}

impl Discovery for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn discover<'a>(&'a self, _: &'a View) -> Discovering<'a> {
        Box::pin(async {
            let known = self.told.hosts.lock().unwrap().clone();
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.held.load(Ordering::SeqCst) {
                self.let_go.notified().await;
            }
            Ok(known.into_iter().collect())
        })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(OFTEN)
    }
}

#[tokio::test]
async fn an_answer_of_before_the_writer_changed_is_no_contradiction() {
    let servers = Servers::builder().standbys(1).start().await.unwrap();
    let both = [host(&servers, 0), host(&servers, 1)];
    let slow = Slow::default();
    slow.told.tell(both.clone());
    let pool = Pool::builder(&servers.url()).discovery(slow.clone());
    let pool = pool.build().await.unwrap();
    let mut events = pool.cluster().events();
    let asked = async |count: usize| {
        soon("a question", async {
            while slow.asked.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    };
    // It is asked while the list has the old primary alone.
    slow.held.store(true, Ordering::SeqCst);
    slow.told.tell([both[0].clone()]);
    let before = slow.asked.load(Ordering::SeqCst);
    asked(before + 1).await;
    slow.told.tell(both.clone());
    servers.kill(0).await.unwrap();
    servers.failover().await.unwrap();
    drop(soon("the new writer", pool.get()).await.unwrap());
    slow.held.store(false, Ordering::SeqCst);
    slow.let_go.notify_waiters();
    // The answer to the first question after that has been taken in when the third is put.
    asked(before + 4).await;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        assert!(
            !matches!(event, Event::DiscoveryContradicted { .. }),
            "{event:?}"
        );
    }
}

#[tokio::test]
async fn the_primary_is_found_from_a_standby() {
    let servers = Arc::new(Servers::start().await.unwrap());
    let pool = Pool::builder(&servers.host_url(1).unwrap())
        .configure(|config| {
            config
                .allowed_hosts("127.0.0.0/8")
                .discovery_interval(Some(OFTEN))
        })
        .discovery(by_name(&servers))
        .build()
        .await
        .unwrap();
    let writer = soon("the writer", pool.get()).await.unwrap();
    assert_eq!(port(&writer).await, host(&servers, 0).port());
}

#[tokio::test]
async fn a_standby_that_is_no_longer_named_is_drained() {
    let (servers, _) = start().await;
    let source = Told::default();
    source.tell((0..3).map(|at| host(&servers, at)));
    let config = Config::from_url(&servers.url()).unwrap();
    let cluster = Cluster::connect_with(config, source.clone()).await.unwrap();
    let pool = Pool::new(&cluster);
    readers(&pool, "both standbys", 2).await;
    let (one, two) = (pool.reader().await.unwrap(), pool.reader().await.unwrap());
    let leaves = host(&servers, 1);
    let in_use = match port(&one).await == leaves.port() {
        true => one,
        false => two,
    };
    assert_eq!(port(&in_use).await, leaves.port());
    source.tell([host(&servers, 0), host(&servers, 2)]);
    readers(&pool, "its departure", 1).await;
    // What is in use goes on, and nothing new goes there.
    for _ in 0..4 {
        in_use.simple_query("SELECT 1").await.unwrap();
        let client = pool.get_as(Target::Standby).await.unwrap();
        assert_eq!(port(&client).await, host(&servers, 2).port());
    }
    drop(in_use);
    let client = servers.connect(1).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND application_name <> 'testkit'";
    soon("the end of its connections", async {
        while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_host_that_is_not_allowed_gets_no_connection_at_all() {
    let (servers, _) = start().await;
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let addr = stranger.local_addr().unwrap();
    let evil = HostAddr::new(addr.ip().to_string(), addr.port());
    let source = Told::default();
    source.tell([host(&servers, 0)]);
    let config = Config::builder(&servers.url())
        .allowed_hosts("*.example.com, 10.0.0.0/8, 127.0.0.1:1")
        .build()
        .unwrap();
    let cluster = Cluster::connect_with(config, source.clone()).await.unwrap();
    let mut events = cluster.events();
    source.tell([host(&servers, 0), evil.clone()]);
    until(
        &mut events,
        "the refusal",
        |event| matches!(event, Event::HostNotAllowed { host, .. } if *host == evil),
    )
    .await;
    // If nobody else is named, the source has failed.
    source.tell([evil.clone()]);
    let failed = until(&mut events, "the failure", |event| {
        matches!(event, Event::DiscoveryFailed { .. })
    })
    .await;
    assert!(
        format!("{failed:?}").contains("allowed_hosts"),
        "{failed:?}"
    );
    assert!(cluster.topology().host(&evil).is_none());
    let accepted = stranger.accept();
    assert!(accepted.is_err(), "nobody has called: {accepted:?}");
}

#[tokio::test]
async fn a_source_that_fails_hangs_or_exaggerates_changes_nothing() {
    let (servers, _) = start().await;
    let all: Vec<HostAddr> = (0..3).map(|at| host(&servers, at)).collect();
    let source = Told::default();
    source.tell(all.clone());
    let config = Config::builder(&servers.url())
        .allowed_hosts("*")
        .connect_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let cluster = Cluster::connect_with(config, source.clone()).await.unwrap();
    let pool = Pool::new(&cluster);
    readers(&pool, "both standbys", 2).await;
    let mut events = cluster.events();
    let mut failure = async |what: &str| {
        let failed = until(&mut events, what, |event| {
            matches!(event, Event::DiscoveryFailed { .. })
        })
        .await;
        assert_eq!(cluster.topology().hosts().len(), 3);
        drop(pool.get().await.unwrap());
        format!("{failed:?}")
    };
    source.tell((0..500).map(|n| HostAddr::new(format!("h{n}.example.com"), 5432)));
    let told = failure("too many").await;
    assert!(told.contains("500"), "{told}");
    source.fails.store(true, Ordering::Relaxed);
    let told = failure("the failure").await;
    assert!(told.contains("out of order"), "{told}");
    source.hangs.store(true, Ordering::Relaxed);
    let told = failure("the silence").await;
    assert!(told.contains("no answer within"), "{told}");
    source.hangs.store(false, Ordering::Relaxed);
    source.fails.store(false, Ordering::Relaxed);
    source.tell([]);
    let told = failure("nobody").await;
    assert!(told.contains("names no host"), "{told}");
}

#[tokio::test]
async fn what_one_of_several_sources_names_belongs_to_the_cluster() {
    let (servers, _) = start().await;
    let (one, two) = (Told::default(), Told::default());
    one.tell([host(&servers, 0), host(&servers, 1)]);
    two.tell([host(&servers, 0), host(&servers, 2)]);
    let pool = Pool::builder("postgres://postgres@/postgres")
        .configure(|config| config.allowed_hosts("127.0.0.0/8"))
        .discovery(one.clone())
        .discovery(two.clone())
        .build()
        .await
        .unwrap();
    readers(&pool, "both standbys", 2).await;
    // One that fails is remembered by its last word.
    one.fails.store(true, Ordering::Relaxed);
    two.tell([host(&servers, 0)]);
    readers(&pool, "the other's", 1).await;
    let client = pool.reader().await.unwrap();
    assert_eq!(port(&client).await, host(&servers, 1).port());
}

#[tokio::test]
async fn hosts_of_one_cluster_that_turn_out_to_be_of_another_are_not_used() {
    let (servers, _) = start().await;
    let other = Servers::builder()
        .standbys(0)
        .fresh_initdb(true)
        .start()
        .await
        .unwrap();
    let source = Told::default();
    source.tell([host(&servers, 0)]);
    let config = Config::builder(&servers.url())
        .allowed_hosts("127.0.0.0/8")
        .build()
        .unwrap();
    let cluster = Cluster::connect_with(config, source.clone()).await.unwrap();
    let pool = Pool::new(&cluster);
    let mut events = cluster.events();
    // Also a list of nobody but strangers takes nothing away.
    source.tell([host(&other, 0)]);
    until(&mut events, "the stranger", |event| {
        matches!(event, Event::ForeignHost { .. })
    })
    .await;
    let client = pool.get().await.unwrap();
    assert_eq!(port(&client).await, host(&servers, 0).port());
}

#[tokio::test]
async fn a_name_that_moves_with_the_primary_is_followed() {
    let (servers, _) = start_proxied().await;
    let proxy = servers.proxy(0).unwrap();
    let name = proxy.addr();
    let url = format!("postgres://postgres@{}:{}/postgres", name.ip(), name.port());
    let pool = Pool::connect(&url).await.unwrap();
    drop(pool.get().await.unwrap());
    servers.switchover(1).await.unwrap();
    // The former primary lives on as a standby, and the name leads to its successor.
    proxy.set_target(servers.addr(1).unwrap());
    // A transaction: what is opened before it is seen that the server is another one is aborted.
    let leads_to = pool.run_tx(|tx| async move {
        let row = tx.query_one("SELECT inet_server_port()", &[]).await?;
        Ok(row.get::<_, i32>(0))
    });
    let leads_to = soon("the writer", leads_to).await.unwrap();
    assert_eq!(leads_to, i32::from(servers.addr(1).unwrap().port()));
}

#[tokio::test]
async fn when_a_name_leads_to_another_primary_the_connections_to_the_first_are_aborted() {
    let (servers, _) = start_proxied().await;
    let proxy = servers.proxy(0).unwrap();
    let name = proxy.addr();
    let url = format!("postgres://postgres@{}:{}/postgres", name.ip(), name.port());
    let pool = Pool::connect(&url).await.unwrap();
    let mut events = pool.cluster().events();
    let client = pool.get().await.unwrap();
    servers.promote(1).await.unwrap();
    proxy.set_target(servers.addr(1).unwrap());
    // The first one lives and takes writes; nothing but a fresh connection tells.
    let admin = servers.connect(0).await.unwrap();
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'leadpool monitor'";
    admin.batch_execute(sql).await.unwrap();
    until(&mut events, "the replacement", |event| {
        matches!(
            event,
            Event::Invalidated {
                aborted: true,
                reason: Invalidation::Replaced,
                ..
            }
        )
    })
    .await;
    let gone = soon("the abort", client.simple_query("SELECT pg_sleep(60)"));
    assert!(gone.await.is_err());
    let client = soon("the writer", pool.get()).await.unwrap();
    assert_eq!(port(&client).await, servers.addr(1).unwrap().port());
}

#[tokio::test]
async fn it_looks_at_once_when_it_is_told_to() {
    let (servers, _) = start().await;
    let source = Told::default();
    source.tell([host(&servers, 0)]);
    let config = Config::builder(&servers.url())
        .allowed_hosts("127.0.0.0/8")
        // Never by itself, as far as this test goes.
        .discovery_interval(Some(Duration::from_secs(3600)))
        .build()
        .unwrap();
    let cluster = Cluster::connect_with(config, source.clone()).await.unwrap();
    let pool = Pool::new(&cluster);
    source.tell((0..2).map(|at| host(&servers, at)));
    soon("the standby", async {
        while !cluster
            .topology()
            .hosts()
            .iter()
            .any(|host| host.is_reader())
        {
            cluster.probe_now();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    drop(pool.get_as(Target::Standby).await.unwrap());
}

#[tokio::test]
async fn a_refresh_takes_no_place_of_a_checkout() {
    let servers = Arc::new(Servers::start().await.unwrap());
    let pool = Pool::builder(&servers.host_url(0).unwrap())
        .configure(|config| {
            config
                .allowed_hosts("127.0.0.0/8")
                .discovery_interval(Some(OFTEN))
                .writer_size(1)
        })
        .discovery(by_name(&servers))
        .build()
        .await
        .unwrap();
    // The only connection is in use while hosts are found, asked, and found anew.
    let client = pool.get().await.unwrap();
    readers(&pool, "both standbys", 2).await;
    servers.add_standby().await.unwrap();
    readers(&pool, "the third standby", 3).await;
    let status = pool.status();
    let writer = status
        .sub_pools
        .iter()
        .find(|sub_pool| Some(&sub_pool.host) == status.writer.as_ref());
    let counts = writer.unwrap().counts;
    assert_eq!((counts.size, counts.in_use(), counts.waiting), (1, 1, 0));
    drop(client);
}
