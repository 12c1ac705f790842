//! What the next user of a connection sees of the one before, under each policy.

use std::time::Duration;

use deadpool_postgres::{Client, Object};
use leadpool::{Error, Pool, Target, config::Recycling};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};
use tokio_postgres::error::SqlState;

use crate::support::*;

/// What became of what was left behind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    /// The next user sees it.
    Seen,
    /// It was undone.
    Gone,
    /// The connection was closed.
    Closed,
}

use Left::{Closed, Gone, Seen};

/// What is left, how the next user sees it, and what becomes of it: fast, verified, own (`DISCARD
/// TEMP`), clean. The manual has the same table.
const TABLE: &[(&str, &str, [Left; 4])] = &[
    (
        "BEGIN; INSERT INTO t (n) VALUES (1)",
        "SELECT pg_current_xact_id_if_assigned() IS NOT NULL",
        [Seen, Gone, Gone, Gone],
    ),
    (
        "BEGIN; SELECT 1 / 0",
        "SELECT false",
        [Seen, Closed, Closed, Closed],
    ),
    (
        "CREATE TEMP TABLE cart (item bigint)",
        "SELECT to_regclass('pg_temp.cart') IS NOT NULL",
        [Seen, Seen, Gone, Gone],
    ),
    (
        "SET work_mem = '123kB'",
        "SELECT current_setting('work_mem') = '123kB'",
        [Seen, Seen, Seen, Gone],
    ),
    (
        "SET ROLE clerk",
        "SELECT current_user = 'clerk'",
        [Seen, Seen, Seen, Gone],
    ),
    (
        "SET SESSION AUTHORIZATION clerk",
        "SELECT session_user = 'clerk'",
        [Seen, Seen, Seen, Gone],
    ),
    (
        "SELECT pg_advisory_lock(7)",
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())",
        [Seen, Seen, Seen, Gone],
    ),
    (
        "LISTEN orders",
        "SELECT EXISTS (SELECT FROM pg_listening_channels())",
        [Seen, Seen, Seen, Gone],
    ),
    (
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT EXISTS (SELECT FROM pg_cursors WHERE name = 'c')",
        [Seen, Seen, Seen, Gone],
    ),
    (
        "SELECT nextval('t_id_seq')",
        "SELECT currval('t_id_seq') > 0",
        [Seen, Seen, Seen, Gone],
    ),
    (
        "PREPARE q AS SELECT 1",
        "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'q')",
        [Seen, Seen, Seen, Seen],
    ),
];

/// In the manual's words.
fn word(left: Left) -> &'static str {
    match left {
        Seen => "seen",
        Gone => "undone",
        Closed => "closed",
    }
}

#[test]
fn the_manual_has_the_same_table() {
    let manual = include_str!("../../src/manual/session.md");
    let documented: Vec<_> = manual
        .lines()
        .skip_while(|line| !line.starts_with("| left behind |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let tested: Vec<_> = TABLE
        .iter()
        .map(|(dirt, _, left)| format!("| `{dirt}` | {} |", left.map(word).join(" | ")))
        .collect();
    assert_eq!(documented, tested);
}

async fn pid(client: &Client) -> i32 {
    client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0)
}

/// Leaves something behind, and looks at what the next one gets.
async fn left<F>(get: impl Fn() -> F, dirt: &str, look: &str) -> Left
where
    F: Future<Output = Client>,
{
    let client = get().await;
    let before = pid(&client).await;
    // What it is about may be that it fails.
    drop(client.batch_execute(dirt).await);
    drop(client);
    let client = get().await;
    let found = match client.simple_query(look).await {
        Ok(messages) => messages.iter().any(|message| {
            matches!(message, tokio_postgres::SimpleQueryMessage::Row(row) if row.get(0) == Some("t"))
        }),
        Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => true,
        // What `currval` says of a sequence that was not used.
        Err(error) if error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => false,
        Err(error) => panic!("{look}: {error}"),
    };
    if found {
        drop(Object::take(client));
        return Seen;
    }
    let is_same = pid(&client).await == before;
    drop(Object::take(client));
    if is_same { Gone } else { Closed }
}

#[tokio::test]
async fn what_the_next_user_sees() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    prepare(&servers).await;
    let admin = servers.connect(0).await.unwrap();
    let roles = "CREATE ROLE clerk; GRANT USAGE ON SEQUENCE t_id_seq TO clerk";
    admin.batch_execute(roles).await.unwrap();
    let policies = [
        Recycling::Fast,
        Recycling::Verified,
        Recycling::Own("DISCARD TEMP".into()),
        Recycling::Clean,
    ];
    for (at, policy) in policies.into_iter().enumerate() {
        let pool = connect_with(&servers.url(), |config| {
            config.writer_size(1).recycling(policy.clone())
        })
        .await
        .unwrap();
        let native = pool.deadpool_pool();
        for (dirt, look, expected) in TABLE {
            let get = || async { pool.get().await.unwrap() };
            let found = soon(dirt, left(get, dirt, look)).await;
            assert_eq!(found, expected[at], "{policy:?}: {dirt}");
            let get = || async { native.get().await.unwrap() };
            let found = soon(dirt, left(get, dirt, look)).await;
            assert_eq!(found, expected[at], "deadpool's, {policy:?}: {dirt}");
        }
    }
}

#[tokio::test]
async fn cached_statements_survive_every_policy() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    prepare(&servers).await;
    let pool = connect_with(&servers.url(), |config| {
        config.writer_size(1).recycling(Recycling::Clean)
    })
    .await
    .unwrap();
    for round in 0..3 {
        let client = pool.get().await.unwrap();
        let statement = client.prepare_cached("SELECT count(*) FROM t").await;
        let row = client.query_one(&statement.unwrap(), &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), round);
        drop(client);
        let insert = pool.run_tx(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            Ok(())
        });
        insert.await.unwrap();
    }
}

async fn with_policy(servers: &Servers, connect_timeout: Duration) -> Pool {
    connect_with(&servers.proxied_url(), |config| {
        config
            .writer_size(1)
            .recycling(Recycling::Verified)
            .connect_timeout(connect_timeout)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_host_that_freezes_while_cleaning_delays_nobody_beyond_the_deadline() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    let pool = with_policy(&servers, Duration::from_secs(60)).await;
    drop(pool.get().await.unwrap());
    servers.proxy(0).unwrap().black_hole();
    let short = Duration::from_millis(600);
    let get = pool.timeout_get(Target::Primary, short);
    let error = soon("the deadline", get).await.unwrap_err();
    assert!(matches!(error, Error::NoHost(_)), "{error}");
    servers.proxy(0).unwrap().pass();
    drop(soon("a checkout", pool.get()).await.unwrap());
}

#[tokio::test]
async fn a_connection_that_is_silent_alone_is_replaced() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    let pool = with_policy(&servers, Duration::from_millis(300)).await;
    let client = pool.get().await.unwrap();
    let before = pid(&client).await;
    drop(client);
    let silence = Trigger::new("BEGIN;ROLLBACK", Moment::SilentBefore);
    servers.proxy(0).unwrap().cut_at(silence);
    let client = soon("a checkout", pool.get()).await.unwrap();
    assert_ne!(pid(&client).await, before);
}

#[tokio::test]
async fn checkouts_dropped_while_cleaning_leak_nothing() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    let pool = with_policy(&servers, Duration::from_secs(5)).await;
    let each = Duration::from_millis(2);
    servers.proxy(0).unwrap().delay(each, each);
    for micros in (0..12_000).step_by(400) {
        drop(soon("a checkout", pool.get()).await.unwrap());
        drop(tokio::time::timeout(Duration::from_micros(micros), pool.get()).await);
    }
    let client = soon("a checkout", pool.get()).await.unwrap();
    client.simple_query("SELECT 1").await.unwrap();
    drop(client);
    no_open_transactions(&servers).await;
}
