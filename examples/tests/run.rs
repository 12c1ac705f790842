//! Every example, against a real cluster.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{process::Stdio, time::Duration};

use leadpool_testkit::{Cluster, Moment, Trigger};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

async fn output(program: &str, arguments: &[&str], url: &str) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", url)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn each_does_what_it_says() {
    let cluster = Cluster::start().await.unwrap();
    let url = cluster.url();
    let printed = output(env!("CARGO_BIN_EXE_quickstart"), &[], &url).await;
    assert_eq!(printed, "order 1 is written\nread from a standby: true\n");
    let printed = output(env!("CARGO_BIN_EXE_drop_in"), &[], &url).await;
    assert_eq!(printed, "1 row written through deadpool's own type\n");
    let printed = output(env!("CARGO_BIN_EXE_errors"), &[], &url).await;
    assert_eq!(printed, "sold one\nsold one\nsold out\n");
    let printed = output(env!("CARGO_BIN_EXE_readers"), &[], &url).await;
    let expected = "reader 1: the first standby\nreader 2: the first standby\n\
                    reader 3: another\nreader 4: another\n";
    assert_eq!(printed, expected);
    let printed = output(env!("CARGO_BIN_EXE_listener"), &[], &url).await;
    let expected = "order 1\norder 2\nlistening again, read everything anew\norder 3\n";
    assert_eq!(printed, expected);
    let printed = output(env!("CARGO_BIN_EXE_watch"), &["1"], &url).await;
    assert_eq!(printed.matches("standby").count(), 2, "{printed}");
    assert_eq!(printed.matches("PoolCounts").count(), 3, "{printed}");
}

#[tokio::test]
async fn a_doubt_is_kept_and_cleared() {
    let cluster = Cluster::builder().proxies(true).start().await.unwrap();
    let url = cluster.proxied_url();
    let program = env!("CARGO_BIN_EXE_outcome");
    assert_eq!(output(program, &["setup"], &url).await, "");
    assert_eq!(output(program, &[], &url).await, "written\n");
    for (moment, expected) in [
        (Moment::BeforeAnswer, "it was written\n"),
        (Moment::BeforeForward, "it was not, and will not be\n"),
    ] {
        let proxy = cluster.proxy(0).unwrap();
        proxy.cut_at(Trigger::new("COMMIT", moment));
        let printed = output(program, &[], &url).await;
        let evidence = printed.strip_prefix("in doubt: ").unwrap().trim_end();
        let printed = output(program, &[evidence], &url).await;
        assert_eq!(printed, expected, "{moment:?}");
    }
}

#[tokio::test]
async fn a_failover_shows_in_the_metrics() {
    let cluster = Cluster::start().await.unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_metrics"))
        .arg("1")
        .env("DATABASE_URL", cluster.url())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut before = String::new();
    // Printed once; then the primary goes.
    while !before.contains("the answer is 42") {
        before += &lines.next_line().await.unwrap().unwrap();
        before.push('\n');
    }
    cluster.kill(0).await.unwrap();
    cluster.failover().await.unwrap();
    let mut after = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        after += &line;
        after.push('\n');
    }
    assert!(program.wait().await.unwrap().success());
    let failovers = |count| format!("leadpool_failovers_total{{pool=\"orders\"}} {count}\n");
    assert!(before.contains(&failovers(0)), "{before}");
    assert!(after.contains(&failovers(1)), "{after}");
    let gaps = "leadpool_writer_gap_seconds_bucket{pool=\"orders\",le=\"+Inf\"} 1\n";
    assert!(after.contains(gaps), "{after}");
    assert!(after.contains("# TYPE leadpool_phase gauge\n"), "{after}");
}

#[tokio::test]
async fn what_was_acknowledged_before_a_signal_to_end_is_there() {
    let cluster = Cluster::builder().standbys(0).start().await.unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_shutdown"))
        .env("DATABASE_URL", cluster.url())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut orders: Vec<i64> = Vec::new();
    let mut last = String::new();
    let serving = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(id) = line.strip_prefix("order ") {
                orders.push(id.parse().unwrap());
            }
            last = line;
            if orders.len() == 100 {
                let pid = child.id().unwrap().to_string();
                let kill = Command::new("kill").args(["-TERM", &pid]).status();
                assert!(kill.await.unwrap().success());
            }
        }
        child.wait().await.unwrap()
    };
    let status = timeout(Duration::from_secs(20), serving).await.unwrap();
    assert!(status.success(), "{status}: {last}");
    assert_eq!(last, "ended, 0 connections aborted");
    let client = cluster.connect(0).await.unwrap();
    let rows = client
        .query("SELECT id FROM orders ORDER BY id", &[])
        .await
        .unwrap();
    let written: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    orders.sort_unstable();
    assert_eq!(orders, written, "all that was written was acknowledged too");
}
