//! A cluster that pg_auto_failover looks after.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod outlives;

use std::path::{Path, PathBuf};

use leadpool_testkit::{AutoFailover, Error};
use tokio_postgres::{NoTls, Row};

/// `None`, with the reason, where it can't run.
async fn formation(hosts: usize) -> Option<AutoFailover> {
    if let Err(reason) = AutoFailover::available() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let builder = AutoFailover::builder().hosts(hosts);
    Some(builder.start().await.unwrap())
}

async fn ask_monitor(formation: &AutoFailover, sql: &str) -> Vec<Row> {
    let url = formation.monitor_url();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::select! {
        rows = client.query(sql, &[]) => rows.unwrap(),
        _ = connection => panic!("the monitor hung up"),
    }
}

async fn monitor_listens(formation: &AutoFailover) -> String {
    ask_monitor(formation, "SHOW listen_addresses").await[0].get(0)
}

/// What the monitor says: port and whether it is the primary, ordered by name.
async fn nodes(formation: &AutoFailover) -> Vec<(u16, bool)> {
    let sql =
        "SELECT node_port, node_is_primary FROM pgautofailover.get_nodes() ORDER BY node_name";
    let rows = ask_monitor(formation, sql).await;
    let port = |port: i32| u16::try_from(port).unwrap();
    rows.iter()
        .map(|row| (port(row.get(0)), row.get(1)))
        .collect()
}

async fn write(formation: &AutoFailover, host: usize) {
    let client = formation.connect(host).await.unwrap();
    let sql = "CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1)";
    client.batch_execute(sql).await.unwrap();
}

#[tokio::test]
async fn roles_change_and_hosts_come_and_go() {
    let Some(formation) = formation(2).await else {
        return;
    };
    let port = |host| formation.addr(host).unwrap().port();
    assert_eq!(nodes(&formation).await, [(port(0), true), (port(1), false)]);
    assert_eq!(formation.primary().await.unwrap(), 0);
    write(&formation, 0).await;

    assert_eq!(monitor_listens(&formation).await, "127.0.0.1");

    assert_eq!(formation.switchover().await.unwrap(), 1);
    assert_eq!(nodes(&formation).await, [(port(0), false), (port(1), true)]);
    write(&formation, 1).await;

    assert_eq!(formation.failover().await.unwrap(), 0);
    assert_eq!(formation.primary().await.unwrap(), 0);
    assert!(formation.connect(1).await.is_err());
    write(&formation, 0).await;

    assert_eq!(formation.add_host().await.unwrap(), 2);
    formation.drop_host(1).await.unwrap();
    assert_eq!(nodes(&formation).await, [(port(0), true), (port(2), false)]);
    let standby = formation.connect(2).await.unwrap();
    let count = standby.query_one("SELECT count(*) FROM t", &[]).await;
    assert_eq!(count.unwrap().get::<_, i64>(0), 3);
    assert_eq!(formation.url().matches("127.0.0.1:").count(), 2);

    let refused = formation.drop_host(0).await.unwrap_err();
    assert!(matches!(refused, Error::State { host: 0, .. }), "{refused}");
    formation.drop_host(2).await.unwrap();
    assert_eq!(nodes(&formation).await, [(port(0), true)]);
    write(&formation, 0).await; // no standby is waited for
}

#[tokio::test]
async fn hosts_and_monitor_come_back() {
    let hosts = if outlives::is_victim() { 1 } else { 2 };
    let Some(formation) = formation(hosts).await else {
        return;
    };
    let dir = dir(&formation).await;
    if outlives::is_victim() {
        outlives::dead(&dir).await;
    }
    formation.kill_monitor().await.unwrap();
    assert!(formation.primary().await.is_err());
    write(&formation, 0).await;
    formation.kill_host(1).await.unwrap();
    formation.start_monitor().await.unwrap();
    assert!(formation.start_monitor().await.is_err(), "it runs");
    write(&formation, 0).await; // no standby is waited for
    formation.start_host(1).await.unwrap();
    assert_eq!(formation.primary().await.unwrap(), 0);
    assert!(formation.start_host(1).await.is_err(), "it runs");
    let semaphores = semaphores(&dir, &["0", "1", "m"]);
    assert_eq!(left(&semaphores), 3, "each pg_autoctl holds a semaphore");
    drop(formation);
    assert_eq!(outlives::processes(&dir), [""; 0]);
    assert_eq!(left(&semaphores), 0);
}

/// The folder of everything.
async fn dir(formation: &AutoFailover) -> PathBuf {
    let client = formation.connect(0).await.unwrap();
    let row = client.query_one("SHOW data_directory", &[]).await.unwrap();
    let data_dir = PathBuf::from(row.get::<_, String>(0));
    data_dir.parent().unwrap().to_owned()
}

/// The System V semaphores of each `pg_autoctl`, from their pid files.
fn semaphores(dir: &Path, hosts: &[&str]) -> Vec<String> {
    let semaphore = |host: &&str| {
        let home = dir.join(format!("h{host}/pg_autoctl"));
        let data_dir = dir.join(format!("d{host}"));
        let folder = home.join(data_dir.strip_prefix("/").unwrap());
        let text = std::fs::read_to_string(folder.join("pg_autoctl.pid")).unwrap();
        text.lines().nth(4).unwrap().to_owned()
    };
    hosts.iter().map(semaphore).collect()
}

/// How many of them there are still.
fn left(semaphores: &[String]) -> usize {
    let all = std::fs::read_to_string("/proc/sysvipc/sem").unwrap();
    let ids = all
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    ids.filter(|id| semaphores.iter().any(|ours| ours == id))
        .count()
}

#[test]
fn nothing_outlives_a_killed_test() {
    if let Err(reason) = AutoFailover::available() {
        eprintln!("skipped: {reason}");
        return;
    }
    let victim = outlives::Victim::start("hosts_and_monitor_come_back");
    let semaphores = semaphores(&victim.dir, &["0", "m"]);
    assert_eq!(left(&semaphores), 2, "each pg_autoctl holds a semaphore");
    victim.kill();
    assert_eq!(left(&semaphores), 0);
}
