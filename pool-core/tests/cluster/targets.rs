//! What a checkout may ask for, and which host serves it.

use std::time::Duration;

use leadpool::{Config, Error, Pool, Target, config::FailoverMode, topology::HostView};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(100);

async fn whole(pool: &Pool) {
    seen(pool, "the whole cluster", |topology| {
        topology.writer.is_some()
            && topology
                .hosts()
                .iter()
                .filter(|host| host.is_reader())
                .count()
                + 1
                == topology.hosts().len()
    })
    .await;
}

async fn recovers(client: &deadpool_postgres::Client) -> bool {
    let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await;
    row.unwrap().get(0)
}

#[tokio::test]
async fn the_values_of_libpq_for_the_pool_and_for_a_checkout() {
    let servers = Servers::start().await.unwrap();
    for (attrs, standby) in [
        ("read-write", Some(false)),
        ("primary", Some(false)),
        ("read-only", Some(true)),
        ("standby", Some(true)),
        ("prefer-standby", Some(true)),
        ("any", None),
    ] {
        let separator = if servers.url().contains('?') {
            '&'
        } else {
            '?'
        };
        let url = format!("{}{separator}target_session_attrs={attrs}", servers.url());
        let pool = Pool::connect(&url).await.unwrap();
        whole(&pool).await;
        let client = soon(attrs, pool.get()).await.unwrap();
        if let Some(standby) = standby {
            assert_eq!(recovers(&client).await, standby, "{attrs}");
        }
        let target: Target = attrs.parse().unwrap();
        let client = soon(attrs, pool.get_as(target)).await.unwrap();
        if let Some(standby) = standby {
            assert_eq!(recovers(&client).await, standby, "{attrs} for a checkout");
        }
    }
}

#[tokio::test]
async fn a_strict_reader_gets_the_writer_only_of_a_cluster_of_one_host() {
    let alone = Servers::builder().standbys(0).start().await.unwrap();
    let config = Config::builder(&alone.url())
        .failover_mode(FailoverMode::StrictReader)
        .build()
        .unwrap();
    let cluster = leadpool::Cluster::connect(config).await.unwrap();
    let pool = Pool::new(&cluster);
    assert!(!recovers(&pool.get().await.unwrap()).await);
    assert!(pool.timeout_get(Target::Standby, SHORT).await.is_err());

    let servers = Servers::builder().standbys(1).start().await.unwrap();
    let pool = Pool::connect(&servers.url()).await.unwrap();
    whole(&pool).await;
    let strict = |limit| pool.timeout_get(Target::StrictReader, limit);
    assert!(recovers(&strict(Duration::from_secs(10)).await.unwrap()).await);
    servers.kill(1).await.unwrap();
    seen(&pool, "the loss", |topology| {
        !topology.hosts().iter().any(HostView::is_reader)
    })
    .await;
    let refused = strict(SHORT).await.unwrap_err();
    assert!(matches!(refused, Error::NoHost(_)), "{refused}");
    let prefer = pool.get_as(Target::PreferStandby);
    assert!(!recovers(&soon("the writer", prefer).await.unwrap()).await);
}

#[tokio::test]
async fn a_primary_that_is_closed_for_writes_serves_read_only() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = Pool::connect(&servers.url()).await.unwrap();
    assert!(pool.timeout_get(Target::ReadOnly, SHORT).await.is_err());
    let admin = servers.connect(0).await.unwrap();
    for sql in [
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    pool.cluster().probe_now();
    let client = soon("read-only", async {
        loop {
            pool.cluster().probe_now();
            if let Ok(client) = pool.timeout_get(Target::ReadOnly, SHORT).await {
                return client;
            }
        }
    })
    .await;
    assert!(!recovers(&client).await);
    assert!(pool.timeout_get(Target::Primary, SHORT).await.is_err());
}
