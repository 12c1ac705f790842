//! Who is not the primary, although it says so.

use std::time::Duration;

use leadpool::{
    Error, Event, Pool, Target,
    topology::{Health, Phase, Role},
};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

#[tokio::test]
async fn a_frozen_primary_that_wakes_up_is_fenced() {
    let (servers, pool) = start().await;
    let mut events = pool.cluster().events();
    servers.freeze(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    until(&mut events, "the fence", |event| {
        matches!(event, Event::Fenced { .. })
    })
    .await;
    servers.thaw(0).await.unwrap();
    seen(&pool, "the old primary", |topology| {
        let old = &topology.hosts()[0];
        old.health == Health::Up && old.role == Role::Primary
    })
    .await;
    for _ in 0..20 {
        let client = pool.get().await.unwrap();
        assert_eq!(port(&client).await, servers.addr(promoted).unwrap().port());
    }
    let old = pool.cluster().topology().hosts()[0].clone();
    assert!(old.fenced, "{}", old.describe());
}

#[tokio::test]
async fn a_revived_primary_gets_no_writes_even_when_it_is_the_only_one() {
    let (servers, pool) = start().await;
    let mut events = pool.cluster().events();
    servers.kill(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    drop(pool.get().await.unwrap());
    servers.revive_stale(0).await.unwrap();
    until(&mut events, "the fence", |event| {
        matches!(event, Event::Fenced { .. })
    })
    .await;
    servers.kill(promoted).await.unwrap();
    seen(&pool, "its end", |topology| topology.writer.is_none()).await;
    let short = Duration::from_millis(500);
    let error = pool.timeout_get(Target::Primary, short).await.unwrap_err();
    assert!(matches!(error, Error::NoHost(_)));
    assert!(
        error.to_string().contains("stale primary, fenced"),
        "{error}"
    );

    // The way out for an operator.
    pool.cluster().forget_term();
    let client = soon("a checkout", pool.get()).await.unwrap();
    assert_eq!(port(&client).await, servers.addr(0).unwrap().port());
}

#[tokio::test]
async fn silence_and_standbys_make_no_primary() {
    let (servers, pool) = start().await;
    servers.kill(0).await.unwrap();
    let short = Duration::from_millis(700);
    let error = pool.timeout_get(Target::Primary, short).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::NoHost(_)), "{text}");
    assert!(
        text.contains("standby") && text.contains("refused"),
        "{text}"
    );
    // Reads go on meanwhile.
    drop(pool.reader().await.unwrap());
}

#[tokio::test]
async fn two_primaries_of_one_timeline_are_contested() {
    let (servers, pool) = start().await;
    let mut events = pool.cluster().events();
    servers.kill(0).await.unwrap();
    // Both promotions take timeline 2.
    let (one, two) = tokio::join!(servers.promote(1), servers.promote(2));
    one.and(two).unwrap();
    until(&mut events, "the dispute", |event| {
        matches!(event, Event::Contested { .. })
    })
    .await;
    let short = Duration::from_millis(300);
    assert!(pool.timeout_get(Target::Primary, short).await.is_err());
    assert_eq!(pool.cluster().topology().phase, Phase::Contested);
    servers.kill(2).await.unwrap();
    let client = soon("a checkout", pool.get()).await.unwrap();
    assert_eq!(port(&client).await, servers.addr(1).unwrap().port());
}

#[tokio::test]
async fn a_host_of_another_cluster_is_refused() {
    let ours = Servers::builder().standbys(1).start().await.unwrap();
    let stranger = Servers::builder()
        .standbys(0)
        .fresh_initdb(true)
        .start()
        .await
        .unwrap();
    let url = format!(
        "postgres://postgres@{},{},{}/postgres",
        stranger.addr(0).unwrap(),
        ours.addr(0).unwrap(),
        ours.addr(1).unwrap()
    );
    let pool = Pool::connect(&url).await.unwrap();
    for _ in 0..4 {
        let writer = pool.get().await.unwrap();
        assert_eq!(port(&writer).await, ours.addr(0).unwrap().port());
        let reader = pool.reader().await.unwrap();
        assert_eq!(port(&reader).await, ours.addr(1).unwrap().port());
    }
    let topology = pool.cluster().topology();
    assert!(topology.hosts()[0].foreign.is_some());
    assert!(topology.hosts()[0].describe().contains("another cluster"));
    let status = pool.status();
    assert_eq!(
        status.sub_pools.len(),
        2,
        "a stranger gets no connection at all"
    );
}

#[tokio::test]
async fn a_primary_set_read_only_is_no_writer_until_it_is_writable() {
    let (servers, pool) = start().await;
    let mut events = pool.cluster().events();
    let admin = servers.connect(0).await.unwrap();
    for sql in [
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    // The refused write is what makes the monitor look.
    let mut refused = 0;
    soon("a refused write", async {
        loop {
            let written = pool
                .tx()
                .deadline(Duration::from_millis(100))
                .run(|tx| async move {
                    tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
                    Ok(())
                })
                .await;
            match written {
                Ok(()) => {}
                Err(_) => {
                    refused += 1;
                    break;
                }
            }
        }
    })
    .await;
    assert!(refused > 0);
    until(&mut events, "the news", |event| {
        matches!(event, Event::PrimaryReadOnly { .. })
    })
    .await;
    for sql in [
        "ALTER SYSTEM RESET default_transaction_read_only",
        "SELECT pg_reload_conf()",
    ] {
        let sql = format!("SET default_transaction_read_only = off; {sql}");
        for sql in sql.split("; ") {
            admin.batch_execute(sql).await.unwrap();
        }
    }
    let _client = soon("a checkout", pool.get()).await.unwrap();
}
