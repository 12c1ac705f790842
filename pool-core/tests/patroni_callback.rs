//! The endpoint for Patroni's callbacks: what counts as a call, and what does not.

#![cfg(feature = "patroni")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use leadpool::discovery::patroni::{CallbackGuard, PatroniCallback, PatroniError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// As long as a test may take.
const LONG: Duration = Duration::from_secs(20);

const CALL: &str = "on_role_change primary batman";

/// An endpoint, and how often it was called.
async fn start(token: Option<&str>) -> (CallbackGuard, Arc<AtomicU32>) {
    let mut callbacks = PatroniCallback::bind("127.0.0.1:0").await.unwrap();
    if let Some(token) = token {
        callbacks = callbacks.token(token).unwrap();
    }
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let guard = callbacks.run(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    (guard, calls)
}

/// Sends this and reads until the end.
async fn send(addr: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // The endpoint may have refused before it has read everything.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = String::new();
    let _ = timeout(LONG, stream.read_to_string(&mut answer))
        .await
        .unwrap();
    answer
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: app\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[tokio::test]
async fn a_call_is_heard_in_the_body_or_in_the_query() {
    let (guard, calls) = start(None).await;
    let addr = guard.local_addr();
    let mut expected = 0;
    for request in [
        post("/", "", CALL),
        post("/any/path", "", &format!("  {CALL}\n")),
        post("/", "", "on_start replica batman"),
        post("/", "", "on_stop demoted batman"),
        post("/", "", "on_restart replica batman"),
        post("/", "", "on_reload replica batman"),
        post("/?on_role_change+master+batman", "", ""),
        post("/?on_role_change%20replica%20batman", "", ""),
        // As curl does it.
        post(
            "/",
            "Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n",
            CALL,
        ),
        format!(
            "POST / HTTP/1.0\r\nContent-Length: {}\r\n\r\n{CALL}",
            CALL.len()
        ),
    ] {
        let answer = send(addr, &request).await;
        let answer = answer
            .strip_prefix("HTTP/1.1 100 Continue\r\n\r\n")
            .unwrap_or(&answer);
        assert_eq!(status(answer), "204", "{request}\n{answer}");
        expected += 1;
        assert_eq!(calls.load(Ordering::Relaxed), expected);
    }
}

#[tokio::test]
async fn anything_else_is_refused_with_a_word_of_what_to_do() {
    let (guard, calls) = start(None).await;
    let big = "x".repeat(5000);
    for (request, code, word) in [
        (post("/", "", ""), "400", "on_role_change primary batman"),
        (
            post("/", "", "on_role_change"),
            "400",
            "action, role and scope",
        ),
        (post("/", "", "promoted primary batman"), "400", "action"),
        (post("/", "", &format!("{CALL} more")), "400", "action"),
        (post("/", "", "\u{0}\u{ff}"), "400", "action"),
        (post("/?%ff%00", "", ""), "400", "action"),
        (post("/", "", &big), "413", "4096"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), "405", "POST"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n".into(), "405", ""),
        ("nonsense\r\n\r\n".into(), "400", ""),
        (
            format!("POST / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(10_000)),
            "431",
            "",
        ),
    ] {
        let answer = send(guard.local_addr(), &request).await;
        let shown: String = request.chars().take(80).collect();
        assert_eq!(status(&answer), code, "{shown}: {answer}");
        assert!(answer.contains(word), "{shown}: {answer}");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn with_a_token_only_who_has_it_is_heard() {
    let (guard, calls) = start(Some("hunter2")).await;
    for headers in [
        "",
        "Authorization: Bearer hunter\r\n",
        "Authorization: Bearer hunter22\r\n",
        "Authorization: Bearer Hunter2\r\n",
        "Authorization: hunter2\r\n",
        "Authorization: Basic hunter2\r\n",
        "Authorization: Bearer\r\nAuthorization: Bearer hunter2\r\n",
    ] {
        let answer = send(guard.local_addr(), &post("/", headers, CALL)).await;
        assert_eq!(status(&answer), "401", "{headers}");
        assert!(
            answer
                .to_ascii_lowercase()
                .contains("www-authenticate: bearer")
        );
        assert!(!answer.contains("hunter2"));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    let right = post("/", "Authorization: Bearer hunter2\r\n", CALL);
    assert_eq!(status(&send(guard.local_addr(), &right).await), "204");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(!format!("{guard:?}").contains("hunter2"));
}

#[tokio::test]
async fn tokens_that_can_not_be_sent_are_refused() {
    for token in ["", "a b", "hunter2\r\n", "hünter2"] {
        let callbacks = PatroniCallback::bind("127.0.0.1:0").await.unwrap();
        let error = callbacks.token(token).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("`token`") && !text.contains("nter2"),
            "{text}"
        );
    }
    let callbacks = PatroniCallback::bind("127.0.0.1:0").await.unwrap();
    let callbacks = callbacks.token("hunter2").unwrap();
    assert!(!format!("{callbacks:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let (guard, _) = start(None).await;
    for addr in [guard.local_addr().to_string(), "nonsense".to_owned()] {
        let error = PatroniCallback::bind(&addr).await.unwrap_err();
        assert!(matches!(error, PatroniError::Listen { .. }), "{error}");
        assert!(error.to_string().contains(&addr), "{error}");
    }
}

#[tokio::test]
async fn dropping_the_guard_stops_it() {
    let (guard, calls) = start(None).await;
    let addr = guard.local_addr();
    let mut open = TcpStream::connect(addr).await.unwrap();
    open.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
    drop(guard);
    let mut rest = Vec::new();
    // Closed, or reset.
    let _ = timeout(LONG, open.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
    assert!(TcpStream::connect(addr).await.is_err());
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_closure_that_panics_stops_nothing() {
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let callbacks = PatroniCallback::bind("127.0.0.1:0").await.unwrap();
    let guard = callbacks.run(move || {
        assert_ne!(count.fetch_add(1, Ordering::Relaxed), 0, "on purpose");
    });
    assert_eq!(send(guard.local_addr(), &post("/", "", CALL)).await, "");
    let answer = send(guard.local_addr(), &post("/", "", CALL)).await;
    assert_eq!(status(&answer), "204");
}

/// The clock jumps when nothing else is left to do.
#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_sent_away_and_others_get_their_turn() {
    let (guard, calls) = start(None).await;
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(TcpStream::connect(guard.local_addr()).await.unwrap());
    }
    let answer = send(guard.local_addr(), &post("/", "", CALL)).await;
    assert_eq!(status(&answer), "204");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    // It had to wait until one of them was gone.
    let is_gone = |stream: &TcpStream| matches!(stream.try_read(&mut [0]), Ok(0));
    assert!(silent.iter().any(is_gone));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_told() {
    let (guard, calls) = start(None).await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\non_role";
    let answer = send(guard.local_addr(), request).await;
    assert_eq!(status(&answer), "408", "{answer}");
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}
