//! What becomes of the transaction of a request.

use leadpool::{
    Pool,
    web::{Ended, TimeLeft, Transaction},
};

use super::*;
use crate::{
    drivers::{apps, bare, diesel_blocking, native, native_of, odd},
    support::*,
};

#[crate::support::test]
async fn the_answer_decides() {
    let servers = start().await;
    let mut expected = 0;
    for (driver, app) in apps(&servers.url()).await {
        for (end, status, commits) in [
            ("ok", 200, true),
            ("see-other", 303, true),
            ("refuse", 409, false),
            ("missing", 404, false),
            ("unavailable", 503, false),
            ("fail", 500, false),
            // A statement had failed: a success would be a lie.
            ("swallow", 500, false),
            ("ok", 200, true),
        ] {
            let answer = post(&app, &format!("/tx/{end}")).await;
            assert_eq!(answer.status, status, "{driver}, {end}: {answer:?}");
            // Committed before the answer has left.
            expected += i64::from(commits);
            assert_eq!(rows(&servers).await, expected, "{driver}, {end}");
            if status == 500 {
                answer.assert_problem(500, "internal", &servers);
            }
        }
    }
    until("the end of all transactions", async || {
        open(&servers).await == 0
    })
    .await;
}

#[crate::support::test]
async fn a_panic_rolls_back() {
    let servers = start().await;
    for (driver, app) in apps(&servers.url()).await {
        let there = app.clone();
        let panicking = spawn(async move { post(&there, "/tx/panic").await });
        assert!(panicking.await.unwrap_err().is_panic(), "{driver}");
        until("the end of the transaction", async || {
            open(&servers).await == 0
        })
        .await;
        assert_eq!(rows(&servers).await, 0, "{driver}");
        // Nobody inherits it.
        assert_eq!(post(&app, "/tx/refuse").await.status, 409, "{driver}");
        assert_eq!(rows(&servers).await, 0, "{driver}");
    }
}

#[crate::support::test]
async fn a_panic_in_a_thread_commits_nothing_whatever_is_answered() {
    let servers = start().await;
    let app = diesel_blocking(&servers.url()).await;
    let answer = post(&app, "/tx/panic%20in%20the%20closure").await;
    answer.assert_problem(500, "internal", &servers);
    assert_eq!(rows(&servers).await, 0);
    assert_eq!(post(&app, "/tx/ok").await.status, 200);
}

#[crate::support::test]
async fn a_request_that_is_dropped_rolls_back() {
    let servers = start().await;
    for (driver, app) in apps(&servers.url()).await {
        let there = app.clone();
        let hanging = spawn(async move { post(&there, "/tx/hang").await });
        until("the transaction", async || open(&servers).await == 1).await;
        hanging.abort();
        assert!(hanging.await.unwrap_err().is_cancelled());
        until("its end", async || open(&servers).await == 0).await;
        assert_eq!(rows(&servers).await, 0, "{driver}");
        assert_eq!(post(&app, "/tx/refuse").await.status, 409, "{driver}");
    }
}

#[crate::support::test]
async fn a_request_without_a_transaction_is_left_alone() {
    let servers = start().await;
    let app = native(&servers.url()).await;
    assert_eq!(post(&app, "/writer").await.status, 200);
    assert_eq!(get(&app, "/none").await.status, 404);
}

#[crate::support::test]
async fn without_the_layer_the_first_request_says_so() {
    let servers = start().await;
    let answer = post(&bare(&servers.url()).await, "/tx/ok").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["code"], "misassembled");
    let detail = answer.json()["detail"].to_string();
    assert!(detail.contains("::Transactions::new()"), "{detail}");
    assert_eq!(rows(&servers).await, 0);
}

#[crate::support::test]
async fn a_request_has_one_transaction() {
    let servers = start().await;
    let answer = post(&odd(&servers.url()).await, "/second").await;
    assert_eq!(answer.json()["code"], "misassembled", "{answer:?}");
    assert_eq!(rows(&servers).await, 0);
}

#[crate::support::test]
async fn a_handle_that_lives_on_is_an_error() {
    let servers = start().await;
    let app = odd(&servers.url()).await;
    for path in ["/kept", "/kept-in-thread"] {
        let answer = soon("the answer", post(&app, path)).await;
        answer.assert_problem(500, "internal", &servers);
    }
    assert_eq!(rows(&servers).await, 0);
}

#[crate::support::test]
async fn it_takes_no_more_round_trips_than_run_tx() {
    let servers = start_proxied().await;
    let pool = Pool::connect(&servers.proxied_url()).await.unwrap();
    let app = native_of(pool.clone()).await;
    let proxy = servers.proxy(servers.primary()).unwrap();
    let (mut of_tx, mut of_run_tx) = (u64::MAX, u64::MAX);
    // A probe may fall into some of them.
    for _ in 0..10 {
        let before = proxy.turns();
        assert_eq!(post(&app, "/tx/ok").await.status, 200);
        of_tx = of_tx.min(proxy.turns() - before);
        let before = proxy.turns();
        let run = pool.run_tx(|tx| async move {
            let insert = "INSERT INTO t (n) VALUES (77)";
            Ok(tx.execute(insert, &[]).await?)
        });
        run.await.unwrap();
        of_run_tx = of_run_tx.min(proxy.turns() - before);
    }
    assert_eq!(of_tx, of_run_tx);
}

#[crate::support::test]
async fn one_that_only_reads_takes_no_more_round_trips_either() {
    let servers = start_proxied().await;
    let pool = Pool::connect(&servers.proxied_url()).await.unwrap();
    let proxy = servers.proxy(servers.primary()).unwrap();
    let (mut held, mut run) = (u64::MAX, u64::MAX);
    for _ in 0..10 {
        let before = proxy.turns();
        let transaction = Transaction::new();
        let begun = transaction.clone();
        let handler = async {
            let tx = begun.begin(&pool, TimeLeft::default()).await?;
            Ok::<_, leadpool::Error>(tx.simple_query("SELECT 1").await?)
        };
        let ended = transaction.around(handler, Result::is_ok).await;
        assert!(matches!(ended, Ended::Committed(Ok(_))), "{ended:?}");
        held = held.min(proxy.turns() - before);
        let before = proxy.turns();
        let reads = pool.run_tx(|tx| async move { Ok(tx.simple_query("SELECT 1").await?) });
        reads.await.unwrap();
        run = run.min(proxy.turns() - before);
    }
    assert_eq!(held, run);
}
