//! Every action, on real servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod traces;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use leadpool_testkit::{Addresses, Cluster, Error, PgInstall};
use traces::Traces;

async fn one(cluster: &Cluster, host: usize, sql: &str) -> String {
    let client = cluster.connect(host).await.unwrap();
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn is_standby(cluster: &Cluster, host: usize) -> bool {
    one(cluster, host, "SELECT pg_is_in_recovery()::text").await == "true"
}

async fn write(cluster: &Cluster, host: usize) {
    let client = cluster.connect(host).await.unwrap();
    client
        .batch_execute("CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1)")
        .await
        .unwrap();
}

#[tokio::test]
async fn starts_with_two_streaming_standbys() {
    let cluster = Cluster::start().await.unwrap();
    assert_eq!(cluster.hosts(), 3);
    assert!(!is_standby(&cluster, 0).await);
    assert!(is_standby(&cluster, 1).await);
    assert!(is_standby(&cluster, 2).await);
    write(&cluster, 0).await;
    cluster.wait_replayed().await.unwrap();
    assert_eq!(one(&cluster, 2, "SELECT count(*)::text FROM t").await, "1");
    assert_eq!(cluster.url().matches(':').count(), 4);
}

#[tokio::test]
async fn kill_failover_heal() {
    let cluster = Cluster::builder().synchronous(true).start().await.unwrap();
    write(&cluster, 0).await;
    cluster.kill(0).await.unwrap();
    assert!(cluster.connect(0).await.is_err());
    let new = cluster.failover().await.unwrap();
    assert_ne!(new, 0);
    write(&cluster, new).await;
    cluster.heal().await.unwrap();
    assert!(is_standby(&cluster, 0).await);
    assert_eq!(
        one(&cluster, new, "SHOW synchronous_standby_names").await,
        "ANY 1 (*)"
    );
    assert_eq!(one(&cluster, 0, "SELECT count(*)::text FROM t").await, "2");
}

#[tokio::test]
async fn a_diverged_primary_rejoins() {
    let cluster = Cluster::start().await.unwrap();
    write(&cluster, 0).await;
    cluster.wait_replayed().await.unwrap();
    cluster.freeze(1).await.unwrap();
    cluster.freeze(2).await.unwrap();
    write(&cluster, 0).await; // no standby gets this one
    cluster.kill(0).await.unwrap();
    cluster.thaw(1).await.unwrap();
    cluster.thaw(2).await.unwrap();
    let new = cluster.failover().await.unwrap();
    cluster.revive_stale(0).await.unwrap();
    assert!(!is_standby(&cluster, 0).await, "split brain");
    write(&cluster, 0).await;
    cluster.heal().await.unwrap();
    assert!(is_standby(&cluster, 0).await);
    let rows = one(&cluster, new, "SELECT count(*)::text FROM t").await;
    assert_eq!(one(&cluster, 0, "SELECT count(*)::text FROM t").await, rows);
}

#[tokio::test]
async fn switchover_and_back() {
    let cluster = Cluster::start().await.unwrap();
    write(&cluster, 0).await;
    cluster.switchover(1).await.unwrap();
    cluster.heal().await.unwrap();
    assert_eq!(cluster.primary(), 1);
    assert!(is_standby(&cluster, 0).await);
    cluster.switchover(0).await.unwrap();
    cluster.heal().await.unwrap();
    write(&cluster, 0).await;
    assert_eq!(one(&cluster, 0, "SELECT count(*)::text FROM t").await, "2");
}

#[tokio::test]
async fn freeze_is_silence_and_thaw_ends_it() {
    let cluster = Cluster::start().await.unwrap();
    let client = cluster.connect(0).await.unwrap();
    cluster.freeze(0).await.unwrap();
    let asked = tokio::time::timeout(Duration::from_millis(300), client.simple_query("SELECT 1"));
    assert!(asked.await.is_err(), "a frozen server answered");
    cluster.thaw(0).await.unwrap();
    client.simple_query("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn freeze_failover_thaw_heal() {
    let cluster = Cluster::start().await.unwrap();
    cluster.freeze(0).await.unwrap();
    let new = cluster.failover().await.unwrap();
    cluster.thaw(0).await.unwrap();
    assert!(!is_standby(&cluster, 0).await, "a stale primary");
    cluster.heal().await.unwrap();
    assert!(is_standby(&cluster, 0).await);
    assert_eq!(cluster.primary(), new);
}

#[tokio::test]
async fn stops_and_starts() {
    let cluster = Cluster::start().await.unwrap();
    cluster.stop_fast(0).await.unwrap();
    assert!(cluster.connect(0).await.is_err());
    cluster.start_host(0).await.unwrap();
    cluster.stop_immediate(0).await.unwrap();
    cluster.start_host(0).await.unwrap();
    cluster.kill_postmaster(0).await.unwrap();
    cluster.heal().await.unwrap();
    assert!(matches!(
        cluster.start_host(0).await,
        Err(Error::State { host: 0, .. })
    ));
}

#[tokio::test]
async fn a_busy_backend_is_waited_for_before_its_server_starts_again() {
    let cluster = Cluster::builder().standbys(0).start().await.unwrap();
    let client = cluster.connect(0).await.unwrap();
    let busy = client.simple_query("SELECT count(*) FROM generate_series(1, 5000000)");
    let kill_and_start = async {
        let other = cluster.connect(0).await.unwrap();
        let sql =
            "SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT count%' AND state = 'active'";
        while other.query(sql, &[]).await.unwrap().is_empty() {}
        cluster.kill_postmaster(0).await.unwrap();
        cluster.start_host(0).await
    };
    let (_, started) = tokio::join!(busy, kill_and_start);
    started.unwrap();
}

#[tokio::test]
async fn backends_are_crashed_and_terminated() {
    let cluster = Cluster::builder().standbys(0).start().await.unwrap();
    let client = cluster.connect(0).await.unwrap();
    cluster.terminate_backends(0).await.unwrap();
    assert!(client.simple_query("SELECT 1").await.is_err());
    let client = cluster.connect(0).await.unwrap();
    let pid: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let other = cluster.connect(0).await.unwrap();
    cluster.crash_backend(0, pid).await.unwrap();
    let begun = Instant::now();
    while other.simple_query("SELECT 1").await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn standbys_come_and_go() {
    let cluster = Cluster::builder().standbys(1).start().await.unwrap();
    write(&cluster, 0).await;
    let added = cluster.add_standby().await.unwrap();
    assert_eq!(added, 2);
    cluster.wait_replayed().await.unwrap();
    assert_eq!(one(&cluster, 2, "SELECT count(*)::text FROM t").await, "1");
    cluster.remove_standby(1).await.unwrap();
    assert!(cluster.remove_standby(0).await.is_err());
    cluster.heal().await.unwrap();
    assert_eq!(cluster.url().matches(':').count(), 3);
}

#[tokio::test]
async fn distinct_addresses_share_a_port() {
    let builder = Cluster::builder().standbys(1);
    let cluster = builder
        .addresses(Addresses::Distinct)
        .start()
        .await
        .unwrap();
    let (a, b) = (cluster.addr(0).unwrap(), cluster.addr(1).unwrap());
    assert_eq!(a.port(), b.port());
    assert_ne!(a.ip(), b.ip());
    write(&cluster, 0).await;
}

#[tokio::test]
async fn a_fresh_initdb_is_another_cluster() {
    let sql = "SELECT system_identifier::text FROM pg_control_system()";
    let ours = Cluster::builder().standbys(0).start().await.unwrap();
    let same = Cluster::builder().standbys(0).start().await.unwrap();
    let builder = Cluster::builder().standbys(0).fresh_initdb(true);
    let other = builder.conf("work_mem", "123kB").start().await.unwrap();
    assert_eq!(one(&ours, 0, sql).await, one(&same, 0, sql).await);
    assert_ne!(one(&ours, 0, sql).await, one(&other, 0, sql).await);
    assert_eq!(one(&other, 0, "SHOW work_mem").await, "123kB");
}

#[test]
fn an_old_or_absent_postgres_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("postgres");
    assert!(matches!(
        PgInstall::at(dir.path()),
        Err(Error::BadInstall { .. })
    ));
    std::fs::write(&program, "#!/bin/sh\necho 'postgres (PostgreSQL) 13.9'\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let error = PgInstall::at(dir.path()).unwrap_err().to_string();
    assert!(error.contains("13 is too old"), "{error}");
}

const VICTIM: &str = "LEADPOOL_TESTKIT_VICTIM";

/// Not a test of its own: what `no_server_outlives_a_killed_test` kills.
#[tokio::test]
async fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let cluster = Cluster::start().await.unwrap();
    cluster.freeze(1).await.unwrap();
    println!(
        "dir={}",
        cluster.data_dir(0).unwrap().parent().unwrap().display()
    );
    std::future::pending::<()>().await;
}

#[test]
fn no_server_outlives_a_killed_test() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let dir = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split("dir=").nth(1).map(str::to_owned))
        .expect("the victim told its folder");
    let traces = Traces::of(Path::new(&dir), 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = Instant::now();
    while !traces.found().is_empty() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "left: {:?}",
            traces.found()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_cluster_leaves_nothing() {
    let cluster = Cluster::start().await.unwrap();
    let traces = Traces::of(cluster.data_dir(0).unwrap().parent().unwrap(), 3);
    cluster.kill(0).await.unwrap();
    cluster.freeze(1).await.unwrap();
    drop(cluster);
    assert_eq!(traces.found(), [""; 0]);
}
