//! Commits that get no answer, and what tests do with them.

use std::time::Duration;

use leadpool::{
    Error, Pool,
    outcome::{Doubt, Evidence, Outcome},
};
use leadpool_testkit::{Cluster as Servers, ClusterBuilder, Moment, Trigger};

use crate::support::*;

pub(crate) const INSERT: &str = "INSERT INTO t (n) VALUES (77)";
/// Long enough for a slow machine to get to COMMIT.
pub(crate) const TO_COMMIT: Duration = Duration::from_secs(3);
pub(crate) const RESOLVE: Duration = Duration::from_secs(20);

/// Servers that write their log only when a commit asks for it.
pub(crate) fn lazy() -> ClusterBuilder {
    Servers::builder()
        .proxies(true)
        .conf("wal_writer_delay", "10s")
        .conf("wal_writer_flush_after", "1GB")
        .conf("max_prepared_transactions", "5")
}

pub(crate) async fn start_with(builder: ClusterBuilder) -> (Servers, Pool) {
    let servers = builder.start().await.unwrap();
    prepare(&servers).await;
    let client = servers.connect(servers.primary()).await.unwrap();
    client
        .batch_execute("CREATE UNLOGGED TABLE u (n bigint)")
        .await
        .unwrap();
    servers.wait_replayed().await.unwrap();
    let pool = Pool::connect(&servers.proxied_url()).await.unwrap();
    (servers, pool)
}

/// Runs a transaction whose COMMIT gets no answer, gives up, and keeps its evidence as text.
pub(crate) async fn unanswered(
    servers: &Servers,
    pool: &Pool,
    sql: &'static str,
    moment: Moment,
) -> Evidence {
    let proxy = servers.proxy(servers.primary()).unwrap();
    proxy.cut_at(Trigger::new("COMMIT", moment));
    let error = pool
        .tx()
        .deadline(TO_COMMIT)
        .resolve_within(Duration::ZERO)
        .run(move |tx| async move { Ok(tx.batch_execute(sql).await?) })
        .await
        .unwrap_err();
    let Error::Unknown(in_doubt) = &error else {
        panic!("{error}");
    };
    assert_eq!(in_doubt.doubt, Doubt::OutOfTime);
    let evidence = in_doubt.evidence.as_ref().unwrap();
    assert!(error.to_string().contains(&evidence.to_string()));
    // Through text, as over a restart of the application.
    evidence.to_string().parse().unwrap()
}

/// The rows of the transaction in question, on the primary.
pub(crate) async fn found(servers: &Servers) -> i64 {
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = "SELECT count(*) FROM t WHERE n = 77";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Resolves, and compares with the table.
pub(crate) async fn resolved(
    servers: &Servers,
    pool: &Pool,
    evidence: &Evidence,
) -> Result<Outcome, Doubt> {
    let outcome = resolved_within(pool, evidence, RESOLVE).await;
    if let Ok(outcome) = outcome {
        let expected = match outcome {
            Outcome::Committed => 1,
            Outcome::NotCommitted => 0,
        };
        assert_eq!(found(servers).await, expected, "{outcome:?} is wrong");
    }
    outcome
}

pub(crate) async fn resolved_within(
    pool: &Pool,
    evidence: &Evidence,
    timeout: Duration,
) -> Result<Outcome, Doubt> {
    match pool.resolve(evidence, timeout).await {
        Ok(outcome) => Ok(outcome),
        Err(Error::Unknown(in_doubt)) => Err(in_doubt.doubt),
        Err(error) => panic!("{error}"),
    }
}

/// Hands out transaction ids on the primary until the evidence's is used again, and committed.
pub(crate) async fn reuse(servers: &Servers, evidence: &Evidence) {
    let client = servers.connect(servers.primary()).await.unwrap();
    soon("the id's second use", async {
        loop {
            let sql = "SELECT pg_current_xact_id()::text";
            let row = client.query_one(sql, &[]).await.unwrap();
            if row.get::<_, &str>(0).parse::<u64>().unwrap() >= evidence.transaction {
                break;
            }
        }
    })
    .await;
    let sql = "SELECT pg_xact_status($1::text::xid8)";
    let status = client
        .query_one(sql, &[&evidence.transaction.to_string()])
        .await
        .unwrap();
    // So whoever asks for nothing else is told a lie.
    assert_eq!(status.get::<_, &str>(0), "committed");
}

/// Writes until the log has passed the evidence's marker.
pub(crate) async fn beyond(servers: &Servers, evidence: &Evidence) {
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = "SELECT (pg_logical_emit_message(true, 'x', repeat('x', 8000)) - '0/0')::text";
    soon("the log's passing of the marker", async {
        loop {
            let row = client.query_one(sql, &[]).await.unwrap();
            let end: u64 = row.get::<_, &str>(0).parse().unwrap();
            if end > evidence.marker.get() {
                return;
            }
        }
    })
    .await;
}

/// A commit that flushes the log up to itself.
pub(crate) async fn flush(servers: &Servers) {
    let client = servers.connect(servers.primary()).await.unwrap();
    client
        .batch_execute("INSERT INTO t (n) VALUES (0)")
        .await
        .unwrap();
}

/// Kills the primary and promotes a standby.
pub(crate) async fn fail_over(servers: &Servers, pool: &Pool, to: usize) {
    servers.kill(servers.primary()).await.unwrap();
    servers.promote(to).await.unwrap();
    follows(servers, pool).await;
}

/// Waits until the pool has followed the testkit's idea of the primary.
pub(crate) async fn follows(servers: &Servers, pool: &Pool) {
    let proxy = servers.proxy(servers.primary()).unwrap();
    let port = proxy.addr().port();
    seen(pool, "the new writer", |topology| {
        topology
            .writer
            .as_ref()
            .is_some_and(|host| host.port() == port)
    })
    .await;
}

/// Stops a standby, so that nothing more reaches it.
pub(crate) async fn detach(servers: &Servers, standbys: &[usize]) {
    for standby in standbys {
        servers.stop_fast(*standby).await.unwrap();
    }
}

pub(crate) async fn restart(servers: &Servers, pool: &Pool) {
    let primary = servers.primary();
    servers.kill(primary).await.unwrap();
    servers.start_host(primary).await.unwrap();
    follows(servers, pool).await;
}

/// Evidence with other fields, and a checksum that fits them.
pub(crate) fn rewritten(evidence: &Evidence, change: impl FnOnce(&mut Vec<String>)) -> Evidence {
    let text = evidence.to_string();
    let mut fields: Vec<String> = text.split('|').map(str::to_owned).collect();
    fields.pop();
    change(&mut fields);
    let body = fields.join("|");
    let sum = body.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    format!("{body}|{sum:016x}").parse().unwrap()
}

/// The pool of a role without any rights but on its tables.
pub(crate) async fn ordinary(
    servers: &Servers,
    change: impl FnOnce(leadpool::config::ConfigBuilder) -> leadpool::config::ConfigBuilder,
) -> Pool {
    let client = servers.connect(servers.primary()).await.unwrap();
    client
        .batch_execute(
            "DROP ROLE IF EXISTS app; CREATE ROLE app LOGIN; \
             GRANT SELECT, INSERT ON t TO app; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app",
        )
        .await
        .unwrap();
    connect_with(&servers.proxied_url(), |config| change(config.user("app")))
        .await
        .unwrap()
}
