//! What a client sees through the proxy.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use leadpool_testkit::{Cluster, Moment, Trigger};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, error::SqlState};

async fn cluster() -> Cluster {
    let builder = Cluster::builder().standbys(0).proxies(true);
    let cluster = builder.start().await.unwrap();
    let client = cluster.connect(0).await.unwrap();
    client
        .batch_execute("CREATE TABLE t (n int)")
        .await
        .unwrap();
    cluster
}

async fn through(cluster: &Cluster) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&cluster.proxied_url(), NoTls).await?;
    tokio::task::spawn_local(connection);
    Ok(client)
}

async fn rows(cluster: &Cluster) -> i64 {
    let client = cluster.connect(0).await.unwrap();
    client
        .query_one("SELECT count(*) FROM t", &[])
        .await
        .unwrap()
        .get(0)
}

async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn passes_and_cuts() {
    local(async {
        let cluster = cluster().await;
        let client = through(&cluster).await.unwrap();
        client.simple_query("SELECT 1").await.unwrap();
        assert_eq!(cluster.proxy(0).unwrap().connections(), 1);
        cluster.proxy(0).unwrap().cut();
        assert!(client.simple_query("SELECT 1").await.is_err());
        through(&cluster)
            .await
            .unwrap()
            .simple_query("SELECT 1")
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn refuses_until_it_passes_again() {
    local(async {
        let cluster = cluster().await;
        let proxy = cluster.proxy(0).unwrap();
        proxy.refuse();
        let begun = Instant::now();
        // The listener closes a moment later.
        while through(&cluster).await.is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(5));
        }
        proxy.pass();
        while through(&cluster).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(5));
        }
    })
    .await;
}

#[tokio::test]
async fn a_black_hole_accepts_and_is_silent_until_it_heals() {
    local(async {
        let cluster = cluster().await;
        let client = through(&cluster).await.unwrap();
        let proxy = cluster.proxy(0).unwrap();
        proxy.black_hole();
        let short = Duration::from_millis(200);
        let query = client.simple_query("SELECT 1");
        let mut query = std::pin::pin!(query);
        assert!(tokio::time::timeout(short, &mut query).await.is_err());
        assert!(
            tokio::time::timeout(short, through(&cluster))
                .await
                .is_err()
        );
        proxy.pass();
        query.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_delay_keeps_pipelining() {
    local(async {
        let cluster = cluster().await;
        let client = through(&cluster).await.unwrap();
        let each = Duration::from_millis(50);
        cluster.proxy(0).unwrap().delay(each, each);
        let (begun, turns) = (Instant::now(), cluster.proxy(0).unwrap().turns());
        let (a, b, c) = tokio::join!(
            client.simple_query("SELECT 1"),
            client.simple_query("SELECT 2"),
            client.simple_query("SELECT 3"),
        );
        let took = begun.elapsed();
        a.and(b).and(c).unwrap();
        assert!(took >= each * 2, "not delayed: {took:?}");
        // One after the other they would take three turns.
        assert_eq!(
            cluster.proxy(0).unwrap().turns() - turns,
            1,
            "not pipelined"
        );
    })
    .await;
}

#[tokio::test]
async fn round_trips_are_counted() {
    local(async {
        let cluster = cluster().await;
        let client = through(&cluster).await.unwrap();
        let proxy = cluster.proxy(0).unwrap();
        let before = proxy.turns();
        for _ in 0..5 {
            client.simple_query("SELECT 1").await.unwrap();
        }
        assert_eq!(proxy.turns() - before, 5);
    })
    .await;
}

#[tokio::test]
async fn a_message_ends_in_silence() {
    local(async {
        let cluster = cluster().await;
        let proxy = cluster.proxy(0).unwrap();
        let short = Duration::from_millis(200);
        let mut expected = 0;
        for (moment, arrives, is_told) in [
            (Moment::Stranded, false, true),
            (Moment::SilentBefore, false, false),
            (Moment::SilentAfter, true, false),
        ] {
            let client = through(&cluster).await.unwrap();
            proxy.cut_at(Trigger::new("INSERT INTO t", moment));
            let insert = client.simple_query("INSERT INTO t VALUES (1)");
            match tokio::time::timeout(short, insert).await {
                Ok(answered) => assert!(is_told && answered.is_err(), "{moment:?}"),
                Err(_) => assert!(!is_told, "{moment:?}"),
            }
            expected += i64::from(arrives);
            assert_eq!(rows(&cluster).await, expected, "{moment:?}");
            // The server has noticed nothing.
            let watcher = cluster.connect(0).await.unwrap();
            let sessions = "SELECT count(*) FROM pg_stat_activity \
                            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
                                  AND application_name <> 'testkit'";
            let row = watcher.query_one(sessions, &[]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), 1, "{moment:?}");
            proxy.cut();
        }
    })
    .await;
}

#[tokio::test]
async fn cuts_around_a_message() {
    local(async {
        let cluster = cluster().await;
        let proxy = cluster.proxy(0).unwrap();
        let mut expected = 0;
        for (moment, arrives) in [
            (Moment::BeforeForward, false),
            (Moment::AfterForward, true),
            (Moment::BeforeAnswer, true),
        ] {
            let client = through(&cluster).await.unwrap();
            proxy.cut_at(Trigger::new("INSERT INTO t", moment));
            assert!(
                client
                    .simple_query("INSERT INTO t VALUES (1)")
                    .await
                    .is_err()
            );
            expected += i64::from(arrives);
            let begun = Instant::now();
            while rows(&cluster).await != expected {
                assert!(begun.elapsed() < Duration::from_secs(5), "{moment:?}");
            }
            // Once only.
            through(&cluster)
                .await
                .unwrap()
                .simple_query("SELECT 1")
                .await
                .unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_comes_behind_the_tag() {
    local(async {
        let cluster = cluster().await;
        let proxy = cluster.proxy(0).unwrap();
        let client = through(&cluster).await.unwrap();
        proxy.cut_at(Trigger::new("INSERT INTO t", Moment::ShutdownInAnswer));
        let insert = "INSERT INTO t VALUES (1)";
        let answers = client.simple_query_raw(insert).await.unwrap();
        let mut answers = pin!(answers);
        let tag = answers.next().await.unwrap().unwrap();
        assert!(matches!(tag, SimpleQueryMessage::CommandComplete(1)));
        let error = answers.next().await.unwrap().unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::ADMIN_SHUTDOWN));
        assert_eq!(rows(&cluster).await, 1);
        assert!(client.simple_query("SELECT 1").await.is_err());
    })
    .await;
}
