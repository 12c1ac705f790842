//! Everything that happens to a primary, while writers write.

use std::sync::atomic::Ordering;

use leadpool::{
    Event,
    topology::{Health, Phase},
};
use leadpool_testkit::{Partition, PatroniCluster};

use crate::{soon, stage, until, writers::Writers};

#[tokio::test]
async fn a_switchover_and_the_kill_of_a_whole_host() {
    let Some(stage) = stage(|builder| builder).await else {
        return;
    };
    let pool = stage.pool().await;
    let writers = Writers::start(&pool);
    writers.more("the first writes", 20).await;

    let before = writers.timeline();
    stage.servers.switchover(None).await.unwrap();
    writers.beyond("writes after the switchover", before).await;

    stage.servers.wait_healthy().await.unwrap();
    let before = writers.timeline();
    let leader = stage.servers.leader().await.unwrap();
    stage.servers.kill_host(leader).await.unwrap();
    writers.beyond("writes after the kill", before).await;
    writers.more("steady writes", 20).await;
    writers.stop_clean("switchover and kill").await;
}

#[tokio::test]
async fn a_frozen_host_that_wakes_up_gets_no_write() {
    let Some(stage) = stage(|builder| builder).await else {
        return;
    };
    let pool = stage.pool().await;
    let writers = Writers::start(&pool);
    writers.more("the first writes", 20).await;

    let (before, leader) = (writers.timeline(), stage.servers.leader().await.unwrap());
    stage.servers.freeze_host(leader).await.unwrap();
    writers.beyond("writes elsewhere", before).await;
    let frozen = stage.host(leader);
    let topology = pool.cluster().topology();
    // Or Patroni has forgotten it, and so have we.
    if let Some(view) = topology.host(&frozen) {
        assert!(view.fenced || view.health == Health::Down, "{view:?}");
    }
    // It takes writes for a moment, until its Patroni has looked.
    stage.servers.thaw_host(leader).await.unwrap();
    stage.servers.wait_standby(leader).await.unwrap();
    soon("its return as a reader", async {
        while !pool
            .cluster()
            .topology()
            .host(&frozen)
            .is_some_and(|host| host.is_reader())
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    writers.more("steady writes", 20).await;
    writers.stop_clean("freeze").await;
}

#[tokio::test]
async fn a_primary_whose_patroni_died_gets_no_write_once_there_is_another() {
    let Some(stage) = stage(|builder| builder).await else {
        return;
    };
    let pool = stage.pool().await;
    let mut events = pool.cluster().events();
    let writers = Writers::start(&pool);
    let plain = Writers::start_plain(&stage, &pool);
    writers.more("the first writes", 20).await;
    plain.more("the plain pool's first writes", 20).await;

    let (before, leader) = (writers.timeline(), stage.servers.leader().await.unwrap());
    stage.servers.kill_patroni(leader).await.unwrap();
    writers.beyond("writes on the new primary", before).await;
    let left = stage.host(leader);
    let topology = pool.cluster().topology();
    assert_ne!(topology.writer, Some(left.clone()));
    until(
        &mut events,
        "the fence",
        |event| matches!(event, Event::Fenced { host, .. } if *host == left),
    )
    .await;
    // Nobody tells the old one: whoever does not compare timelines goes on there.
    plain.more("the plain pool's stale writes", 20).await;
    let plain = plain.stop().await;
    eprintln!("a plain multi-host pool: {plain:?}");
    assert!(
        plain.stale.load(Ordering::Relaxed) > 0,
        "the stale primary takes writes, or this shows nothing: {plain:?}"
    );
    stage.servers.start_patroni(leader).await.unwrap();
    stage.servers.wait_healthy().await.unwrap();
    writers.more("steady writes", 20).await;
    writers.stop_clean("patroni killed").await;
}

#[tokio::test]
async fn without_etcd_it_waits_for_the_next_primary() {
    let Some(stage) = stage(|builder| builder).await else {
        return;
    };
    let pool = stage.pool().await;
    let mut events = pool.cluster().events();
    let writers = Writers::start(&pool);
    writers.more("the first writes", 20).await;
    stage.servers.stop_etcd().await.unwrap();
    // Patroni makes a standby of its own primary.
    until(&mut events, "the demotion", |event| {
        matches!(event, Event::Demoted { .. })
    })
    .await;
    assert_eq!(pool.cluster().topology().writer, None);
    let before = writers.timeline();
    stage.servers.start_etcd().await.unwrap();
    writers.beyond("writes with etcd back", before).await;
    writers.stop_clean("without etcd").await;
}

#[tokio::test]
async fn without_etcd_and_with_failsafe_mode_nothing_happens() {
    let Some(stage) = stage(|builder| builder.failsafe(true)).await else {
        return;
    };
    let pool = stage.pool().await;
    let mut events = pool.cluster().events();
    let writers = Writers::start(&pool);
    writers.more("the first writes", 20).await;
    let writer = pool.cluster().topology().writer.clone();
    stage.servers.stop_etcd().await.unwrap();
    // Its API says nothing useful without etcd, and the cluster is known all the same.
    pool.cluster().probe_now();
    until(&mut events, "the failure of the source", |event| {
        pool.cluster().probe_now();
        matches!(event, Event::DiscoveryFailed { .. })
    })
    .await;
    writers.more("writes without etcd", 400).await;
    let topology = pool.cluster().topology();
    assert_eq!(topology.writer, writer);
    assert_eq!(topology.phase, Phase::Stable);
    stage.servers.start_etcd().await.unwrap();
    writers.more("steady writes", 20).await;
    writers.stop_clean("failsafe").await;
}

#[tokio::test]
async fn a_primary_that_is_cut_off_from_its_cluster_is_left() {
    if let Err(reason) = PatroniCluster::namespaces_permitted().await {
        eprintln!("skipped: {reason}");
        return;
    }
    let Some(stage) = stage(|builder| builder.namespaces(true)).await else {
        return;
    };
    let pool = stage.pool().await;
    let writers = Writers::start(&pool);
    writers.more("the first writes", 20).await;

    // We reach it, the others and etcd don't: it demotes itself.
    let (before, leader) = (writers.timeline(), stage.servers.leader().await.unwrap());
    let from = Partition::FromEtcdAndHosts;
    stage.servers.partition(leader, from).await.unwrap();
    writers.beyond("writes on its successor", before).await;
    stage.servers.heal_network().await.unwrap();
    stage.servers.wait_healthy().await.unwrap();

    // Nobody reaches it: silence.
    let (before, leader) = (writers.timeline(), stage.servers.leader().await.unwrap());
    let from = Partition::FromAll;
    stage.servers.partition(leader, from).await.unwrap();
    writers.beyond("writes on its successor", before).await;
    stage.servers.heal_network().await.unwrap();
    writers.more("steady writes", 20).await;
    writers.stop_clean("partition").await;
}
