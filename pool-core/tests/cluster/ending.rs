//! Closing and draining: always within the time, and nothing lost that was acknowledged.

use std::time::Duration;

use leadpool::{Error, Pool};
use leadpool_testkit::Cluster as Servers;
use tokio::sync::oneshot;

use crate::support::*;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn close_is_bounded_in_a_black_hole_whatever_hangs_there() {
    let servers = Servers::builder()
        .standbys(0)
        .proxies(true)
        .start()
        .await
        .unwrap();
    prepare(&servers).await;
    // Nothing but the time allowed to `close` ends anything here.
    let pool = connect_with(&servers.proxied_url(), |config| {
        config
            .silence_limit(HOUR)
            .connect_timeout(HOUR)
            .checkout_timeout(HOUR)
    })
    .await
    .unwrap();
    let client = pool.get().await.unwrap();
    servers.proxy(0).unwrap().black_hole();
    let running = pool.tx().deadline(HOUR).run(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    });
    let (query, opened, written, ()) = tokio::join!(
        soon("the query", client.simple_query("SELECT 1")),
        soon("the checkout", pool.get()),
        soon("the transaction", running),
        async {
            tokio::task::yield_now().await;
            soon("close", pool.close(Duration::from_millis(200))).await;
        }
    );
    assert!(query.is_err());
    assert!(matches!(opened, Err(Error::Closed)), "{opened:?}");
    assert!(written.is_err());
}

#[tokio::test]
async fn close_ends_with_the_last_connection() {
    let (_servers, pool) = start().await;
    let client = pool.get().await.unwrap();
    let reader = pool.reader().await.unwrap();
    let ((), ()) = tokio::join!(soon("close", pool.close(HOUR)), async {
        client.simple_query("SELECT 1").await.unwrap();
        drop(client);
        reader.simple_query("SELECT 1").await.unwrap();
        drop(reader);
    });
}

/// A transaction that has begun, and ends when told to.
async fn begun(
    pool: &Pool,
) -> (
    oneshot::Sender<()>,
    tokio::task::JoinHandle<Result<(), Error>>,
) {
    let (end, ended) = oneshot::channel();
    let (begun, has_begun) = oneshot::channel();
    let signals = std::sync::Arc::new(tokio::sync::Mutex::new(Some((begun, ended))));
    let pool = pool.clone();
    let task = tokio::task::spawn(async move {
        pool.run_tx(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            if let Some((begun, ended)) = signals.lock().await.take() {
                begun.send(()).unwrap();
                ended.await.unwrap();
                // Lost in the first attempt: the second is part of the same transaction.
                tx.simple_query("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
                    .await?;
            }
            Ok(())
        })
        .await
    });
    soon("its begin", has_begun).await.unwrap();
    (end, task)
}

#[tokio::test]
async fn a_transaction_that_runs_is_brought_to_its_end() {
    let (servers, pool) = start().await;
    let (end, task) = begun(&pool).await;
    let (drained, ()) = tokio::join!(soon("the end", pool.drain(HOUR)), async {
        while !pool.status().closed {
            tokio::task::yield_now().await;
        }
        assert!(matches!(pool.get().await, Err(Error::Closed)));
        let late = pool.run_tx(|tx| async move { Ok(tx.execute("SELECT 1", &[]).await?) });
        assert!(matches!(late.await, Err(Error::Closed)));
        end.send(()).unwrap();
    });
    task.await.unwrap().unwrap();
    assert_eq!(drained.aborted, 0);
    assert_eq!(rows(&servers).await, 1);
    assert!(pool.is_closed());
}

#[tokio::test]
async fn what_does_not_end_in_time_is_aborted_also_on_a_frozen_host() {
    let (servers, pool) = start().await;
    let (_end, task) = begun(&pool).await;
    let idle = pool.get().await.unwrap();
    servers.freeze(0).await.unwrap();
    let drained = soon("the end", pool.drain(Duration::from_millis(200))).await;
    assert_eq!(drained.aborted, 2);
    let query = idle.simple_query("SELECT 1");
    assert!(soon("the query", query).await.is_err());
    assert!(soon("the transaction", task).await.unwrap().is_err());
    servers.thaw(0).await.unwrap();
    assert_eq!(rows(&servers).await, 0);
}
