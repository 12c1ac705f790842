//! What became of a COMMIT in flight, each case compared with the table itself.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use diesel::{QueryResult, prelude::*};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use leadpool_diesel::{
    Error, Pool, Tx,
    leadpool::{
        self,
        outcome::{Doubt, Evidence, Outcome, TokenTable},
    },
};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};

use crate::support::*;

async fn select_one(tx: &mut Tx) -> QueryResult<usize> {
    diesel::sql_query("SELECT 1").execute(tx).await
}

/// The rows of the transaction in question, on the primary.
async fn found(servers: &Servers) -> i64 {
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = "SELECT count(*) FROM t WHERE n = 77";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Runs a transaction whose COMMIT gets no answer, gives up, and keeps its evidence as text.
async fn unanswered(servers: &Servers, pool: &Pool, moment: Moment) -> Evidence {
    let proxy = servers.proxy(servers.primary()).unwrap();
    proxy.cut_at(Trigger::new("COMMIT", moment));
    let error = pool
        .tx()
        .deadline(Duration::from_secs(3))
        .resolve_within(Duration::ZERO)
        .run(|mut tx| async move { insert(&mut tx, 77).await })
        .await
        .unwrap_err();
    let Error::Pool(leadpool::Error::Unknown(in_doubt)) = &error else {
        panic!("{error}");
    };
    assert_eq!(in_doubt.doubt, Doubt::OutOfTime);
    in_doubt
        .evidence
        .as_ref()
        .unwrap()
        .to_string()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_lost_commit_is_found_out_and_repeated_only_if_it_did_not_happen() {
    for (moment, expected) in [
        (Moment::BeforeForward, Outcome::NotCommitted),
        (Moment::Stranded, Outcome::NotCommitted),
        (Moment::AfterForward, Outcome::Committed),
        (Moment::BeforeAnswer, Outcome::Committed),
    ] {
        let (servers, pool) = start_proxied().await;
        servers
            .proxy(0)
            .unwrap()
            .cut_at(Trigger::new("COMMIT", moment));
        let attempts = Arc::new(AtomicU32::new(0));
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let (counted, told) = (attempts.clone(), outcomes.clone());
        let value = pool
            .tx()
            .on_resolved(move |resolved| told.lock().unwrap().push(resolved.outcome))
            .run(move |mut tx| {
                let attempt = counted.fetch_add(1, Ordering::Relaxed) + 1;
                async move {
                    insert(&mut tx, 77).await?;
                    Ok(attempt)
                }
            })
            .await
            .unwrap();
        let repeats = u32::from(expected == Outcome::NotCommitted);
        assert_eq!(*outcomes.lock().unwrap(), [Ok(expected)], "{moment:?}");
        assert_eq!(value, 1 + repeats, "{moment:?}");
        assert_eq!(found(&servers).await, 1, "{moment:?}");
    }
}

/// The server ends it as soon as it has committed: diesel calls that an error like any other.
#[tokio::test]
async fn a_commit_that_was_answered_before_the_server_went_has_happened() {
    for evidence in [true, false] {
        let (servers, pool) = start_proxied().await;
        let trigger = Trigger::new("COMMIT", Moment::ShutdownInAnswer);
        servers.proxy(0).unwrap().cut_at(trigger);
        pool.tx()
            .evidence(evidence)
            .on_retry(|retry| panic!("told of a retry: {}", retry.error))
            .on_resolved(|_| panic!("there is nothing to resolve"))
            .run(|mut tx| async move { insert(&mut tx, 77).await })
            .await
            .unwrap();
        assert_eq!(found(&servers).await, 1);
        is_whole(&servers, &pool).await;
    }
    // diesel's own.
    let (servers, pool) = start_proxied().await;
    let mut conn = pool.get().await.unwrap();
    let trigger = Trigger::new("COMMIT", Moment::ShutdownInAnswer);
    servers.proxy(0).unwrap().cut_at(trigger);
    let told = conn.transaction(async |conn| insert(conn, 77).await).await;
    assert!(told.is_err());
    assert_eq!(found(&servers).await, 1);
}

#[tokio::test]
async fn silence_after_commit_is_not_waited_out() {
    for (moment, expected) in [
        (Moment::SilentAfter, Outcome::Committed),
        (Moment::SilentBefore, Outcome::NotCommitted),
    ] {
        let (servers, pool) = start_proxied().await;
        servers
            .proxy(0)
            .unwrap()
            .cut_at(Trigger::new("COMMIT", moment));
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let told = outcomes.clone();
        let committed = pool
            .tx()
            .deadline(Duration::from_secs(3_600))
            .on_resolved(move |resolved| told.lock().unwrap().push(resolved.outcome))
            .run(|mut tx| async move { insert(&mut tx, 77).await });
        soon("the end of the silence", committed).await.unwrap();
        assert_eq!(*outcomes.lock().unwrap(), [Ok(expected)], "{moment:?}");
        assert_eq!(found(&servers).await, 1, "{moment:?}");
    }
}

#[tokio::test]
async fn a_commit_in_flight_without_evidence_is_unknown_and_never_repeated() {
    let (servers, pool) = start_proxied().await;
    servers
        .proxy(0)
        .unwrap()
        .cut_at(Trigger::new("COMMIT", Moment::AfterForward));
    let error = pool
        .tx()
        .evidence(false)
        .on_retry(|retry| panic!("told of a retry: {}", retry.error))
        .run(|mut tx| async move { insert(&mut tx, 77).await })
        .await
        .unwrap_err();
    let Error::Pool(leadpool::Error::Unknown(in_doubt)) = &error else {
        panic!("{error}");
    };
    assert_eq!(in_doubt.doubt, Doubt::NoEvidence);
    assert!(!error.is_transient());
    // And in the words of diesel.
    let error = Error::from(diesel::result::Error::from(error));
    assert!(
        matches!(error, Error::Pool(leadpool::Error::Unknown(_))),
        "{error:?}"
    );
    assert_eq!(found(&servers).await, 1);
}

#[tokio::test]
async fn a_reader_is_repeated_without_a_question() {
    let (servers, pool) = start_proxied().await;
    servers
        .proxy(0)
        .unwrap()
        .cut_at(Trigger::new("COMMIT", Moment::AfterForward));
    let n: i64 = pool
        .tx()
        .on_resolved(|_| panic!("there is nothing to resolve"))
        .run(|mut tx| async move { t::table.count().get_result(&mut tx).await })
        .await
        .unwrap();
    assert_eq!(n, 0);
    let client = servers.connect(0).await.unwrap();
    let id = async || -> u64 {
        let row = client
            .query_one("SELECT pg_current_xact_id()::text", &[])
            .await
            .unwrap();
        row.get::<_, &str>(0).parse().unwrap()
    };
    let before = id().await;
    for _ in 0..5 {
        let reading = |mut tx: Tx| async move { select_one(&mut tx).await };
        pool.run_tx(reading).await.unwrap();
    }
    assert_eq!(id().await, before + 1, "a reader was made to write");
}

#[tokio::test]
async fn evidence_is_resolved_later_also_by_another_pool_after_a_failover() {
    for (moment, expected) in [
        (Moment::SilentAfter, Outcome::Committed),
        (Moment::SilentBefore, Outcome::NotCommitted),
    ] {
        let (servers, pool) = start_proxied().await;
        let evidence = unanswered(&servers, &pool, moment).await;
        let client = servers.connect(0).await.unwrap();
        client
            .batch_execute("INSERT INTO t (n) VALUES (0)")
            .await
            .unwrap();
        servers.wait_replayed().await.unwrap();
        servers.kill(0).await.unwrap();
        servers.promote(1).await.unwrap();
        let outcome = pool
            .resolve(&evidence, Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(outcome, expected);
        assert_eq!(
            found(&servers).await,
            i64::from(expected == Outcome::Committed)
        );
        let native = leadpool::Pool::new(pool.cluster());
        let outcome = native
            .resolve(&evidence, Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(outcome, expected);
    }
}

#[tokio::test]
async fn a_commit_on_a_primary_that_freezes_is_found_out_or_unknown() {
    let servers = Servers::builder()
        .standbys(1)
        .synchronous(true)
        .start()
        .await
        .unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    // The commit waits for the standby, so it is in flight for certain.
    servers.freeze(1).await.unwrap();
    let running = pool.run_tx(|mut tx| async move { insert(&mut tx, 77).await });
    let failing = async {
        let client = servers.connect(0).await.unwrap();
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        until("the wait", async || {
            client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await;
        servers.freeze(0).await.unwrap();
        servers.thaw(1).await.unwrap();
        servers.promote(1).await.unwrap();
    };
    let (ran, ()) = tokio::join!(soon("the transaction", running), failing);
    match ran {
        Ok(_) => assert_eq!(found(&servers).await, 1),
        // Unless a probe has seen the log flushed in time.
        Err(Error::Pool(leadpool::Error::Unknown(in_doubt))) => {
            assert_eq!(in_doubt.doubt, Doubt::NotFlushed);
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn tokens_are_left_with_commit() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    prepare(&servers).await;
    let table = TokenTable::new("token").unwrap();
    let client = servers.connect(0).await.unwrap();
    client.batch_execute(&table.migration()).await.unwrap();
    let pool = Pool::builder(&servers.proxied_url())
        .configure(|config| config.token_table("token"))
        .build()
        .await
        .unwrap();
    let tokens = async || -> i64 {
        client
            .query_one("SELECT count(*) FROM token", &[])
            .await
            .unwrap()
            .get(0)
    };
    pool.run_tx(|mut tx| async move { insert(&mut tx, 77).await })
        .await
        .unwrap();
    assert_eq!(tokens().await, 1);
    let reading = |mut tx: Tx| async move { select_one(&mut tx).await };
    pool.run_tx(reading).await.unwrap();
    assert_eq!(tokens().await, 1, "a reader leaves none");
    let evidence = unanswered(&servers, &pool, Moment::AfterForward).await;
    let token = evidence.token.unwrap().to_string();
    let sql = "SELECT count(*) FROM token WHERE token::text = $1";
    let left: i64 = client.query_one(sql, &[&token]).await.unwrap().get(0);
    assert_eq!(left, 1);
}

#[tokio::test]
async fn an_ordinary_user_has_evidence_too() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    prepare(&servers).await;
    let client = servers.connect(0).await.unwrap();
    client
        .batch_execute(
            "CREATE ROLE app LOGIN; GRANT SELECT, INSERT ON t TO app; \
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app",
        )
        .await
        .unwrap();
    let pool = Pool::builder(&servers.proxied_url())
        .configure(|config| config.user("app"))
        .build()
        .await
        .unwrap();
    servers
        .proxy(0)
        .unwrap()
        .cut_at(Trigger::new("COMMIT", Moment::AfterForward));
    let told = Arc::new(Mutex::new(Vec::new()));
    let outcomes = told.clone();
    pool.tx()
        .on_resolved(move |resolved| told.lock().unwrap().push(resolved.outcome))
        .run(|mut tx| async move { insert(&mut tx, 77).await })
        .await
        .unwrap();
    assert_eq!(*outcomes.lock().unwrap(), [Ok(Outcome::Committed)]);
}
