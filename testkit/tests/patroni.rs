//! Real Patroni and etcd, and what can be done to them. Skipped where they are not installed, or
//! network namespaces are not permitted; with `LEADPOOL_TESTKIT_REQUIRE=patroni,namespaces` in the
//! environment that is a failure.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod traces;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use leadpool_testkit::{Error, Partition, PatroniCluster};
use traces::Traces;

const LIMIT: Duration = Duration::from_secs(60);
const REQUIRE: &str = "LEADPOOL_TESTKIT_REQUIRE";

fn installed() -> bool {
    match PatroniCluster::available() {
        Ok(_) => true,
        Err(missing) => {
            skip("patroni", &missing);
            false
        }
    }
}

fn skip(what: &str, reason: &Error) {
    let required = std::env::var(REQUIRE).unwrap_or_default();
    assert!(!required.split(',').any(|word| word == what), "{reason}");
    eprintln!("skipped: {reason}");
}

async fn until<Fut: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> Fut) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < LIMIT, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn write(servers: &PatroniCluster, host: usize) -> Result<(), Error> {
    let client = servers.connect(host).await?;
    let sql = "CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1)";
    tokio::time::timeout(Duration::from_secs(2), client.batch_execute(sql))
        .await
        .expect("the server is silent")
        .map_err(|source| panic!("host {host}: {source}"))
}

/// One cluster for all, since it takes some seconds to start.
#[tokio::test]
async fn a_cluster_takes_every_fault() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let book = dir.path().join("callbacks");
    let script = format!("echo \"$TESTKIT_HOST: $0 $*\" >> '{}'", book.display());
    let servers = PatroniCluster::builder()
        .callback(["sh", "-c", &script, "it's"])
        .conf("work_mem", "123kB")
        .start()
        .await
        .unwrap();

    starts(&servers).await;
    switchover_moves_the_lead(&servers, &book).await;
    a_killed_host_is_replaced(&servers).await;
    a_frozen_host_is_replaced_and_demoted(&servers).await;
    without_patroni_the_old_leader_goes_on(&servers).await;
    without_etcd_there_is_no_leader(&servers).await;
}

async fn starts(servers: &PatroniCluster) {
    assert_eq!(servers.hosts(), 3);
    assert_eq!(servers.url().matches("127.").count(), 3);
    let leader = servers.leader().await.unwrap();
    assert_eq!(servers.primaries().await, [leader]);
    write(servers, leader).await.unwrap();
    let client = servers.connect(leader).await.unwrap();
    for (sql, expected) in [
        ("SHOW work_mem", "123kB"),
        ("SHOW cluster_name", servers.scope()),
        (
            "SELECT count(*)::text FROM pg_stat_replication WHERE state = 'streaming'",
            "2",
        ),
    ] {
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), expected);
    }
    for host in 0..3 {
        let answer = servers.rest(host, "GET", "/primary", None).await.unwrap();
        assert_eq!(answer.status, if host == leader { 200 } else { 503 });
        assert!(answer.body.contains(servers.version()), "{}", answer.body);
    }
    // Patroni has not raised the `ttl`.
    let log = servers
        .data_dir(leader)
        .unwrap()
        .with_file_name(format!("log{leader}"));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("INFO: ") && !log.contains("djusting"), "{log}");
    assert!(matches!(servers.addr(3), Err(Error::State { host: 3, .. })));
    let refused = servers.partition(0, Partition::FromAll).await;
    assert!(refused.unwrap_err().to_string().contains("namespaces"));
}

async fn switchover_moves_the_lead(servers: &PatroniCluster, book: &Path) {
    let old = servers.leader().await.unwrap();
    let refused = servers.switchover(Some(old)).await;
    assert!(matches!(refused, Err(Error::Rest { .. })), "{refused:?}");
    let to = (old + 1) % 3;
    assert_eq!(servers.switchover(Some(to)).await.unwrap(), to);
    servers.wait_healthy().await.unwrap();
    assert_eq!(servers.leader().await.unwrap(), to);
    until("the callback", || async {
        let text = fs::read_to_string(book).unwrap_or_default();
        ["primary", "master"]
            .iter()
            .any(|role| text.contains(&format!("{to}: it's on_role_change {role} leadpool\n")))
    })
    .await;
}

async fn a_killed_host_is_replaced(servers: &PatroniCluster) {
    let old = servers.leader().await.unwrap();
    servers.kill_host(old).await.unwrap();
    assert!(servers.connect(old).await.is_err());
    let new = servers.wait_new_leader(old).await.unwrap();
    write(servers, new).await.unwrap();
    servers.start_host(old).await.unwrap();
    assert!(servers.start_host(old).await.is_err(), "it runs already");
    servers.wait_healthy().await.unwrap();
    assert_eq!(servers.leader().await.unwrap(), new);
}

async fn a_frozen_host_is_replaced_and_demoted(servers: &PatroniCluster) {
    let old = servers.leader().await.unwrap();
    let client = servers.connect(old).await.unwrap();
    servers.freeze_host(old).await.unwrap();
    let asked = tokio::time::timeout(Duration::from_millis(300), client.simple_query("SELECT 1"));
    assert!(asked.await.is_err(), "a frozen server answered");
    let new = servers.wait_new_leader(old).await.unwrap();
    write(servers, new).await.unwrap();
    servers.thaw_host(old).await.unwrap();
    servers.wait_standby(old).await.unwrap();
    servers.wait_healthy().await.unwrap();
}

async fn without_patroni_the_old_leader_goes_on(servers: &PatroniCluster) {
    let old = servers.leader().await.unwrap();
    servers.kill_patroni(old).await.unwrap();
    let new = servers.wait_new_leader(old).await.unwrap();
    assert_eq!(servers.primaries().await, [new, old], "split brain");
    assert_eq!(servers.leader().await.unwrap(), new);
    write(servers, old).await.unwrap();
    write(servers, new).await.unwrap();
    servers.start_patroni(old).await.unwrap();
    servers.wait_standby(old).await.unwrap();
    servers.wait_healthy().await.unwrap();
}

async fn without_etcd_there_is_no_leader(servers: &PatroniCluster) {
    let old = servers.leader().await.unwrap();
    servers.stop_etcd().await.unwrap();
    servers.wait_standby(old).await.unwrap();
    assert!(servers.leader().await.is_err());
    servers.start_etcd().await.unwrap();
    servers.wait_healthy().await.unwrap();
}

#[tokio::test]
async fn with_tls_and_failsafe() {
    if !installed() {
        return;
    }
    let builder = PatroniCluster::builder().hosts(2).failsafe(true);
    let servers = builder.rest_tls(true).start().await.unwrap();

    assert!(
        servers
            .rest_urls()
            .iter()
            .all(|url| url.starts_with("https://"))
    );
    let pem = servers.rest_ca_pem().unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"));
    let leader = servers.leader().await.unwrap();
    assert_eq!(servers.switchover(None).await.unwrap(), 1 - leader);
    servers.wait_healthy().await.unwrap();

    // The leader is asked until it has not seen etcd for longer than `ttl`.
    let leader = servers.leader().await.unwrap();
    servers.stop_etcd().await.unwrap();
    until("etcd to be missed", || async {
        write(&servers, leader).await.unwrap();
        let told = servers.rest(leader, "GET", "/patroni", None).await.unwrap();
        let seen = told.body.split("\"dcs_last_seen\": ").nth(1).unwrap();
        let seen: String = seen.chars().take_while(char::is_ascii_digit).collect();
        let seen = SystemTime::UNIX_EPOCH + Duration::from_secs(seen.parse().unwrap());
        seen.elapsed().unwrap_or_default() > Duration::from_secs(8)
    })
    .await;
    assert_eq!(servers.leader().await.unwrap(), leader);

    // In good order there is no need to wait for `ttl`, but for etcd.
    servers.start_etcd().await.unwrap();
    servers.wait_healthy().await.unwrap();
    servers.stop_host(leader).await.unwrap();
    assert_eq!(servers.wait_new_leader(leader).await.unwrap(), 1 - leader);
    servers.start_host(leader).await.unwrap();
    servers.wait_healthy().await.unwrap();
    servers.kill_postmaster(leader).await.unwrap();
    servers.wait_healthy().await.unwrap();
}

#[tokio::test]
async fn networks_are_partitioned() {
    if !installed() {
        return;
    }
    if let Err(reason) = PatroniCluster::namespaces_permitted().await {
        skip("namespaces", &reason);
        return;
    }
    let builder = PatroniCluster::builder().hosts(2).namespaces(true);
    let servers = builder.start().await.unwrap();

    let first = servers.leader().await.unwrap();
    let second = 1 - first;
    servers
        .partition(first, Partition::FromHosts)
        .await
        .unwrap();
    until("the standby to be lost", || async {
        let client = servers.connect(first).await.unwrap();
        let rows = client.query("SELECT FROM pg_stat_replication", &[]).await;
        rows.unwrap().is_empty()
    })
    .await;
    assert_eq!(servers.primaries().await, [first]);
    servers.heal_network().await.unwrap();
    servers.wait_healthy().await.unwrap();

    let cut = Partition::FromEtcdAndHosts;
    servers.partition(first, cut).await.unwrap();
    assert_eq!(servers.wait_new_leader(first).await.unwrap(), second);
    // Clients still reach it.
    servers.wait_standby(first).await.unwrap();
    servers.heal_network().await.unwrap();
    servers.wait_healthy().await.unwrap();

    servers.partition(second, Partition::FromAll).await.unwrap();
    let connecting = tokio::time::timeout(Duration::from_millis(300), servers.connect(second));
    assert!(connecting.await.is_err(), "a host without network answered");
    assert_eq!(servers.wait_new_leader(second).await.unwrap(), first);
    servers.heal_network().await.unwrap();
    servers.wait_healthy().await.unwrap();

    let traces = Traces::of(servers.data_dir(0).unwrap().parent().unwrap(), 2);
    assert_eq!(traces.namespaces().len(), 4, "two hosts, etcd, the switch");
    drop(servers);
    assert_eq!(traces.found(), [""; 0]);
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let none = PatroniCluster::builder().hosts(0).start().await;
    assert_eq!(
        none.unwrap_err().to_string(),
        "hosts: 0 is not between 1 and 9"
    );
    let short = PatroniCluster::builder().ttl(4).start().await;
    let error = short.unwrap_err().to_string();
    assert!(error.starts_with("ttl: 4 s is less than"), "{error}");
    let never = PatroniCluster::builder().loop_wait(0).start().await;
    assert!(matches!(
        never,
        Err(Error::Setting {
            key: "loop_wait",
            ..
        })
    ));
}

#[test]
fn what_is_missing_is_told() {
    if !installed() {
        return;
    }
    for (program, variable) in [("patroni", "PATRONI_BIN"), ("etcd", "ETCD_BIN")] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "with_tls_and_failsafe", "--nocapture"])
            .env(variable, "/nonexistent")
            .env_remove(REQUIRE)
            .output()
            .unwrap();
        assert!(output.status.success());
        let told = String::from_utf8_lossy(&output.stderr);
        let expected =
            format!("skipped: no {program} found; looked at: {variable}=/nonexistent. Install it");
        assert!(told.contains(&expected), "{told}");
    }
}

const VICTIM: &str = "LEADPOOL_TESTKIT_VICTIM";

/// Not a test of its own: what `nothing_outlives_a_killed_test` kills.
#[tokio::test]
async fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let permitted = PatroniCluster::namespaces_permitted().await.is_ok();
    let builder = PatroniCluster::builder().hosts(2).namespaces(permitted);
    let servers = builder.start().await.unwrap();
    servers.freeze_host(1).await.unwrap();
    println!(
        "dir={}",
        servers.data_dir(0).unwrap().parent().unwrap().display()
    );
    std::future::pending::<()>().await;
}

#[test]
fn nothing_outlives_a_killed_test() {
    if !installed() {
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let dir = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split("dir=").nth(1).map(PathBuf::from))
        .expect("the victim told its folder");
    let traces = Traces::of(&dir, 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = Instant::now();
    while !traces.found().is_empty() {
        assert!(begun.elapsed() < LIMIT, "left: {:?}", traces.found());
        std::thread::sleep(Duration::from_millis(10));
    }
}
