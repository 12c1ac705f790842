//! The pool for asynchronous code.

use std::time::Duration;

use diesel::{PgConnection, RunQueryDsl as _};
use leadpool_diesel::{
    blocking::{Error, InteractError, InteractPool},
    leadpool::{self, outcome::Outcome},
};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};

use crate::support::*;

async fn start() -> (Servers, InteractPool) {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let pool = InteractPool::connect(&servers.url()).await.unwrap();
    (servers, pool)
}

fn sleep(conn: &mut PgConnection) -> diesel::QueryResult<usize> {
    diesel::sql_query("SELECT pg_sleep(3600)").execute(conn)
}

#[tokio::test]
async fn handlers_of_deadpool_diesel_go_on_to_work() {
    let (servers, pool) = start().await;
    let conn = pool.get().await.unwrap();
    conn.interact(insert).await.unwrap().unwrap();
    conn.interact(insert).await.unwrap().unwrap();
    assert_eq!(rows(&servers).await, 2);
    let panicked = conn.interact(|_| -> () { panic!("as closures do") }).await;
    assert!(matches!(panicked, Err(InteractError::Panic(_))));
    drop(conn);
    let conn = pool.get().await.unwrap();
    conn.interact(insert).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_closure_comes_out_where_the_transaction_is_awaited() {
    let (servers, pool) = start().await;
    for round in 0..200 {
        let there = pool.clone();
        let running = tokio::spawn(async move {
            let tx = there.run_tx(|conn| -> diesel::QueryResult<()> {
                insert(conn)?;
                panic!("as closures do")
            });
            tx.await
        });
        let ended = soon("the transaction", running).await;
        let panic = ended.expect_err(&format!("round {round}")).into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"as closures do"));
    }
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn a_statement_in_flight_on_a_frozen_primary_ends() {
    let (servers, pool) = start().await;
    let conn = pool.get().await.unwrap();
    let hanging = tokio::spawn(async move { conn.interact(sleep).await.unwrap() });
    runs(&servers, 0, "pg_sleep(3600)").await;
    servers.freeze(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    let error = soon("the statement", hanging).await.unwrap().unwrap_err();
    assert!(Error::from(error).is_transient());
    let conn = soon("a connection", pool.get()).await.unwrap();
    let found = conn.interact(port).await.unwrap();
    assert_eq!(found, port_of(&servers, promoted));
}

#[tokio::test]
async fn a_transaction_that_lost_its_primary_runs_again_on_the_new_one() {
    let (servers, pool) = start().await;
    let mut runs_so_far = 0;
    let there = pool.clone();
    let running = tokio::spawn(async move {
        there
            .run_tx(move |conn| {
                runs_so_far += 1;
                insert(conn)?;
                if runs_so_far == 1 {
                    sleep(conn)?;
                }
                Ok(port(conn))
            })
            .await
            .unwrap()
    });
    runs(&servers, 0, "pg_sleep(3600)").await;
    servers.freeze(0).await.unwrap();
    let promoted = servers.failover().await.unwrap();
    let found = soon("the transaction", running).await.unwrap();
    assert_eq!(found, port_of(&servers, promoted));
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn a_lost_commit_is_found_out() {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let pool = InteractPool::connect(&servers.proxied_url()).await.unwrap();
    let proxy = servers.proxy(0).unwrap();
    proxy.cut_at(Trigger::new("COMMIT", Moment::AfterForward));
    let (told, outcomes) = std::sync::mpsc::channel();
    let tx = pool
        .tx()
        .on_resolved(move |resolved| told.send(resolved.outcome).unwrap());
    soon("the transaction", tx.run(insert)).await.unwrap();
    assert_eq!(outcomes.try_recv().unwrap().unwrap(), Outcome::Committed);
    assert_eq!(rows(&servers).await, 1);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_commits_nothing_and_its_connection_is_not_used_again() {
    let (servers, pool) = start().await;
    let there = pool.clone();
    let running = tokio::spawn(async move {
        let tx = there.run_tx(|conn| {
            insert(conn)?;
            sleep(conn)
        });
        tx.await.map(drop)
    });
    runs(&servers, 0, "pg_sleep(3600)").await;
    running.abort();
    let open = async || {
        pool.status()
            .sub_pools
            .iter()
            .map(|pool| pool.counts.size)
            .sum::<usize>()
    };
    until("its end", async || open().await == 0).await;
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn what_hangs_is_ended_at_close() {
    let (servers, pool) = start().await;
    let conn = pool.get().await.unwrap();
    let hanging = tokio::spawn(async move { conn.interact(sleep).await.unwrap() });
    runs(&servers, 0, "pg_sleep(3600)").await;
    soon("the close", pool.close_within(Duration::from_millis(50))).await;
    soon("the statement", hanging).await.unwrap().unwrap_err();
    let error = pool.get().await.unwrap_err();
    assert!(
        matches!(error, Error::Pool(leadpool::Error::Closed)),
        "{error:?}"
    );
}

/// It is answered by another thread than the transaction's.
#[cfg(feature = "web")]
#[tokio::test(flavor = "multi_thread")]
async fn every_request_that_succeeds_is_committed() {
    use leadpool_diesel::leadpool::web::{Ended, TimeLeft, Transaction};

    const REQUESTS: i64 = 1_000;
    let (servers, pool) = start().await;
    for request in 0..REQUESTS {
        let transaction = Transaction::new();
        let (theirs, there) = (transaction.clone(), pool.clone());
        let handler = async move {
            let tx = theirs.begin(&there, TimeLeft::default()).await.unwrap();
            tx.interact(insert).await.unwrap()
        };
        let ended = soon("the request", transaction.around(handler, Result::is_ok)).await;
        let is_committed = matches!(ended, Ended::Committed(Ok(1)));
        assert!(is_committed, "request {request}: {ended:?}");
    }
    assert_eq!(rows(&servers).await, REQUESTS);
}
