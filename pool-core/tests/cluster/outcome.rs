//! What became of a COMMIT in flight, each case compared with the table itself.
//!
//! The letters are those of the list in `ARCHITECTURE.md`.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use leadpool::{
    Error, Pool,
    outcome::{Doubt, Evidence, Outcome, Proof},
};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};

use crate::{in_doubt::*, support::*};

// a: the connection dies.

#[tokio::test]
async fn a_lost_commit_is_found_out_and_repeated_only_if_it_did_not_happen() {
    for (moment, expected) in [
        (Moment::BeforeForward, Outcome::NotCommitted),
        (Moment::Stranded, Outcome::NotCommitted),
        (Moment::AfterForward, Outcome::Committed),
        (Moment::BeforeAnswer, Outcome::Committed),
    ] {
        let (servers, pool) = start_proxied().await;
        let proxy = servers.proxy(0).unwrap();
        proxy.cut_at(Trigger::new("COMMIT", moment));
        let attempts = Arc::new(AtomicU32::new(0));
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let (counted, told) = (attempts.clone(), outcomes.clone());
        let value = pool
            .tx()
            .on_resolved(move |resolved| told.lock().unwrap().push(resolved.outcome))
            .run(move |tx| {
                let attempt = counted.fetch_add(1, Ordering::Relaxed) + 1;
                async move {
                    tx.batch_execute(INSERT).await?;
                    Ok(attempt)
                }
            })
            .await
            .unwrap();
        let repeats = u32::from(expected == Outcome::NotCommitted);
        assert_eq!(*outcomes.lock().unwrap(), [Ok(expected)], "{moment:?}");
        // The value of the run that was committed.
        assert_eq!(value, 1 + repeats, "{moment:?}");
        assert_eq!(attempts.load(Ordering::Relaxed), 1 + repeats, "{moment:?}");
        assert_eq!(found(&servers).await, 1, "{moment:?}");
    }
}

#[tokio::test]
async fn silence_after_commit_is_not_waited_out() {
    for (moment, expected) in [
        (Moment::SilentAfter, Outcome::Committed),
        (Moment::SilentBefore, Outcome::NotCommitted),
    ] {
        let (servers, pool) = start_proxied().await;
        let proxy = servers.proxy(0).unwrap();
        proxy.cut_at(Trigger::new("COMMIT", moment));
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let told = outcomes.clone();
        // The host is well, and its other connections are: nothing else would end the wait.
        let committed = pool
            .tx()
            .deadline(Duration::from_secs(3_600))
            .on_resolved(move |resolved| told.lock().unwrap().push(resolved.outcome))
            .run(|tx| async move { Ok(tx.batch_execute(INSERT).await?) });
        soon("the end of the silence", committed).await.unwrap();
        assert_eq!(*outcomes.lock().unwrap(), [Ok(expected)], "{moment:?}");
        assert_eq!(found(&servers).await, 1, "{moment:?}");
    }
}

#[tokio::test]
async fn a_transaction_whose_client_is_gone_is_ended() {
    let (servers, pool) = start_with(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentBefore).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::NotCommitted));
    no_open_transactions(&servers).await;
    // And it stays so.
    assert_eq!(resolved(&servers, &pool, &evidence).await, outcome);
}

// b: the primary dies and comes back.

#[tokio::test]
async fn a_durable_commit_survives_a_crash() {
    let (servers, pool) = start_with(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    flush(&servers).await;
    restart(&servers, &pool).await;
    assert_eq!(found(&servers).await, 1);
    // Who did not see the log flushed up to the marker can say so by the laxer rule only.
    let url = servers.proxied_url();
    let late = Pool::connect(&url).await.unwrap();
    let strict = resolved(&servers, &late, &evidence).await;
    assert_eq!(strict, Err(Doubt::NotFlushed));
    let lax = connect_with(&url, |config| config.proof(Proof::OneRecovery))
        .await
        .unwrap();
    let outcome = resolved(&servers, &lax, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
}

#[tokio::test]
async fn a_flush_that_was_seen_proves_a_commit_after_a_crash() {
    let (servers, pool) = start_with(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    // Another transaction's evidence shows how far the log is flushed.
    flush(&servers).await;
    pool.run_tx(|tx| async move { Ok(tx.batch_execute("INSERT INTO t (n) VALUES (1)").await?) })
        .await
        .unwrap();
    restart(&servers, &pool).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
}

/// The case that the status alone gets wrong: the log was lost, the id is used again.
#[tokio::test]
async fn a_reused_id_after_a_crash_is_not_believed() {
    let (servers, pool) = start_with(lazy()).await;
    detach(&servers, &[1, 2]).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentBefore).await;
    restart(&servers, &pool).await;
    reuse(&servers, &evidence).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::NotCommitted));
}

#[tokio::test]
async fn two_crashes_hide_the_loss_and_are_not_guessed_at() {
    let (servers, pool) = start_with(lazy()).await;
    detach(&servers, &[1, 2]).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentBefore).await;
    restart(&servers, &pool).await;
    reuse(&servers, &evidence).await;
    flush(&servers).await;
    restart(&servers, &pool).await;
    // The second recovery ended behind the marker's old place.
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert!(
        matches!(outcome, Err(Doubt::NotFlushed) | Ok(Outcome::NotCommitted)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn the_crash_of_one_backend_resets_the_server() {
    let (servers, pool) = start_with(lazy()).await;
    detach(&servers, &[1, 2]).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentBefore).await;
    // The start time stays, so only the position tells.
    let primary = servers.primary();
    servers
        .crash_backend(primary, evidence.backend)
        .await
        .unwrap();
    soon("the end of the recovery", async {
        let recovered = "SELECT pg_last_wal_replay_lsn() IS NOT NULL";
        loop {
            if let Ok(client) = servers.connect(primary).await {
                match client.query_one(recovered, &[]).await {
                    Ok(row) if row.get(0) => break,
                    _ => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    reuse(&servers, &evidence).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::NotCommitted));
}

#[tokio::test]
async fn a_commit_that_did_not_wait_for_the_disk_is_lost() {
    let sql = "SET LOCAL synchronous_commit = off; INSERT INTO t (n) VALUES (77)";
    // The server's own writer may have been quicker.
    for _ in 0..5 {
        let (servers, pool) = start_with(lazy()).await;
        detach(&servers, &[1, 2]).await;
        let evidence = unanswered(&servers, &pool, sql, Moment::SilentAfter).await;
        assert_eq!(found(&servers).await, 1);
        restart(&servers, &pool).await;
        if found(&servers).await == 1 {
            continue;
        }
        reuse(&servers, &evidence).await;
        let outcome = resolved(&servers, &pool, &evidence).await;
        assert_eq!(outcome, Ok(Outcome::NotCommitted));
        return;
    }
    panic!("the log was on disk each time");
}

#[tokio::test]
async fn a_clean_restart_keeps_everything_and_proves_it_only_with_a_flush_seen() {
    for moment in [Moment::SilentAfter, Moment::SilentBefore] {
        let (servers, pool) = start_with(lazy()).await;
        let evidence = unanswered(&servers, &pool, INSERT, moment).await;
        let primary = servers.primary();
        servers.stop_fast(primary).await.unwrap();
        servers.start_host(primary).await.unwrap();
        let late = Pool::connect(&servers.proxied_url()).await.unwrap();
        let outcome = resolved(&servers, &late, &evidence).await;
        match moment {
            Moment::SilentAfter => assert_eq!(outcome, Err(Doubt::NotFlushed)),
            _ => assert_eq!(outcome, Ok(Outcome::NotCommitted)),
        }
    }
}

// c: a synchronous standby is promoted.

#[tokio::test]
async fn a_synchronous_standby_has_what_was_committed() {
    let (servers, pool) = start_with(lazy().standbys(1).synchronous(true)).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    fail_over(&servers, &pool, 1).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
}

// d: an asynchronous standby is promoted.

#[tokio::test]
async fn a_reused_id_after_a_promotion_is_not_believed() {
    for is_held in [false, true] {
        let (servers, pool) = start_with(lazy()).await;
        detach(&servers, &[1, 2]).await;
        let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
        assert_eq!(found(&servers).await, 1);
        servers.kill(servers.primary()).await.unwrap();
        servers.start_host(1).await.unwrap();
        servers.promote(1).await.unwrap();
        follows(&servers, &pool).await;
        let holder = servers.connect(servers.primary()).await.unwrap();
        if is_held {
            // By a transaction that is still open: waiting for it would be in vain.
            soon("the id's second use", async {
                loop {
                    let sql = "BEGIN; SELECT pg_current_xact_id()";
                    let found = holder.simple_query(sql).await.unwrap();
                    let id = found.iter().find_map(|message| match message {
                        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                        _ => None,
                    });
                    if id.unwrap().parse::<u64>().unwrap() >= evidence.transaction {
                        break;
                    }
                    holder.batch_execute("COMMIT").await.unwrap();
                }
            })
            .await;
        } else {
            reuse(&servers, &evidence).await;
        }
        let outcome = resolved(&servers, &pool, &evidence).await;
        assert_eq!(outcome, Ok(Outcome::NotCommitted), "held: {is_held}");
    }
}

#[tokio::test]
async fn a_crash_before_a_promotion_hides_the_loss_and_is_not_guessed_at() {
    let (servers, pool) = start_with(lazy()).await;
    detach(&servers, &[1, 2]).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentBefore).await;
    restart(&servers, &pool).await;
    reuse(&servers, &evidence).await;
    // So the promotion comes behind the marker's old place, which others have taken.
    beyond(&servers, &evidence).await;
    for standby in [1, 2] {
        servers.start_host(standby).await.unwrap();
    }
    servers.wait_replayed().await.unwrap();
    fail_over(&servers, &pool, 1).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Err(Doubt::NotFlushed));
    // One of the two cases in which the laxer rule errs.
    let lax = connect_with(&servers.proxied_url(), |config| {
        config.proof(Proof::OneRecovery)
    })
    .await
    .unwrap();
    let outcome = resolved_within(&lax, &evidence, RESOLVE).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
    assert_eq!(found(&servers).await, 0);
}

#[tokio::test]
async fn a_standby_that_has_the_marker_and_not_the_commit_says_so() {
    let (servers, pool) = start_with(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentBefore).await;
    flush(&servers).await;
    servers.wait_replayed().await.unwrap();
    fail_over(&servers, &pool, 1).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::NotCommitted));
}

#[tokio::test]
async fn a_standby_that_has_the_commit_says_so() {
    let (servers, pool) = start_with(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    servers.wait_replayed().await.unwrap();
    fail_over(&servers, &pool, 1).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
}

#[tokio::test]
async fn two_promotions_are_followed_if_both_were_seen() {
    let (servers, pool) = start_with(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    servers.wait_replayed().await.unwrap();
    fail_over(&servers, &pool, 1).await;
    servers.repoint(2, 1).await.unwrap();
    servers.wait_replayed().await.unwrap();
    // The pool that follows has seen the first one; another comes only now.
    fail_over(&servers, &pool, 2).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
    // The testkit's user may read the history file. Who has not seen the log on disk before can't
    // exclude a crash before the first promotion.
    let url = servers.proxied_url();
    let late = Pool::connect(&url).await.unwrap();
    let outcome = resolved(&servers, &late, &evidence).await;
    assert_eq!(outcome, Err(Doubt::NotFlushed));
    let lax = connect_with(&url, |config| config.proof(Proof::OneRecovery))
        .await
        .unwrap();
    let outcome = resolved(&servers, &lax, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
    let ordinary = ordinary(&servers, |config| config).await;
    let outcome = resolved(&servers, &ordinary, &evidence).await;
    assert_eq!(outcome, Err(Doubt::SwitchUnseen));
}

#[tokio::test]
async fn what_leaves_no_trace_in_the_log_is_not_taken_for_committed() {
    let (servers, pool) = start_with(lazy()).await;
    detach(&servers, &[1, 2]).await;
    let sql = "INSERT INTO u (n) VALUES (77)";
    let evidence = unanswered(&servers, &pool, sql, Moment::SilentAfter).await;
    servers.kill(servers.primary()).await.unwrap();
    servers.start_host(1).await.unwrap();
    servers.promote(1).await.unwrap();
    follows(&servers, &pool).await;
    reuse(&servers, &evidence).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::NotCommitted));
}

// e: COMMIT waits for a synchronous standby.

/// A commit that is durable on the primary, and waits for a standby that is not there.
async fn waiting() -> (Servers, Pool, Evidence) {
    let (servers, pool) = start_with(lazy().standbys(1).synchronous(true)).await;
    detach(&servers, &[1]).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    let timeout = Duration::from_secs(1);
    let outcome = resolved_within(&pool, &evidence, timeout).await;
    assert_eq!(outcome, Err(Doubt::StillRunning));
    // It is durable here, and would only lose its wait.
    let client = servers.connect(0).await.unwrap();
    let sql = "SELECT wait_event FROM pg_stat_activity WHERE pid = $1";
    let backend = client.query_one(sql, &[&evidence.backend]).await.unwrap();
    assert_eq!(backend.get::<_, &str>(0), "SyncRep", "it was ended");
    (servers, pool, evidence)
}

#[tokio::test]
async fn a_commit_that_waits_for_a_standby_is_waited_for() {
    let (servers, pool, evidence) = waiting().await;
    servers.start_host(1).await.unwrap();
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
}

#[tokio::test]
async fn a_commit_that_broke_off_its_wait_is_not_called_committed_before_the_standby_has_it() {
    for end in ["pg_cancel_backend", "pg_terminate_backend", "crash"] {
        let (servers, pool, evidence) = waiting().await;
        if end == "crash" {
            restart(&servers, &pool).await;
        } else {
            let client = servers.connect(servers.primary()).await.unwrap();
            let sql = format!("SELECT {end}($1)");
            client.query(&sql, &[&evidence.backend]).await.unwrap();
        }
        let timeout = Duration::from_secs(1);
        let outcome = resolved_within(&pool, &evidence, timeout).await;
        let doubts = [Doubt::NotReplicated, Doubt::StillRunning, Doubt::OutOfTime];
        assert!(
            outcome.is_err_and(|doubt| doubts.contains(&doubt)),
            "{end}: {outcome:?}"
        );
        servers.start_host(1).await.unwrap();
        let outcome = resolved(&servers, &pool, &evidence).await;
        assert_eq!(outcome, Ok(Outcome::Committed), "{end}");
    }
}

#[tokio::test]
async fn a_commit_that_never_reached_the_standby_is_gone_with_its_promotion() {
    let (servers, pool, evidence) = waiting().await;
    servers.kill(servers.primary()).await.unwrap();
    servers.start_host(1).await.unwrap();
    servers.promote(1).await.unwrap();
    follows(&servers, &pool).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::NotCommitted));
}

/// Cancels the first COMMIT that waits for a standby.
async fn cancel_wait(servers: &Servers) {
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity \
               WHERE wait_event = 'SyncRep'";
    while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_wait_that_was_cancelled_is_told() {
    let (servers, pool) = start_with(lazy().standbys(1).synchronous(true)).await;
    detach(&servers, &[1]).await;
    let running = pool.run_tx(|tx| async move { Ok(tx.batch_execute(INSERT).await?) });
    let (ran, ()) = soon("the cancelled wait", async {
        tokio::join!(running, cancel_wait(&servers))
    })
    .await;
    let error = ran.unwrap_err();
    assert!(matches!(error, Error::NotReplicated { .. }), "{error}");
    assert!(!error.is_transient());
    assert_eq!(found(&servers).await, 1);
}

#[tokio::test]
async fn a_wait_that_was_cancelled_does_not_matter_once_the_standby_has_it() {
    let (servers, pool) = start_with(lazy().standbys(1).synchronous(true)).await;
    servers.freeze(1).await.unwrap();
    let told = Arc::new(AtomicU32::new(0));
    let asked = told.clone();
    let running = pool
        .tx()
        .on_retry(|retry| panic!("told of a retry: {}", retry.error))
        .run(move |tx| {
            asked.fetch_add(1, Ordering::Relaxed);
            async move { Ok(tx.batch_execute(INSERT).await?) }
        });
    let cancelling = async {
        cancel_wait(&servers).await;
        servers.thaw(1).await.unwrap();
    };
    let (ran, ()) = soon("the cancelled wait", async {
        tokio::join!(running, cancelling)
    })
    .await;
    ran.unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 1);
    assert_eq!(found(&servers).await, 1);
}

// f: still in progress.

#[tokio::test]
async fn a_slow_commit_is_ended_and_then_did_not_happen() {
    let (servers, pool) = start_with(lazy()).await;
    let client = servers.connect(0).await.unwrap();
    client
        .batch_execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
             CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await
        .unwrap();
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::NotCommitted));
}

// g: nothing was written.

#[tokio::test]
async fn a_reader_is_repeated_without_a_question() {
    let (servers, pool) = start_proxied().await;
    let proxy = servers.proxy(0).unwrap();
    proxy.cut_at(Trigger::new("COMMIT", Moment::AfterForward));
    let n: i64 = pool
        .tx()
        .on_resolved(|_| panic!("there is nothing to resolve"))
        .run(|tx| async move { Ok(tx.query_one("SELECT count(*) FROM t", &[]).await?.get(0)) })
        .await
        .unwrap();
    assert_eq!(n, 0);
    let client = servers.connect(0).await.unwrap();
    let sql = "SELECT pg_current_xact_id()::text";
    let id = |row: tokio_postgres::Row| row.get::<_, &str>(0).parse::<u64>().unwrap();
    let before = id(client.query_one(sql, &[]).await.unwrap());
    for _ in 0..5 {
        pool.run_tx(|tx| async move {
            tx.query("SELECT n FROM t", &[]).await?;
            Ok(())
        })
        .await
        .unwrap();
    }
    let after = id(client.query_one(sql, &[]).await.unwrap());
    assert_eq!(after, before + 1, "a reader was made to write");
}

// h: savepoints.

#[tokio::test]
async fn savepoints_change_nothing() {
    let sql = "SAVEPOINT a; INSERT INTO t (n) VALUES (1); ROLLBACK TO a; \
               SAVEPOINT b; INSERT INTO t (n) VALUES (77); RELEASE b";
    let only_rolled_back = "SAVEPOINT a; INSERT INTO t (n) VALUES (77)";
    for (sql, moment, expected) in [
        (sql, Moment::SilentAfter, Outcome::Committed),
        (sql, Moment::SilentBefore, Outcome::NotCommitted),
        (only_rolled_back, Moment::SilentAfter, Outcome::Committed),
    ] {
        let (servers, pool) = start_with(lazy()).await;
        let evidence = unanswered(&servers, &pool, sql, moment).await;
        if moment == Moment::SilentAfter {
            servers.wait_replayed().await.unwrap();
            fail_over(&servers, &pool, 1).await;
        }
        let outcome = resolved(&servers, &pool, &evidence).await;
        assert_eq!(outcome, Ok(expected), "{sql}");
    }
}

// i: prepared transactions.

#[tokio::test]
async fn a_closure_that_prepares_its_transaction_is_found_out() {
    let (servers, pool) = start_with(lazy()).await;
    let error = pool
        .run_tx(|tx| async move {
            tx.batch_execute(INSERT).await?;
            tx.batch_execute("PREPARE TRANSACTION 'p'").await?;
            Ok(())
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::EndedByClosure), "{error}");
    let client = servers.connect(0).await.unwrap();
    client.batch_execute("ROLLBACK PREPARED 'p'").await.unwrap();
}

#[tokio::test]
async fn a_prepared_transaction_is_open_until_its_second_phase() {
    let (servers, pool) = start_with(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentBefore).await;
    // Another one, prepared, in the same life of the server.
    let client = servers.connect(0).await.unwrap();
    let sql = "BEGIN; INSERT INTO t (n) VALUES (77)";
    client.batch_execute(sql).await.unwrap();
    let sql = "SELECT pg_current_xact_id()::text, \
                      (pg_logical_emit_message(true, 'x', '') - '0/0')::text";
    let row = client.query_one(sql, &[]).await.unwrap();
    let (id, marker): (String, String) = (row.get(0), row.get(1));
    client
        .batch_execute("PREPARE TRANSACTION 'p'")
        .await
        .unwrap();
    let prepared = rewritten(&evidence, |fields| {
        fields[6].clone_from(&id);
        fields[7].clone_from(&marker);
    });
    let timeout = Duration::from_secs(1);
    let doubt = Err(Doubt::StillRunning);
    assert_eq!(resolved_within(&pool, &prepared, timeout).await, doubt);
    servers.wait_replayed().await.unwrap();
    fail_over(&servers, &pool, 1).await;
    assert_eq!(resolved_within(&pool, &prepared, timeout).await, doubt);
    let client = servers.connect(servers.primary()).await.unwrap();
    client.batch_execute("COMMIT PREPARED 'p'").await.unwrap();
    let outcome = resolved(&servers, &pool, &prepared).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
}

// Evidence that is not what it says.

#[tokio::test]
async fn evidence_that_can_not_be_true_is_refused() {
    let (servers, pool) = start_with(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    let other_cluster = rewritten(&evidence, |fields| fields[1] = "7".into());
    let future = rewritten(&evidence, |fields| fields[6] = "99999999".into());
    let beyond = rewritten(&evidence, |fields| fields[7] = "99999999999".into());
    for (forged, doubt) in [
        (other_cluster, Doubt::OtherCluster),
        (future, Doubt::Contradiction),
        (beyond, Doubt::Contradiction),
    ] {
        let found = resolved(&servers, &pool, &forged).await;
        assert_eq!(found, Err(doubt));
        let error = pool.resolve(&forged, RESOLVE).await.unwrap_err();
        assert!(error.to_string().contains(&doubt.to_string()), "{error}");
    }
    let outcome = resolved(&servers, &pool, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
}

#[tokio::test]
async fn an_ordinary_user_has_evidence_too() {
    let (servers, _) = start_with(lazy()).await;
    let pool = ordinary(&servers, |config| config).await;
    for (moment, expected) in [
        (Moment::SilentBefore, Outcome::NotCommitted),
        (Moment::SilentAfter, Outcome::Committed),
    ] {
        let evidence = unanswered(&servers, &pool, INSERT, moment).await;
        let outcome = resolved(&servers, &pool, &evidence).await;
        assert_eq!(outcome, Ok(expected));
    }
}
