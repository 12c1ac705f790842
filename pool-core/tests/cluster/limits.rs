//! How many connections there are, and for how long.

use std::{collections::BTreeSet, time::Duration};

use deadpool_postgres::Client;
use leadpool::{Error, Pool, PoolCounts, Target};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

fn counts(servers: &Servers, pool: &Pool, host: usize) -> PoolCounts {
    let port = servers.addr(host).unwrap().port();
    let sub_pools = pool.status().sub_pools;
    let found = sub_pools
        .iter()
        .find(|sub_pool| sub_pool.host.port() == port);
    found.unwrap().counts
}

async fn counted(
    what: &str,
    servers: &Servers,
    pool: &Pool,
    host: usize,
    is_so: impl Fn(PoolCounts) -> bool,
) {
    soon(what, async {
        while !is_so(counts(servers, pool, host)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn backend(client: &Client) -> i32 {
    let row = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap();
    row.get(0)
}

/// The sessions of the pool and its monitor.
async fn backends(servers: &Servers, host: usize) -> BTreeSet<i32> {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT pid FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND application_name <> 'testkit'";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_promoted_standby_brings_its_connections_along() {
    let servers = Servers::start().await.unwrap();
    let pool = connect_with(&servers.url(), |config| config.reader_min_size(3))
        .await
        .unwrap();
    for host in [1, 2] {
        counted("the minimum", &servers, &pool, host, |counts| {
            counts.idle == 3
        })
        .await;
    }
    assert_eq!(counts(&servers, &pool, 0).size, 0, "the writer has none");
    let before = [backends(&servers, 1).await, backends(&servers, 2).await];
    servers.kill(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    let client = soon("a checkout", pool.get()).await.unwrap();
    assert!(before[promoted - 1].contains(&backend(&client).await));
}

#[tokio::test]
async fn a_connection_of_the_minimum_that_is_lost_is_opened_again() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = connect_with(&servers.url(), |config| config.writer_min_size(2))
        .await
        .unwrap();
    let both = |counts: PoolCounts| counts.idle == 2;
    counted("the minimum", &servers, &pool, 0, both).await;
    let client = pool.get().await.unwrap();
    let lost = backend(&client).await;
    drop(client);
    let admin = servers.connect(0).await.unwrap();
    let ended = admin
        .query_one("SELECT pg_terminate_backend($1)", &[&lost])
        .await
        .unwrap();
    assert!(ended.get::<_, bool>(0));
    soon("another", async {
        while {
            let now = backends(&servers, 0).await;
            // Two, and the monitor's.
            now.contains(&lost) || now.len() < 3
        } {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    counted("the minimum", &servers, &pool, 0, both).await;
}

#[tokio::test]
async fn idle_connections_are_closed_down_to_the_minimum() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = connect_with(&servers.url(), |config| {
        config
            .writer_min_size(1)
            .idle_timeout(Some(Duration::from_millis(200)))
    })
    .await
    .unwrap();
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(pool.get().await.unwrap());
    }
    assert_eq!(counts(&servers, &pool, 0).size, 5);
    let in_use = held.pop().unwrap();
    drop(held);
    counted("the minimum", &servers, &pool, 0, |counts| counts.size == 1).await;
    in_use.simple_query("SELECT 1").await.unwrap();
    soon("the end of the sessions", async {
        // One, and the monitor's.
        while backends(&servers, 0).await.len() > 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_not_handed_out_again() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = connect_with(&servers.url(), |config| {
        config
            .idle_timeout(None)
            .max_lifetime(Some(Duration::from_millis(300)))
    })
    .await
    .unwrap();
    let held = pool.get().await.unwrap();
    let mine = backend(&held).await;
    let first = backend(&pool.get().await.unwrap()).await;
    soon("another", async {
        while backend(&pool.get().await.unwrap()).await == first {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(backend(&held).await, mine, "what is in use is left alone");
    soon("its age", async {
        let old = "SELECT now() - backend_start > interval '300 ms' FROM pg_stat_activity \
                   WHERE pid = pg_backend_pid()";
        while !held.query_one(old, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(held);
    let all = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    assert_ne!(backend(&all[0]).await, mine);
    assert_ne!(backend(&all[1]).await, mine);
}

#[tokio::test]
async fn too_many_are_refused_at_once_and_those_who_wait_are_served() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = connect_with(&servers.url(), |config| {
        config.writer_size(1).max_waiting(Some(1))
    })
    .await
    .unwrap();
    let held = pool.get().await.unwrap();
    let (waited, ()) = tokio::join!(soon("the first", pool.get()), async {
        while pool.status().waiting < 1 {
            tokio::task::yield_now().await;
        }
        let forever = pool.timeout_get(Target::Primary, Duration::from_secs(3600));
        let refused = soon("the refusal", forever).await.unwrap_err();
        assert!(matches!(refused, Error::Overloaded(_)), "{refused}");
        let transaction = pool.run_tx(|tx| async move { Ok(tx.execute("SELECT 1", &[]).await?) });
        let refused = soon("the refusal", transaction).await.unwrap_err();
        assert!(matches!(refused, Error::Overloaded(_)), "{refused}");
        drop(held);
    });
    drop(waited.unwrap());
    assert_eq!(pool.status().waiting, 0);
}

#[tokio::test]
async fn a_pool_for_others_takes_no_old_connection_either() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = connect_with(&servers.url(), |config| {
        config.max_lifetime(Some(Duration::from_millis(100)))
    })
    .await
    .unwrap();
    let native = pool.deadpool_pool();
    let first = backend(&native.get().await.unwrap()).await;
    soon("another", async {
        while backend(&native.get().await.unwrap()).await == first {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
