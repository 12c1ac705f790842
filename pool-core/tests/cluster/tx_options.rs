//! The options of `run_tx`.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use leadpool::{Error, Pool, TxBuilder};
use leadpool_testkit::{Moment, Trigger};

use crate::support::*;

/// Raises an error, and counts how often.
async fn raise(tx: TxBuilder<'_>, sqlstate: &str, sleep: &str) -> (Error, u32) {
    let attempts = AtomicU32::new(0);
    let sql = format!("DO $$ BEGIN PERFORM pg_sleep({sleep}); RAISE SQLSTATE '{sqlstate}'; END $$");
    let (sql, counted) = (&sql, &attempts);
    let error = tx
        .run(|tx| async move {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(tx.batch_execute(sql).await?)
        })
        .await
        .unwrap_err();
    (error, attempts.load(Ordering::Relaxed))
}

#[tokio::test]
async fn observers_are_told_of_each_attempt_by_name() {
    let (servers, pool) = start().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let (begun, retried) = (told.clone(), told.clone());
    let tx = pool
        .tx()
        .name("refused")
        .retries(1)
        .on_attempt(move |attempt| {
            let host = attempt.host.to_string();
            let line = format!("{:?} {} {host}", attempt.name, attempt.attempt);
            begun.lock().unwrap().push(line);
        })
        .on_retry(move |retry| {
            let line = format!("{:?} {} failed", retry.name, retry.attempt);
            retried.lock().unwrap().push(line);
        });
    let (error, attempts) = raise(tx, "40001", "0").await;
    assert!(matches!(error, Error::RetriesExhausted { .. }), "{error}");
    assert_eq!(attempts, 2);
    let host = servers.addr(0).unwrap();
    let expected = [
        format!("Some(\"refused\") 1 {host}"),
        "Some(\"refused\") 1 failed".into(),
        format!("Some(\"refused\") 2 {host}"),
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test]
async fn the_retries_end_with_the_pauses() {
    let (_servers, pool) = start().await;
    let pauses = Arc::new(Mutex::new(Vec::new()));
    let seen = pauses.clone();
    let own = [1, 2, 3].map(Duration::from_millis);
    let tx = pool
        .tx()
        .retries(10)
        .backoff(move || own)
        .on_retry(move |retry| seen.lock().unwrap().push(retry.pause));
    let (error, attempts) = raise(tx, "40001", "0").await;
    assert!(
        matches!(error, Error::RetriesExhausted { budget: false, .. }),
        "{error}"
    );
    assert_eq!(attempts, 4);
    assert_eq!(*pauses.lock().unwrap(), own);
}

#[tokio::test]
async fn no_retry_begins_that_can_not_end_in_time() {
    let (_servers, pool) = start().await;
    // What took 5 seconds will take 5 seconds: not in the 4 that are left, nor in a pause's time.
    for (sleep, pauses) in [("5", [Duration::ZERO]), ("0", [Duration::from_secs(20)])] {
        let tx = pool
            .tx()
            .deadline(Duration::from_secs(9))
            .backoff(move || pauses);
        let (error, attempts) = raise(tx, "40001", sleep).await;
        assert_eq!(attempts, 1);
        let Error::TxDeadline { source, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(source.unwrap().sqlstate(), Some("40001"));
    }
}

#[tokio::test]
async fn what_a_standby_would_refuse_is_not_repeated_on_a_healthy_writer() {
    let (_servers, pool) = start().await;
    for code in ["25006", "0A000", "55000"] {
        let tx = pool.tx().on_retry(|_| panic!("told of a retry"));
        let (error, attempts) = raise(tx, code, "0").await;
        assert!(matches!(error, Error::Postgres(_)), "{error:?}");
        assert_eq!((error.sqlstate(), attempts), (Some(code), 1));
    }
}

#[tokio::test]
async fn what_a_demoted_host_refuses_is_repeated_on_the_next_writer() {
    let (servers, pool) = start().await;
    // An operator closes the host for writes, without ending a connection.
    let client = servers.connect(0).await.unwrap();
    let set = |value| format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
    client.batch_execute(&set("on")).await.unwrap();
    let reload = "SELECT pg_reload_conf()";
    let writer = pool.get().await.unwrap();
    client.batch_execute(reload).await.unwrap();
    soon("the setting on a connection that is open", async {
        let sql = "SHOW default_transaction_read_only";
        while writer.query_one(sql, &[]).await.unwrap().get::<_, &str>(0) != "on" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    drop(writer);
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = told.clone();
    let (refused, mut refusals) = tokio::sync::mpsc::unbounded_channel();
    let inserting = pool
        .tx()
        .on_retry(move |retry| {
            let code = retry.error.sqlstate().map(str::to_owned);
            noted.lock().unwrap().push(code);
            refused.send(()).unwrap();
        })
        .run(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            Ok(())
        });
    let reopening = async {
        refusals.recv().await.unwrap();
        client
            .batch_execute("SET default_transaction_read_only = off")
            .await
            .unwrap();
        client.batch_execute(&set("off")).await.unwrap();
        client.batch_execute(reload).await.unwrap();
    };
    let both = async { tokio::join!(inserting, reopening).0 };
    soon("the next writer", both).await.unwrap();
    assert_eq!(*told.lock().unwrap(), [Some("25006".to_owned())]);
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn what_only_reads_is_repeated_also_after_its_commit() {
    let (servers, pool) = start_proxied().await;
    for moment in [Moment::BeforeForward, Moment::BeforeAnswer] {
        for evidence in [true, false] {
            for host in 0..3 {
                let proxy = servers.proxy(host).unwrap();
                proxy.cut_at(Trigger::new("COMMIT", moment));
            }
            for tx in [pool.tx().reader(), pool.tx().read_only(true)] {
                let count = tx
                    .evidence(evidence)
                    .on_resolved(|_| panic!("there is nothing to resolve"))
                    .run(|tx| async move {
                        let row = tx.query_one("SELECT count(*) FROM t", &[]).await?;
                        Ok(row.get::<_, i64>(0))
                    });
                assert_eq!(soon("a count", count).await.unwrap(), 0, "{moment:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_reader_does_not_write() {
    let (servers, pool) = start().await;
    let insert = |pool: Pool| async move {
        pool.tx()
            .reader()
            .run(|tx| async move {
                tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
                Ok(())
            })
            .await
            .unwrap_err()
    };
    let error = insert(pool.clone()).await;
    assert_eq!(error.sqlstate(), Some("25006"), "{error:?}");
    // Nor if the writer has to serve it.
    for standby in [1, 2] {
        servers.stop_immediate(standby).await.unwrap();
    }
    let error = insert(pool).await;
    assert_eq!(error.sqlstate(), Some("25006"), "{error:?}");
    assert_eq!(rows(&servers).await, 0);
}
