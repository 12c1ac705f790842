//! Aurora and RDS Multi-AZ DB clusters, on servers whose functions follow the true roles.

use std::{sync::Arc, time::Duration};

use leadpool::{Event, HostAddr, Pool, discovery::Rds};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

const OFTEN: Duration = Duration::from_millis(100);

fn host(servers: &Servers, at: usize) -> HostAddr {
    let addr = servers.addr(at).unwrap();
    HostAddr::new(addr.ip().to_string(), addr.port())
}

fn all(servers: &Servers) -> String {
    let ports = (0..servers.hosts()).map(|at| format!("({})", host(servers, at).port()));
    ports.collect::<Vec<_>>().join(", ")
}

/// The functions of Aurora: an instance is called by its port. The writer is the host itself if it
/// is none in recovery, else the one that it receives the log from. `aurora.lie` makes them lie.
async fn make_aurora(servers: &Servers) {
    let sql = format!(
        "SET allow_system_table_mods = on;
         CREATE SCHEMA aurora;
         CREATE TABLE aurora.lie (what text);
         CREATE TABLE aurora.instances (port int);
         INSERT INTO aurora.instances VALUES {};
         CREATE FUNCTION pg_catalog.aurora_db_instance_identifier() RETURNS text LANGUAGE sql AS
           $$SELECT 'inst-' || inet_server_port()$$;
         CREATE FUNCTION pg_catalog.aurora_replica_status(
             OUT server_id text, OUT session_id text, OUT cpu real, OUT replica_lag_in_msec real,
             OUT last_update_timestamp timestamptz)
           RETURNS SETOF record LANGUAGE sql AS $$
           WITH writer AS (
             SELECT CASE WHEN pg_is_in_recovery()
                    THEN (SELECT sender_port FROM pg_stat_wal_receiver)
                    ELSE inet_server_port() END AS port),
           lie AS (SELECT max(what) AS what FROM aurora.lie)
           SELECT 'inst-' || i.port,
                  CASE WHEN i.port = w.port AND coalesce(lie.what, '') NOT IN ('none', 'others') THEN 'MASTER_SESSION_ID'
                       WHEN i.port <> w.port AND lie.what IN ('two', 'others') THEN 'MASTER_SESSION_ID'
                       ELSE 'session-' || i.port END,
                  1.0::real,
                  CASE WHEN i.port = w.port THEN NULL ELSE 12.0::real END,
                  CASE WHEN i.port = w.port OR lie.what IS DISTINCT FROM 'two' THEN clock_timestamp()
                       ELSE clock_timestamp() - interval '1 hour' END
             FROM aurora.instances i, writer w, lie
           UNION ALL SELECT 'gone', 'session-gone', 0, 0, now() - interval '10 minutes'$$;",
        all(servers)
    );
    let client = servers.connect(0).await.unwrap();
    client.batch_execute(&sql).await.unwrap();
    servers.wait_replayed().await.unwrap();
}

fn instances(servers: &Arc<Servers>) -> Rds {
    let servers = Arc::downgrade(servers);
    Rds::new().host_of(move |id| {
        let port = id.strip_prefix("inst-")?.parse().ok()?;
        let servers = servers.upgrade()?;
        Some(HostAddr::new(servers.addr(0).ok()?.ip().to_string(), port))
    })
}

async fn aurora() -> (Arc<Servers>, Pool) {
    let servers = Arc::new(Servers::start().await.unwrap());
    prepare(&servers).await;
    make_aurora(&servers).await;
    let pool = Pool::builder(&servers.host_url(1).unwrap())
        .configure(|config| {
            config
                .allowed_hosts("127.0.0.0/8")
                .discovery_interval(Some(OFTEN))
        })
        .discovery(instances(&servers))
        .build()
        .await
        .unwrap();
    (servers, pool)
}

#[tokio::test]
async fn the_instances_of_aurora_are_found_and_its_failovers_followed() {
    let (servers, pool) = aurora().await;
    seen(&pool, "the instances", |topology| {
        topology
            .hosts()
            .iter()
            .filter(|host| host.is_reader())
            .count()
            == 2
    })
    .await;
    let topology = pool.cluster().topology();
    assert_eq!(topology.hosts().len(), 3, "without the one that is gone");
    assert_eq!(topology.writer, Some(host(&servers, 0)));
    assert!(topology.term.is_some_and(|term| term.get() > 1_000_000_000));
    let reader = topology
        .hosts()
        .iter()
        .find(|host| host.is_reader())
        .unwrap();
    assert_eq!(reader.staleness, Some(Duration::from_millis(12)));

    for _ in 0..2 {
        let old = servers.primary();
        servers.kill(old).await.unwrap();
        let promoted = servers.failover().await.unwrap();
        pool.run_tx(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            Ok(())
        })
        .await
        .unwrap();
        let topology = pool.cluster().topology();
        assert_eq!(topology.writer, Some(host(&servers, promoted)));
        servers.heal().await.unwrap();
    }
    assert_eq!(rows(&servers).await, 2);
}

#[tokio::test]
async fn a_former_writer_of_aurora_that_comes_back_as_one_is_fenced() {
    let (servers, pool) = aurora().await;
    drop(pool.get().await.unwrap());
    seen(&pool, "the instances", |topology| {
        topology
            .hosts()
            .iter()
            .filter(|host| host.is_reader())
            .count()
            == 2
    })
    .await;
    let mut events = pool.cluster().events();
    servers.kill(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    let client = soon("the new writer", pool.get()).await.unwrap();
    assert_eq!(port(&client).await, host(&servers, promoted).port());
    servers.revive_stale(0).await.unwrap();
    let old = host(&servers, 0);
    until(
        &mut events,
        "the fence",
        |event| matches!(event, Event::Fenced { host, .. } if *host == old),
    )
    .await;
    assert_eq!(
        pool.cluster().topology().writer,
        Some(host(&servers, promoted))
    );
}

#[tokio::test]
async fn a_listing_of_two_writers_or_none_changes_nothing() {
    let (servers, pool) = aurora().await;
    let client = pool.get().await.unwrap();
    let writer = pool.cluster().topology().writer.clone();
    let mut events = pool.cluster().events();
    let admin = servers.connect(0).await.unwrap();
    admin
        .batch_execute("INSERT INTO aurora.lie VALUES ('none')")
        .await
        .unwrap();
    let failed = until(&mut events, "the failure", |event| {
        matches!(event, Event::DiscoveryFailed { .. })
    })
    .await;
    assert!(format!("{failed:?}").contains("no writer"), "{failed:?}");
    pool.cluster().probe_now();
    until(
        &mut events,
        "the doubt",
        |event| matches!(event, Event::HostSuspect { problem, .. } if problem.contains("no writer")),
    )
    .await;
    client
        .execute("INSERT INTO t (n) VALUES (1)", &[])
        .await
        .unwrap();
    assert_eq!(pool.cluster().topology().writer, writer);

    admin
        .batch_execute("UPDATE aurora.lie SET what = 'two'")
        .await
        .unwrap();
    soon("a sound picture", async {
        loop {
            pool.cluster().probe_now();
            let topology = pool.cluster().topology();
            let sound = topology.writer == writer
                && topology
                    .hosts()
                    .iter()
                    .filter(|host| host.is_reader())
                    .count()
                    == 2
                && topology.phase == leadpool::topology::Phase::Stable;
            if sound {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    client
        .execute("INSERT INTO t (n) VALUES (1)", &[])
        .await
        .unwrap();
}

#[tokio::test]
async fn an_instance_that_the_listing_does_not_name_as_the_writer_is_none() {
    let (servers, pool) = aurora().await;
    drop(pool.get().await.unwrap());
    let mut events = pool.cluster().events();
    let writer = host(&servers, 0);
    let admin = servers.connect(0).await.unwrap();
    admin
        .batch_execute("INSERT INTO aurora.lie VALUES ('others')")
        .await
        .unwrap();
    pool.cluster().probe_now();
    until(
        &mut events,
        "the demotion",
        |event| matches!(event, Event::Demoted { host, .. } if *host == writer),
    )
    .await;
    assert_eq!(pool.cluster().topology().writer, None);
    admin.batch_execute("DELETE FROM aurora.lie").await.unwrap();
    drop(soon("the writer", pool.get()).await.unwrap());
    assert_eq!(pool.cluster().topology().writer, Some(writer));
}

#[tokio::test]
async fn behind_a_name_of_ones_own_it_asks_for_the_pattern() {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    make_aurora(&servers).await;
    let config = leadpool::Config::builder(&servers.url())
        .lazy(true)
        .build()
        .unwrap();
    let cluster = leadpool::Cluster::connect_with(config, Rds::new())
        .await
        .unwrap();
    let mut events = cluster.events();
    let failed = until(&mut events, "the failure", |event| {
        matches!(event, Event::DiscoveryFailed { .. })
    })
    .await;
    assert!(
        format!("{failed:?}").contains("instance_pattern"),
        "{failed:?}"
    );
    // Those that are known by name serve all the same.
    let pool = Pool::new(&cluster);
    drop(soon("the writer", pool.get()).await.unwrap());
}

#[tokio::test]
async fn an_endpoint_of_aws_is_asked_without_a_word() {
    let servers = Servers::start().await.unwrap();
    make_aurora(&servers).await;
    let addr = servers.addr(0).unwrap();
    let url = format!(
        "host=shop.cluster-c0ffee.eu-west-1.rds.amazonaws.com hostaddr={} port={} user=postgres \
         dbname=postgres",
        addr.ip(),
        addr.port()
    );
    let pool = Pool::connect(&url).await.unwrap();
    // Their names lead nowhere here, so the endpoint stays.
    seen(&pool, "the instances", |topology| {
        let names = topology.hosts().iter().filter(|host| {
            host.addr.name().starts_with("inst-")
                && host
                    .addr
                    .name()
                    .ends_with(".c0ffee.eu-west-1.rds.amazonaws.com")
        });
        names.count() == 3 && topology.writer.is_some()
    })
    .await;

    let proxy = url.replace("shop.cluster-c0ffee", "shop.proxy-c0ffee");
    let pool = Pool::connect(&proxy).await.unwrap();
    drop(pool.get().await.unwrap());
    assert_eq!(pool.cluster().topology().hosts().len(), 1);
}

/// The functions of `rds_tools`, likewise.
async fn make_multi_az(servers: &Servers) {
    let ip = servers.addr(0).unwrap().ip();
    let sql = format!(
        "CREATE SCHEMA rds_tools;
         CREATE TABLE rds_tools.instances (port int);
         INSERT INTO rds_tools.instances VALUES {};
         CREATE FUNCTION rds_tools.dbi_resource_id() RETURNS text LANGUAGE sql AS
           $$SELECT 'db-' || inet_server_port()$$;
         CREATE FUNCTION rds_tools.multi_az_db_cluster_source_dbi_resource_id() RETURNS text LANGUAGE sql AS
           $$SELECT 'db-' || CASE WHEN pg_is_in_recovery()
               THEN (SELECT sender_port FROM pg_stat_wal_receiver) ELSE inet_server_port() END$$;
         CREATE FUNCTION rds_tools.show_topology(caller text, OUT id text, OUT endpoint text, OUT port int)
           RETURNS SETOF record LANGUAGE sql AS
           $$SELECT 'db-' || i.port, '{ip}', i.port FROM rds_tools.instances i$$;",
        all(servers)
    );
    let client = servers.connect(0).await.unwrap();
    client.batch_execute(&sql).await.unwrap();
    servers.wait_replayed().await.unwrap();
}

#[tokio::test]
async fn the_instances_of_a_multi_az_cluster_are_found_and_its_failovers_followed() {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    make_multi_az(&servers).await;
    let pool = Pool::builder(&servers.host_url(2).unwrap())
        .configure(|config| {
            config
                .allowed_hosts("127.0.0.0/8")
                .discovery_interval(Some(OFTEN))
        })
        .build()
        .await
        .unwrap();
    seen(&pool, "the instances", |topology| {
        topology
            .hosts()
            .iter()
            .filter(|host| host.is_reader())
            .count()
            == 2
    })
    .await;
    servers.kill(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    pool.run_tx(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(
        pool.cluster().topology().writer,
        Some(host(&servers, promoted))
    );
}
