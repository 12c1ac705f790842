//! Statement timeouts: of the pool, of a transaction, of one checkout.

use std::time::Duration;

use deadpool_postgres::Client;
use leadpool::{CheckoutOptions, Error, Pool};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

async fn shown(client: &Client) -> String {
    let row = client.query_one("SHOW statement_timeout", &[]).await;
    row.unwrap().get(0)
}

async fn backend(client: &Client) -> i32 {
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await;
    row.unwrap().get(0)
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_told_from_one_that_was_cancelled() {
    let (servers, _) = start().await;
    let limited = |config: leadpool::config::ConfigBuilder| config.statement_timeout(Some(MS(200)));
    let pool = connect_with(&servers.url(), limited).await.unwrap();
    let client = pool.get().await.unwrap();
    assert_eq!(shown(&client).await, "200ms");
    let slow = client.simple_query("SELECT pg_sleep(60)");
    let error = Error::from(soon("the timeout", slow).await.unwrap_err());
    assert_eq!(error.sqlstate(), Some("57014"));
    assert!(error.is_statement_timeout() && !error.is_transient());

    // Zero is no limit, also where there would be one.
    let options = CheckoutOptions::new().statement_timeout(Duration::ZERO);
    let client = pool.get_with(options).await.unwrap();
    let pid = backend(&client).await;
    let other = servers.connect(0).await.unwrap();
    let cancel = async {
        let busy =
            "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
        while other
            .query_one(busy, &[&pid])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
        {
            tokio::time::sleep(MS(5)).await;
        }
        other
            .query("SELECT pg_cancel_backend($1)", &[&pid])
            .await
            .unwrap();
    };
    let slow = soon("the end", client.simple_query("SELECT pg_sleep(60)"));
    let (cancelled, ()) = tokio::join!(slow, cancel);
    let error = Error::from(cancelled.unwrap_err());
    assert_eq!(error.sqlstate(), Some("57014"));
    assert!(!error.is_statement_timeout());
}

#[tokio::test]
async fn of_one_transaction_it_travels_with_begin_and_is_not_repeated() {
    let (servers, pool) = start_proxied().await;
    let limited = || {
        let tx = pool.tx().statement_timeout(MS(2_500));
        tx.run(|tx| async move {
            let show = tx.prepare_cached("SHOW statement_timeout").await?;
            Ok(tx.query_one(&show, &[]).await?.get::<_, String>(0))
        })
    };
    limited().await.unwrap(); // opens and prepares
    let proxy = servers.proxy(0).unwrap();
    let mut least = u64::MAX;
    for _ in 0..5 {
        let turns = proxy.turns();
        assert_eq!(limited().await.unwrap(), "2500ms");
        least = least.min(proxy.turns() - turns);
    }
    assert_eq!(least, 2, "round trips");
    assert_eq!(shown(&pool.get().await.unwrap()).await, "0");

    let slow = pool
        .tx()
        .isolation(leadpool::IsolationLevel::Serializable)
        .statement_timeout(MS(100))
        .on_retry(|retry| panic!("repeated after {}", retry.error))
        .run(|tx| async move { Ok(tx.batch_execute("SELECT pg_sleep(60)").await?) });
    let error = soon("the timeout", slow).await.unwrap_err();
    assert!(error.is_statement_timeout(), "{error}");
}

#[tokio::test]
async fn of_one_checkout_it_costs_no_round_trip_and_nobody_inherits_it() {
    let servers = Servers::builder().standbys(0).proxies(true).start();
    let servers = servers.await.unwrap();
    let pool = connect_with(&servers.proxied_url(), |config| {
        config.statement_timeout(Some(MS(60_000))).writer_size(1)
    })
    .await
    .unwrap();
    let pid = backend(&pool.get().await.unwrap()).await;
    let proxy = servers.proxy(0).unwrap();
    let mut least = u64::MAX;
    for _ in 0..5 {
        let turns = proxy.turns();
        let options = CheckoutOptions::new().statement_timeout(MS(700));
        let client = pool.get_with(options).await.unwrap();
        client.simple_query("SELECT 1").await.unwrap();
        least = least.min(proxy.turns() - turns);
        assert_eq!(shown(&client).await, "700ms");
        drop(client);
        // To whomever it goes next, and however.
        let client = pool.get().await.unwrap();
        assert_eq!(shown(&client).await, "1min");
        drop(client);
        let shown = pool.run_tx(|tx| async move { Ok(shown(&tx).await) });
        assert_eq!(shown.await.unwrap(), "1min");
    }
    assert_eq!(least, 1, "round trips, the statement's own");
    let client = pool.get().await.unwrap();
    assert_eq!(backend(&client).await, pid, "over one connection");
    // One that was not used at all in between.
    drop(client);
    for limit in [MS(700), MS(800)] {
        let options = CheckoutOptions::new().statement_timeout(limit);
        drop(pool.get_with(options).await.unwrap());
    }
    let client = pool.get().await.unwrap();
    assert_eq!(
        (shown(&client).await.as_str(), backend(&client).await),
        ("1min", pid)
    );
}

#[tokio::test]
async fn a_connection_that_did_not_take_it_is_not_used_again() {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    let pool = connect_with(&servers.url(), |config| config.writer_size(1))
        .await
        .unwrap();
    let spoilt = pool.get().await.unwrap();
    let pid = backend(&spoilt).await;
    // It goes back in a transaction that has failed, where nothing can be set.
    assert!(spoilt.batch_execute("BEGIN; SELECT 1/0").await.is_err());
    drop(spoilt);
    let options = CheckoutOptions::new().statement_timeout(MS(700));
    let client = pool.get_with(options).await.unwrap();
    let error = client.simple_query("SELECT 1").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25P02", "its user is told");
    client.batch_execute("ROLLBACK").await.unwrap();
    drop(client);
    let client = pool.get().await.unwrap();
    assert_ne!(backend(&client).await, pid);
    assert_eq!(shown(&client).await, "0");
}

/// Ended in its wait for a standby, a COMMIT has happened, and may be lost.
#[tokio::test]
async fn a_commit_that_waits_for_a_standby_is_not_cut_off_by_it() {
    let servers = Servers::builder().standbys(1).synchronous(true).start();
    let servers = servers.await.unwrap();
    prepare(&servers).await;
    let wide = |config: leadpool::config::ConfigBuilder| config.statement_timeout(Some(MS(200)));
    for (pool, own) in [
        (Pool::connect(&servers.url()).await.unwrap(), Some(MS(200))),
        (connect_with(&servers.url(), wide).await.unwrap(), None),
    ] {
        pool.get()
            .await
            .unwrap()
            .simple_query("SELECT 1")
            .await
            .unwrap();
        servers.freeze(1).await.unwrap();
        let mut tx = pool.tx();
        if let Some(own) = own {
            tx = tx.statement_timeout(own);
        }
        let writing = tx.run(|tx| async move {
            tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
            Ok(())
        });
        let thaw = async {
            // Past the pool, which has nothing to do with it.
            let client = servers.connect(0).await.unwrap();
            let waits = "SELECT count(*) FROM pg_stat_activity \
                         WHERE wait_event = 'SyncRep' AND now() - state_change > '1 s'";
            soon("the wait", async {
                while client.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                    tokio::time::sleep(MS(5)).await;
                }
            })
            .await;
            servers.thaw(1).await.unwrap();
        };
        let both = async { tokio::join!(writing, thaw) };
        let (written, ()) = soon("the commit", both).await;
        written.unwrap();
    }
    assert_eq!(rows(&servers).await, 2);
}
