//! A cluster that repmgr looks after.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod outlives;

use leadpool_testkit::{Error, Repmgr};

/// `None`, with the reason, where it can't run.
async fn repmgr() -> Option<Repmgr> {
    if let Err(reason) = Repmgr::available() {
        eprintln!("skipped: {reason}");
        return None;
    }
    Some(Repmgr::start().await.unwrap())
}

/// What the table says on a host: id, type, whether active, upstream.
async fn nodes(repmgr: &Repmgr, host: usize) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', node_id, type, active, upstream_node_id) \
               FROM repmgr.nodes ORDER BY node_id";
    let rows = repmgr.connect(host).await.unwrap().query(sql, &[]).await;
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_lost_primary_is_replaced_and_the_table_says_so() {
    let Some(repmgr) = repmgr().await else { return };
    let before = ["1 primary t", "2 standby t 1", "3 standby t 1"];
    for host in 0..3 {
        assert_eq!(nodes(&repmgr, host).await, before, "on host {host}");
    }
    let new = repmgr.failover().await.unwrap();
    assert_ne!(new, 0);
    assert_eq!(repmgr.cluster().primary(), new);
    let other = 3 - new;
    let mut after = ["1 primary f".to_owned(), String::new(), String::new()];
    after[new] = format!("{} primary t", new + 1);
    after[other] = format!("{} standby t {}", other + 1, new + 1);
    for host in [new, other] {
        assert_eq!(nodes(&repmgr, host).await, after, "on host {host}");
    }
    let writer = repmgr.cluster().connect(new).await.unwrap();
    writer.batch_execute("CREATE TABLE t ()").await.unwrap();

    repmgr.rejoin(0).await.unwrap();
    after[0] = format!("1 standby t {}", new + 1);
    assert_eq!(nodes(&repmgr, 0).await, after);
}

#[tokio::test]
async fn standbys_are_registered_and_unregistered() {
    let Some(repmgr) = repmgr().await else { return };
    let dir = repmgr.cluster().data_dir(0).unwrap();
    let dir = dir.parent().unwrap().to_owned();
    if outlives::is_victim() {
        outlives::dead(&dir).await;
    }
    assert_eq!(repmgr.url().matches("postgres").count(), 3);
    let url = repmgr.repmgr_url();
    let (_, rest) = url.split_once("postgres://repmgr@127.0.0.1:").unwrap();
    assert!(rest.ends_with("/repmgr"), "{url}");
    assert_eq!(rest.matches(',').count(), 2, "{url}");

    let added = repmgr.cluster().add_standby().await.unwrap();
    repmgr.register_standby(added).await.unwrap();
    let mut all = vec![
        "1 primary t",
        "2 standby t 1",
        "3 standby t 1",
        "4 standby t 1",
    ];
    assert_eq!(nodes(&repmgr, 0).await, all);
    let sql = "SELECT conninfo FROM repmgr.nodes WHERE node_id = 4";
    let client = repmgr.connect(0).await.unwrap();
    let conninfo: String = client.query_one(sql, &[]).await.unwrap().get(0);
    let port = repmgr.addr(added).unwrap().port();
    assert!(conninfo.contains(&format!("port={port} ")), "{conninfo}");

    repmgr.unregister_standby(2).await.unwrap();
    all.remove(2);
    assert_eq!(nodes(&repmgr, 0).await, all);
    for host in [0, 2, 9] {
        let refused = repmgr.unregister_standby(host).await.unwrap_err();
        assert!(matches!(refused, Error::State { .. }), "{host}: {refused}");
    }
    // Host 2 is not waited for: nobody tells it.
    assert!([1, 3].contains(&repmgr.failover().await.unwrap()));
    repmgr.cluster().rejoin(2).await.unwrap();
    repmgr.register_standby(2).await.unwrap();
    assert_eq!(nodes(&repmgr, 2).await.len(), 4);

    drop(repmgr);
    assert_eq!(outlives::processes(&dir), [""; 0]);
}

#[test]
fn nothing_outlives_a_killed_test() {
    match Repmgr::available() {
        Ok(()) => outlives::Victim::start("standbys_are_registered_and_unregistered").kill(),
        Err(reason) => eprintln!("skipped: {reason}"),
    }
}
