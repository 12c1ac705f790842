//! Patroni's callbacks.

use std::time::Duration;

use super::*;
use crate::support::{web::PatroniCallback, *};

const CALL: &str = "on_role_change primary batman";

fn call(method: &'static str, secret: Option<&str>, query: &str, body: impl AsRef<[u8]>) -> Asked {
    let asked = Asked::new(method, &format!("/patroni{query}")).body(body);
    match secret {
        Some(secret) => asked.header("authorization", secret),
        None => asked,
    }
}

#[crate::support::test]
async fn a_call_makes_the_monitor_look_at_once() {
    let servers = start().await;
    let hour = Duration::from_secs(3_600);
    let pool = pool_with(&servers, |config| {
        config.idle_interval(hour).active_interval(hour)
    })
    .await;
    let callback = PatroniCallback::new(pool.cluster(), "robin").unwrap();
    let app = callbacks_of(callback).await;
    // The former primary lives on, so nothing else tells of it.
    servers.promote(1).await.unwrap();
    let port = servers.addr(1).unwrap().port();
    let is_known = || {
        pool.status()
            .writer
            .is_some_and(|writer| writer.port() == port)
    };
    assert!(!is_known());
    let bearer = Some("Bearer robin");
    let heard = send(&app, call("POST", bearer, "", CALL)).await;
    assert_eq!((heard.status, heard.body.as_str()), (204, ""));
    until("the new writer", async || is_known()).await;
}

#[crate::support::test]
async fn anything_else_is_refused_with_a_word_of_what_to_do() {
    let servers = start().await;
    let pool = pool_with(&servers, |config| config).await;
    let callback = PatroniCallback::new(pool.cluster(), "robin").unwrap();
    assert!(!format!("{callback:?}").contains("robin"));
    let app = callbacks_of(callback).await;
    let bearer = Some("Bearer robin");
    let wrong = [
        None,
        Some(""),
        Some("robin"),
        Some("Bearer"),
        Some("Bearer robi"),
        Some("Bearer robinn"),
        Some("bearer robin"),
        Some("Basic robin"),
    ];
    for secret in wrong {
        let refused = send(&app, call("POST", secret, "", CALL)).await;
        refused.assert_problem(401, "refused", &servers);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert!(!refused.body.contains("robin"));
    }
    let refused = send(&app, call("GET", bearer, "", "")).await;
    refused.assert_problem(405, "refused", &servers);
    assert_eq!(refused.header("allow"), Some("POST"));
    for body in [
        "",
        "on_role_change",
        "a b c",
        "on_role_change primary batman more",
        "\u{0}",
    ] {
        let refused = send(&app, call("POST", bearer, "", body)).await;
        refused.assert_problem(400, "refused", &servers);
        assert!(refused.body.contains("on_role_change primary batman"));
    }
    let long = send(&app, call("POST", bearer, "", "x".repeat(4_097))).await;
    long.assert_problem(413, "refused", &servers);
    let binary = send(&app, call("POST", bearer, "", vec![0xff; 64])).await;
    binary.assert_problem(400, "refused", &servers);
    let query = "?on_role_change+primary%20batman";
    let heard = send(&app, call("POST", bearer, query, "")).await;
    assert_eq!(heard.status, 204);
}

#[crate::support::test]
async fn a_secret_that_can_not_be_sent_is_refused() {
    let servers = start().await;
    let pool = pool_with(&servers, |config| config).await;
    for secret in ["", " ", "a ", "a\nb", "\u{e9}"] {
        let error = PatroniCallback::new(pool.cluster(), secret).unwrap_err();
        assert!(error.to_string().contains("ASCII"));
    }
}
