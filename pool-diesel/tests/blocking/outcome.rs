//! What became of a COMMIT in flight, each case compared with the table itself.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use leadpool_diesel::{
    blocking::Error,
    leadpool::{
        self,
        outcome::{Doubt, Outcome},
    },
};
use leadpool_testkit::{Moment, Trigger};

use crate::support::*;

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
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let told = outcomes.clone();
        let runs = blocking(move || {
            let mut runs = 0;
            pool.tx()
                .on_resolved(move |resolved| told.lock().unwrap().push(resolved.outcome))
                .run(|conn| {
                    runs += 1;
                    insert(conn)
                })
                .unwrap();
            runs
        })
        .await;
        let repeats = u32::from(expected == Outcome::NotCommitted);
        assert_eq!(*outcomes.lock().unwrap(), [Ok(expected)], "{moment:?}");
        assert_eq!(runs, 1 + repeats, "{moment:?}");
        assert_eq!(rows(&servers).await, 1, "{moment:?}");
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
        blocking(move || {
            pool.tx()
                .deadline(Duration::from_secs(3_600))
                .on_resolved(move |resolved| told.lock().unwrap().push(resolved.outcome))
                .run(|conn| insert(conn))
                .unwrap();
        })
        .await;
        assert_eq!(*outcomes.lock().unwrap(), [Ok(expected)], "{moment:?}");
        assert_eq!(rows(&servers).await, 1, "{moment:?}");
    }
}

#[tokio::test]
async fn a_commit_in_flight_without_evidence_is_unknown_and_never_repeated() {
    let (servers, pool) = start_proxied().await;
    let proxy = servers.proxy(0).unwrap();
    proxy.cut_at(Trigger::new("COMMIT", Moment::AfterForward));
    let error = blocking(move || {
        pool.tx()
            .evidence(false)
            .on_retry(|retry| panic!("told of a retry: {}", retry.error))
            .run(|conn| insert(conn))
            .unwrap_err()
    })
    .await;
    let Error::Pool(leadpool::Error::Unknown(in_doubt)) = &error else {
        panic!("{error}");
    };
    assert_eq!(in_doubt.doubt, Doubt::NoEvidence);
    assert!(!error.is_transient());
    until("the row", async || rows(&servers).await == 1).await;
}

#[tokio::test]
async fn evidence_can_be_resolved_later() {
    let (servers, pool) = start_proxied().await;
    let proxy = servers.proxy(0).unwrap();
    proxy.cut_at(Trigger::new("COMMIT", Moment::AfterForward));
    let outcome = blocking(move || {
        let limited = pool.tx().resolve_within(Duration::ZERO);
        let error = limited.run(|conn| insert(conn)).unwrap_err();
        let Error::Pool(leadpool::Error::Unknown(in_doubt)) = error else {
            panic!("{error}");
        };
        let evidence = in_doubt.evidence.unwrap();
        pool.resolve(&evidence, Duration::from_secs(10)).unwrap()
    })
    .await;
    assert_eq!(outcome, Outcome::Committed);
    assert_eq!(rows(&servers).await, 1);
}
