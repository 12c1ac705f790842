//! Which ways to log in are allowed, with servers that ask in each.

use std::error::Error as _;

use leadpool::{
    Error,
    credentials::{AuthMethod, AuthRefused},
};

use crate::support::*;

#[tokio::test]
async fn what_is_allowed_logs_in_and_what_is_not_does_not() {
    let servers = start(0).await;
    for (login, methods, refused) in [
        ("scram:first", "scram-sha-256", None),
        ("scram:first", "!password,!md5,!none", None),
        ("scram:first", "md5,password", Some("scram-sha-256")),
        ("hash:first", "md5", None),
        ("hash:first", "scram-sha-256", Some("md5")),
        ("clear:first", "password,scram-sha-256", None),
        ("clear:first", "scram-sha-256", Some("password")),
        ("postgres", "none", None),
        ("postgres", "!password", None),
        ("postgres", "scram-sha-256", Some("none")),
    ] {
        let pool = connect(&servers, login, |c| c.require_auth(methods)).await;
        match (pool, refused) {
            (Ok(pool), None) => {
                let client = pool.get().await.unwrap();
                assert!(login.starts_with(&who(&client).await));
            }
            (Err(error), Some(asked)) => {
                let text = chain(&error);
                assert!(text.contains(&format!("asks for `{asked}`")), "{text}");
                assert!(!text.contains("first"), "{text}");
            }
            (pool, _) => panic!("{login} {methods}: {pool:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_begins_to_ask_otherwise_fails_the_checkout_at_once() {
    let servers = start(0).await;
    sql(&servers, "ALTER ROLE hash PASSWORD 'first'").await;
    let pool = connect(&servers, "hash:first", |c| c.require_auth("scram-sha-256"));
    let pool = pool.await.unwrap();
    let held = pool.get().await.unwrap();
    sql(
        &servers,
        "SET password_encryption = 'md5'; ALTER ROLE hash PASSWORD 'first'",
    )
    .await;
    let error = soon("the refusal", pool.get()).await.unwrap_err();
    let Error::Connect(error) = error else {
        panic!("{error:?}");
    };
    let source = error.source().unwrap();
    let refused = source.downcast_ref::<AuthRefused>().unwrap();
    assert_eq!(refused.asked, AuthMethod::Md5);
    assert_eq!(who(&held).await, "hash");
}

#[tokio::test]
async fn transactions_and_notices_pass_through_a_stream_that_was_watched() {
    let servers = start(0).await;
    let pool = connect(&servers, "scram:first", |c| c.require_auth("scram-sha-256"));
    let pool = pool.await.unwrap();
    let sum = pool
        .run_tx(|tx| async move {
            let rows = tx
                .query(
                    "SELECT g, repeat('R', 100000) FROM generate_series(1, 50) AS g",
                    &[],
                )
                .await?;
            Ok(rows.iter().map(|row| row.get::<_, i32>(0)).sum::<i32>())
        })
        .await;
    assert_eq!(sum.unwrap(), 1275);
}

#[test]
fn a_list_that_can_not_be_enforced_is_refused() {
    for text in [
        "host=db1 require_auth=scram",
        "host=db1 require_auth=md5,!none",
        "host=/run/postgresql require_auth=scram-sha-256",
    ] {
        let error = leadpool::Config::from_url(text).unwrap_err();
        assert_eq!(error.key(), "require_auth", "{text}: {error}");
    }
}
