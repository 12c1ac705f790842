//! How much time requests have.

use std::time::Duration;

use super::*;
use crate::{
    drivers::odd,
    support::{web::Deadline, *},
};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(3_600);

async fn asking(app: &App, path: &str, time: &str) -> Answer {
    send(
        app,
        Asked::new("POST", path).header("request-timeout", time),
    )
    .await
}

#[crate::support::test]
async fn it_bounds_the_wait_for_a_writer_and_a_transaction() {
    let servers = start().await;
    let pool = pool_with(&servers, |config| {
        config.checkout_timeout(LONG).tx_deadline(LONG)
    })
    .await;
    let (short_one, long_one) = (Deadline::after(SHORT), Deadline::after(LONG));
    let short = native_within(pool.clone(), std::slice::from_ref(&short_one)).await;
    // A transaction that is still open then.
    let over = soon("the end of its time", post(&short, "/tx/hang")).await;
    over.assert_problem(504, "deadline", &servers);
    until("the end of the transaction", async || {
        open(&servers).await == 0
    })
    .await;
    let over = soon("the end of its time", post(&short, "/tx/sleep")).await;
    over.assert_problem(504, "deadline", &servers);
    assert_eq!(rows(&servers).await, 0);
    assert_eq!(post(&short, "/tx/ok").await.status, 200);
    servers.kill(0).await.unwrap();
    until("the loss", async || pool.status().writer.is_none()).await;
    for path in ["/writer", "/tx/ok"] {
        let refused = soon("the end of its time", post(&short, path)).await;
        refused.assert_problem(503, "unavailable", &servers);
    }
    // The outer one is the shorter one, and the other way round.
    for both in [
        [long_one.clone(), short_one.clone()],
        [short_one.clone(), long_one.clone()],
    ] {
        let layered = native_within(pool.clone(), &both).await;
        let refused = soon("the end of its time", post(&layered, "/writer")).await;
        refused.assert_problem(503, "unavailable", &servers);
    }
}

#[crate::support::test]
async fn a_client_may_ask_for_less_and_never_for_more() {
    let servers = start().await;
    let pool = pool_with(&servers, |config| config.checkout_timeout(LONG)).await;
    let named = |limit| [Deadline::after(limit).header("Request-Timeout")];
    let long = native_within(pool.clone(), &named(LONG)).await;
    let short = native_within(pool.clone(), &named(SHORT)).await;
    assert_eq!(asking(&long, "/tx/ok", "30").await.status, 200);
    let over = asking(&long, "/writer", "0").await;
    over.assert_problem(504, "deadline", &servers);
    let over = asking(&long, "/tx/ok", "0s").await;
    over.assert_problem(504, "deadline", &servers);
    for wrong in [
        "",
        "soon",
        "-1",
        "1e9",
        "1;2",
        "99999999999999999999999999999999999",
    ] {
        let refused = asking(&long, "/writer", wrong).await;
        refused.assert_problem(400, "refused", &servers);
        let detail = refused.json()["detail"].to_string();
        assert!(detail.contains("request-timeout"), "{detail}");
    }
    let twice = Asked::new("POST", "/writer").header("request-timeout", "1");
    let refused = send(&long, twice.header("request-timeout", "2")).await;
    refused.assert_problem(400, "refused", &servers);
    // A header that is not named is nobody's business.
    let unnamed = native_within(pool.clone(), &[Deadline::after(LONG)]).await;
    assert_eq!(asking(&unnamed, "/writer", "soon").await.status, 200);
    assert_eq!(rows(&servers).await, 2);
    servers.kill(0).await.unwrap();
    until("the loss", async || pool.status().writer.is_none()).await;
    for (app, time) in [(&long, "200ms"), (&short, "1h")] {
        let refused = soon("the end of its time", asking(app, "/writer", time)).await;
        refused.assert_problem(503, "unavailable", &servers);
    }
}

#[crate::support::test]
async fn handlers_see_what_is_left() {
    let servers = start().await;
    let app = odd(&servers.url()).await;
    assert_eq!(get(&app, "/time_left").await.body, "None 1000");
    let pool = pool_with(&servers, |config| config).await;
    let short = native_within(pool, &[Deadline::after(SHORT)]).await;
    let left = get(&short, "/time_left").await.body;
    let (left, within) = left.split_once(' ').unwrap();
    assert!(left.starts_with("Some("), "{left}");
    assert!(within.parse::<u128>().unwrap() <= 300, "{within}");
}
