//! What a failover makes of requests.

use leadpool::Pool;
use leadpool_testkit::{Moment, Trigger};

use super::*;
use crate::{
    drivers::{diesel_async, diesel_blocking, native, native_of, sqlx},
    support::*,
};

#[crate::support::test]
async fn a_request_waits_for_the_next_writer() {
    for driver in 0..4 {
        let servers = start().await;
        let app = app(driver, &servers.url()).await;
        servers.kill(0).await.unwrap();
        let (answer, promoted) =
            tokio::join!(soon("the answer", post(&app, "/tx/ok")), servers.failover());
        promoted.unwrap();
        assert_eq!(answer.status, 200, "{driver}: {answer:?}");
        assert_eq!(rows(&servers).await, 1, "{driver}");
        let wrote = soon("a writer", post(&app, "/writer")).await;
        assert_eq!(wrote.body, port_of(&servers, servers.primary()), "{driver}");
    }
}

#[crate::support::test]
async fn a_transaction_whose_host_is_lost_can_be_tried_again() {
    for driver in 0..4 {
        let servers = start().await;
        let app = app(driver, &servers.url()).await;
        let there = app.clone();
        let running = spawn(async move { post(&there, "/tx/sleep").await });
        until("the transaction", async || open(&servers).await == 1).await;
        // Nobody is told that it is gone.
        servers.freeze(0).await.unwrap();
        servers.failover().await.unwrap();
        let answer = soon("the answer", running).await.unwrap();
        answer.assert_problem(503, "try_again", &servers);
        assert_eq!(rows(&servers).await, 0, "{driver}");
        let again = soon("the repetition", post(&app, "/tx/ok")).await;
        assert_eq!(again.status, 200, "{driver}: {again:?}");
        assert_eq!(rows(&servers).await, 1, "{driver}");
    }
}

#[crate::support::test]
async fn a_connection_that_ends_in_a_transaction_leaves_no_doubt() {
    for driver in 0..4 {
        let servers = start().await;
        let app = app(driver, &servers.url()).await;
        let there = app.clone();
        let running = spawn(async move { post(&there, "/tx/sleep").await });
        until("the transaction", async || open(&servers).await == 1).await;
        // The handler sees it first, and could not know.
        servers.kill(0).await.unwrap();
        let answer = soon("the answer", running).await.unwrap();
        answer.assert_problem(503, "try_again", &servers);
    }
}

#[crate::support::test]
async fn a_commit_that_nobody_answered_is_found_out() {
    for driver in 0..4 {
        for (moment, happened) in [
            (Moment::BeforeForward, false),
            (Moment::Stranded, false),
            (Moment::AfterForward, true),
            (Moment::BeforeAnswer, true),
        ] {
            let servers = start_proxied().await;
            let app = app(driver, &servers.proxied_url()).await;
            let proxy = servers.proxy(0).unwrap();
            proxy.cut_at(Trigger::new("COMMIT", moment));
            let answer = soon("the answer", post(&app, "/tx/ok")).await;
            match happened {
                true => assert_eq!(answer.status, 200, "{driver}, {moment:?}: {answer:?}"),
                false => answer.assert_problem(503, "try_again", &servers),
            }
            let rows = rows(&servers).await;
            assert_eq!(rows, i64::from(happened), "{driver}, {moment:?}");
        }
    }
}

#[crate::support::test]
async fn what_can_not_be_proved_is_no_success_and_not_to_be_repeated() {
    let servers = start_proxied().await;
    let pool = Pool::builder(&servers.proxied_url()).configure(|config| config.evidence(false));
    let app = native_of(pool.build().await.unwrap()).await;
    let proxy = servers.proxy(0).unwrap();
    proxy.cut_at(Trigger::new("COMMIT", Moment::AfterForward));
    let answer = soon("the answer", post(&app, "/tx/ok")).await;
    answer.assert_problem(500, "outcome_unknown", &servers);
}

#[crate::support::test]
async fn outside_of_a_transaction_what_was_interrupted_may_have_happened() {
    let servers = start_proxied().await;
    let proxy = servers.proxy(0).unwrap();
    for driver in 0..4 {
        let app = app(driver, &servers.proxied_url()).await;
        proxy.cut_at(Trigger::new("INSERT INTO t", Moment::AfterForward));
        let answer = soon("the answer", post(&app, "/writer")).await;
        answer.assert_problem(503, "interrupted", &servers);
    }
}

async fn app(driver: usize, url: &str) -> App {
    match driver {
        0 => native(url).await,
        1 => sqlx(url).await,
        2 => diesel_async(url).await,
        _ => diesel_blocking(url).await,
    }
}
