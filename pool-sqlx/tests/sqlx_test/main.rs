//! `#[sqlx::test]` with servers of the testkit: a database for each test.
//!
//! sqlx reads `DATABASE_URL` from the environment, which a program can't change for itself. So one
//! test starts the servers, and runs the others, which are ignored else, in a process of their own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{env, process::Stdio, time::Duration};

use leadpool_testkit::Cluster;
use tokio::{process::Command, time::timeout};

mod of_an_application;

#[tokio::test]
async fn with_servers() {
    let servers = Cluster::builder().standbys(1).start().await.unwrap();
    let mut tests = Command::new(env::current_exe().unwrap());
    tests
        .args(["--ignored", "of_an_application"])
        .env("DATABASE_URL", servers.host_url(0).unwrap())
        .env("CLUSTER_URL", servers.url())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let running = timeout(Duration::from_secs(120), tests.output());
    let output = running.await.unwrap().unwrap();
    let (told, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{told}{errors}");
    assert!(told.contains(" 5 passed; 0 failed"), "{told}");
    // Each had its own, and nothing kept it from being dropped.
    let client = servers.connect(0).await.unwrap();
    let sql = "SELECT count(*) \
               FROM pg_database WHERE datname LIKE '\\_sqlx\\_test%'";
    let left: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "{errors}");
}
