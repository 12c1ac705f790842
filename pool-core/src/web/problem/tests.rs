use std::time::Duration;

use super::*;
use crate::{
    consistency::{ConsistencyToken, Standing},
    error::{InDoubt, NoHost, Overloaded, Paused, QueueFull, TokenRefused},
    outcome::Doubt,
    topology::{HostAddr, Target},
};

const SECRET: &str = "db1.internal";

fn host() -> HostAddr {
    HostAddr::new(SECRET, 5432)
}

fn driver(sqlstate: Option<&str>, is_lost: bool) -> Error {
    Error::Driver(Box::new(DriverError::new(
        format!("SELECT secret FROM {SECRET}"),
        sqlstate,
        is_lost,
    )))
}

fn lost() -> Error {
    driver(None, true)
}

#[test]
fn every_error_has_its_answer() {
    let second = Duration::from_secs(1);
    let no_host = || {
        Error::NoHost(Box::new(NoHost {
            target: Target::Primary,
            waited: second,
            seen: vec![SECRET.into()],
            source: None,
        }))
    };
    let unknown = Error::Unknown(Box::new(InDoubt {
        host: host(),
        attempt: 1,
        evidence: None,
        doubt: Doubt::NoEvidence,
        source: None,
    }));
    let refused = |standing| {
        Error::TokenRefused(Box::new(TokenRefused {
            token: ConsistencyToken::of_writer(Some(1)),
            standing,
            system_identifier: Some(2),
            term: None,
        }))
    };
    let cases = [
        (refused(Standing::Future), 503, "try_again", Some(1)),
        (refused(Standing::Foreign), 500, "internal", None),
        (no_host(), 503, "unavailable", Some(2)),
        (Error::Closed, 503, "unavailable", Some(2)),
        (
            Error::Paused(Box::new(Paused {
                target: Target::Primary,
                waited: second,
            })),
            503,
            "unavailable",
            Some(2),
        ),
        (
            Error::QueueFull(Box::new(QueueFull {
                host: host(),
                waited: second,
                size: 1,
                max_size: 1,
                waiting: 1,
            })),
            503,
            "overloaded",
            Some(1),
        ),
        (
            Error::Overloaded(Box::new(Overloaded {
                target: Target::Primary,
                waiting: 1,
                max_waiting: 1,
            })),
            503,
            "overloaded",
            Some(1),
        ),
        (
            Error::Invalidated { host: host() },
            503,
            "try_again",
            Some(1),
        ),
        (
            Error::CommitLost {
                host: host(),
                source: None,
            },
            503,
            "try_again",
            Some(1),
        ),
        (
            Error::RetriesExhausted {
                attempts: 1,
                budget: false,
                source: Box::new(lost()),
            },
            503,
            "try_again",
            Some(1),
        ),
        (
            Error::TxDeadline {
                elapsed: second,
                attempts: 1,
                seen: Some(SECRET.into()),
                source: Some(Box::new(lost())),
            },
            504,
            "deadline",
            None,
        ),
        (unknown, 500, "outcome_unknown", None),
        (
            Error::NotReplicated { host: host() },
            500,
            "not_replicated",
            None,
        ),
        (Error::AnswerLost { host: host() }, 500, "internal", None),
        (Error::RolledBack, 500, "internal", None),
        (Error::EndedByClosure, 500, "internal", None),
        (Error::Escaped, 500, "internal", None),
        (lost(), 503, "interrupted", None),
        (driver(Some("25006"), false), 503, "try_again", Some(1)),
        (driver(Some("40001"), false), 503, "try_again", Some(1)),
        (driver(Some("40P01"), false), 503, "try_again", Some(1)),
        (driver(Some("57P01"), false), 503, "try_again", Some(1)),
        (driver(Some("53300"), false), 503, "overloaded", Some(1)),
        (driver(Some("57014"), false), 504, "deadline", None),
        (driver(Some("23505"), false), 500, "internal", None),
        (driver(None, false), 500, "internal", None),
        (Error::user(SECRET), 500, "internal", None),
        (Error::user(no_host()), 503, "unavailable", Some(2)),
        (
            Error::user(Problem::refused(404, "no such order")),
            404,
            "refused",
            None,
        ),
    ];
    for (error, status, code, retry_after) in cases {
        let problem = Problem::of(&error, &[]);
        let found = (problem.status(), problem.code(), problem.retry_after());
        assert_eq!(found, (status, code, retry_after), "{error}");
        let answer = problem.answer();
        let shown = format!("{answer:?}");
        for inner in [SECRET, "secret", "SELECT", "5432"] {
            assert!(!shown.contains(inner), "{shown}");
        }
    }
}

#[test]
fn the_first_error_that_says_anything_counts() {
    #[derive(Debug)]
    struct Outer(Error);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }
    impl StdError for Outer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    let error = Outer(Error::Closed);
    assert_eq!(Problem::of(&error, &[]).code(), "unavailable");
    let reader: Reader = |error| error.is::<Outer>().then_some(Told::Busy);
    assert_eq!(Problem::of(&error, &[reader]).code(), "overloaded");
}

#[test]
fn an_answer_is_a_problem_by_its_rfc() {
    let answer = Problem::of(&Error::Closed, &[]).answer();
    assert_eq!(answer.status(), 503);
    let headers = answer.headers().to_vec();
    assert_eq!(
        headers,
        [
            ("cache-control", "no-store".to_owned()),
            ("content-type", "application/problem+json".to_owned()),
            ("retry-after", "2".to_owned()),
        ]
    );
    let body: serde_json::Value = serde_json::from_str(&answer.into_body()).unwrap();
    assert_eq!(body["type"], "about:blank");
    assert_eq!(body["title"], "Service Unavailable");
    assert_eq!(body["status"], 503);
    assert_eq!(body["code"], "unavailable");
    assert!(body["detail"].is_string());
}

#[test]
fn a_refusal_is_no_success() {
    for status in [0, 200, 302, 399, 600, u16::MAX] {
        assert_eq!(Problem::refused(status, "").status(), 500, "{status}");
    }
    for status in 400..600 {
        assert_eq!(Problem::refused(status, "").status(), status);
    }
    let quoted = Problem::refused(404, "no \"order\"\n<b>".to_owned()).answer();
    let body: serde_json::Value = serde_json::from_str(&quoted.into_body()).unwrap();
    assert_eq!(body["detail"], "no \"order\"\n<b>");
}

#[test]
fn what_was_interrupted_in_a_transaction_did_not_happen() {
    let interrupted = Problem::of(&lost(), &[]);
    assert_eq!(interrupted.rolled_back().code(), "try_again");
    assert_eq!(Problem::internal().rolled_back(), Problem::internal());
}
