//! Patroni's REST API as it should be, and as it should not.

#![cfg(feature = "patroni")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leadpool::{
    HostAddr,
    discovery::{
        Discovery,
        patroni::{Patroni, PatroniError},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

const TRUE_ANSWER: &str = include_str!("data/patroni-4.1.5.json");

/// As long as a test may take.
const LONG: Duration = Duration::from_secs(20);

/// As long as a question may take where it must fail.
const SHORT: Duration = Duration::from_millis(200);

/// What a server does with a connection once the request has come.
#[derive(Clone)]
enum Manner {
    /// Says this and hangs up.
    Say(Vec<u8>),
    /// Says this and keeps the connection.
    Stall(Vec<u8>),
    /// Says this, then a byte every few milliseconds for ever.
    Drip(Vec<u8>),
    /// Says this, then as much as is taken, and counts it.
    Flood(Vec<u8>, Arc<AtomicUsize>),
}

/// What Patroni says, with this body.
fn answer(body: &str) -> Manner {
    let head = "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\n\
                Content-Type: application/json\r\n\r\n";
    Manner::Say(format!("{head}{body}").into_bytes())
}

fn say(text: &str) -> Manner {
    Manner::Say(text.as_bytes().to_vec())
}

/// A server on loopback; it ends when it is dropped.
struct Server {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, manner.clone(), seen.clone()));
            }
        });
        Self {
            addr,
            requests,
            _tasks: tasks,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, seen: Arc<Mutex<Vec<String>>>) {
    let request = read_head(&mut stream).await;
    seen.lock().unwrap().push(request);
    // Who asked may hang up.
    let _ = behave(&mut stream, manner).await;
}

async fn behave<S: tokio::io::AsyncWrite + Unpin>(
    stream: &mut S,
    manner: Manner,
) -> std::io::Result<()> {
    match manner {
        Manner::Say(text) => {
            stream.write_all(&text).await?;
            stream.shutdown().await
        }
        Manner::Stall(text) => {
            stream.write_all(&text).await?;
            pending().await
        }
        Manner::Drip(text) => {
            stream.write_all(&text).await?;
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                stream.write_all(b" ").await?;
            }
        }
        Manner::Flood(text, taken) => {
            stream.write_all(&text).await?;
            loop {
                stream.write_all(&[b' '; 8192]).await?;
                taken.fetch_add(8192, Ordering::Relaxed);
            }
        }
    }
}

async fn read_head<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Asks one server that behaves like this, for so long.
async fn ask(manner: Manner, limit: Duration) -> (String, PatroniError) {
    let server = Server::start(manner).await;
    let patroni = Patroni::new([server.url()]).unwrap().timeout(limit);
    let error = timeout(LONG, patroni.ask()).await.unwrap().unwrap_err();
    (server.url(), error)
}

#[tokio::test]
async fn a_true_answer_becomes_hosts() {
    let server = Server::start(answer(TRUE_ANSWER)).await;
    let patroni = Patroni::new([server.url()]).unwrap();
    let found = patroni.ask().await.unwrap();
    let host = |n: u8| HostAddr::new(format!("127.0.77.{n}"), 25501);
    let hosts: Vec<_> = found
        .hosts
        .iter()
        .map(|host| (host.addr.clone(), host.zone.as_deref(), host.weight))
        .collect();
    assert_eq!(
        hosts,
        [
            (host(1), None, None),
            (host(2), Some("eu-1b"), Some(0)),
            (host(3), Some("7"), None)
        ]
    );
    assert_eq!(found.primary, Some(host(1)));

    let request = &server.requests()[0];
    assert!(
        request.starts_with("GET /cluster HTTP/1.1\r\n"),
        "{request}"
    );
    let request = request.to_ascii_lowercase();
    assert!(
        request.contains(&format!("host: {}\r\n", server.addr)),
        "{request}"
    );
    assert!(!request.contains("authorization"), "{request}");
}

#[tokio::test]
async fn members_without_a_server_are_left_out_and_an_address_counts_once() {
    let body = r#"{"members": [
        {"name": "new", "role": "replica", "state": "creating replica", "host": "a", "port": 1},
        {"name": "old-name", "role": "replica", "state": "stopped", "host": "b", "port": 1},
        {"name": "new-name", "role": "leader", "state": "running", "host": "B", "port": 1},
        {"name": "no-address", "role": "replica", "state": "stopped"}
    ], "pause": true}"#;
    let server = Server::start(answer(body)).await;
    let found = Patroni::new([server.url()]).unwrap().ask().await.unwrap();
    let b = HostAddr::new("b", 1);
    assert_eq!(found.hosts.len(), 1);
    assert_eq!(found.hosts[0].addr, b);
    assert_eq!(found.primary, Some(b));
}

#[tokio::test]
async fn the_leader_of_a_standby_cluster_is_no_hint() {
    let body = r#"{"members": [
        {"name": "n1", "role": "standby_leader", "state": "running", "host": "a", "port": 1}
    ]}"#;
    let server = Server::start(answer(body)).await;
    let found = Patroni::new([server.url()]).unwrap().ask().await.unwrap();
    assert_eq!((found.hosts.len(), found.primary), (1, None));
}

#[tokio::test]
async fn a_zone_may_have_another_tag() {
    let server = Server::start(answer(&TRUE_ANSWER.replace("availability_zone", "az"))).await;
    let patroni = Patroni::new([server.url()]).unwrap().zone_tag("az");
    let found = patroni.ask().await.unwrap();
    assert_eq!(found.hosts[1].zone.as_deref(), Some("eu-1b"));
}

#[tokio::test]
async fn what_is_no_usable_answer_is_told() {
    let ok = "HTTP/1.0 200 OK\r\n\r\n";
    for (said, word) in [
        (format!("{ok}<html>hello</html>"), "not JSON"),
        (ok.to_owned(), "not JSON"),
        (format!("{ok}{}", &TRUE_ANSWER[..400]), "not JSON"),
        (format!("{ok}[]"), "not what `GET /cluster` answers"),
        (format!("{ok}{{}}"), "`members`"),
        (
            format!("{ok}{{\"members\": []}}"),
            "no member with a server",
        ),
        (
            format!("{ok}{}", TRUE_ANSWER.replace("25501", "0")),
            "0 is not a port",
        ),
        (
            "HTTP/1.0 503 Service Unavailable\r\n\r\n".into(),
            "answered 503",
        ),
        ("HTTP/1.0 401 Unauthorized\r\n\r\n".into(), "`basic_auth`"),
        ("HTTP/1.0 204 No Content\r\n\r\n".into(), "answered 204"),
        ("nonsense\r\n\r\n".into(), "no HTTP answer"),
        ("SSH-2.0-OpenSSH_9.2p1\r\n".into(), "no HTTP answer"),
        (String::new(), "hangs up too"),
        ("HTTP/1.0 200 OK\r\nContent-Le".into(), "no HTTP answer"),
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{TRUE_ANSWER}"),
            "no HTTP answer",
        ),
        (
            format!("HTTP/1.0 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200)),
            "no HTTP answer",
        ),
    ] {
        let (url, error) = ask(say(&said), LONG).await;
        let text = error.to_string();
        assert!(text.starts_with(&url) && text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Server::start(answer(TRUE_ANSWER)).await;
    for status in [301, 302, 303, 307, 308] {
        let to = format!("{}/cluster", target.url());
        let said = format!("HTTP/1.0 {status} Moved\r\nLocation: {to}\r\n\r\n");
        let (url, error) = ask(say(&said), LONG).await;
        assert!(matches!(error, PatroniError::Redirect { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&url) && text.contains(&to), "{text}");
    }
    assert_eq!(target.requests().len(), 0);
}

#[tokio::test]
async fn silence_and_drips_end_with_the_timeout() {
    let ok = b"HTTP/1.0 200 OK\r\n\r\n{".to_vec();
    for manner in [
        Manner::Stall(Vec::new()),
        Manner::Stall(b"HTTP/1.0 200".to_vec()),
        Manner::Stall(ok.clone()),
        Manner::Drip(b"HTTP/1.0 200 OK\r\nx:".to_vec()),
        Manner::Drip(ok),
    ] {
        let (url, error) = ask(manner, SHORT).await;
        assert!(matches!(error, PatroniError::Silent { .. }), "{error}");
        assert!(error.to_string().starts_with(&url), "{error}");
    }
}

#[tokio::test]
async fn what_is_too_long_is_not_read_to_its_end() {
    for (head, is_body) in [
        ("HTTP/1.0 200 OK\r\n\r\n", true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2000000000\r\n\r\n",
            true,
        ),
        ("HTTP/1.0 200 OK\r\nx:", false),
    ] {
        let taken = Arc::new(AtomicUsize::new(0));
        let flood = Manner::Flood(head.as_bytes().to_vec(), taken.clone());
        let server = Server::start(flood).await;
        let patroni = Patroni::new([server.url()]).unwrap().timeout(LONG);
        let error = timeout(LONG, patroni.ask()).await.unwrap().unwrap_err();
        let is_expected = match is_body {
            true => matches!(error, PatroniError::TooLong { .. }),
            false => matches!(error, PatroniError::Http { .. }),
        };
        assert!(is_expected, "{error}");
        // What the system's buffers hold comes on top.
        assert!(taken.load(Ordering::Relaxed) < 64 << 20);
    }
}

/// An address on which nobody listens.
async fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn nobody_there_is_told() {
    let url = refusing().await;
    let error = Patroni::new([&url]).unwrap().ask().await.unwrap_err();
    assert!(matches!(error, PatroniError::Connect { .. }), "{error}");
    assert!(error.to_string().starts_with(&url), "{error}");
}

#[tokio::test]
async fn the_next_is_asked_when_one_refuses_or_says_nothing() {
    let silent = Server::start(Manner::Stall(Vec::new())).await;
    let good = Server::start(answer(TRUE_ANSWER)).await;
    let urls = [refusing().await, silent.url(), good.url()];
    let patroni = Patroni::new(&urls).unwrap().timeout(LONG);
    let found = timeout(LONG, patroni.ask()).await.unwrap().unwrap();
    assert_eq!(found.hosts.len(), 3);
    assert_eq!((silent.requests().len(), good.requests().len()), (1, 1));

    // The good one is asked first now.
    patroni.ask().await.unwrap();
    assert_eq!((silent.requests().len(), good.requests().len()), (1, 2));
}

#[tokio::test]
async fn a_bad_answer_does_not_keep_a_good_one_from_winning() {
    let bad = Server::start(answer("{}")).await;
    let empty = Server::start(answer(r#"{"members": []}"#)).await;
    let good = Server::start(answer(TRUE_ANSWER)).await;
    let patroni = Patroni::new([bad.url(), empty.url(), good.url()]).unwrap();
    let found = timeout(LONG, patroni.ask()).await.unwrap().unwrap();
    assert_eq!(found.hosts.len(), 3);
}

#[tokio::test]
async fn when_all_fail_each_is_named() {
    let silent = Server::start(Manner::Stall(Vec::new())).await;
    let bad = Server::start(answer("{}")).await;
    let urls = [refusing().await, silent.url(), bad.url()];
    let patroni = Patroni::new(&urls).unwrap().timeout(SHORT);
    let error = timeout(LONG, patroni.ask()).await.unwrap().unwrap_err();
    let PatroniError::AllFailed(errors) = &error else {
        panic!("{error}");
    };
    assert_eq!(errors.len(), 3);
    let text = error.to_string();
    assert!(urls.iter().all(|url| text.contains(url)), "{text}");
}

/// One member, whose Patroni is at this URL.
fn told_of(api_url: &str) -> Manner {
    let host = api_url
        .rsplit_once(':')
        .unwrap()
        .0
        .rsplit_once('/')
        .unwrap()
        .1;
    answer(&format!(
        r#"{{"members": [{{"name": "n1", "role": "leader", "state": "running", "host": "{host}",
            "port": 5432, "api_url": "{api_url}/patroni"}}]}}"#
    ))
}

#[tokio::test]
async fn members_are_asked_when_all_seeds_are_gone() {
    let member = Server::start(answer(TRUE_ANSWER)).await;
    let seed = Server::start(told_of(&member.url())).await;
    let patroni = Patroni::new([seed.url()]).unwrap().timeout(LONG);
    patroni.ask().await.unwrap();
    drop(seed);
    let found = timeout(LONG, patroni.ask()).await.unwrap().unwrap();
    assert_eq!(found.hosts.len(), 3);
}

#[tokio::test]
async fn credentials_go_to_the_seeds_and_nowhere_else() {
    let member = Server::start(answer(TRUE_ANSWER)).await;
    let seed = Server::start(told_of(&member.url())).await;
    let patroni = Patroni::new([seed.url()]).unwrap();
    let patroni = patroni.basic_auth("reader", "hunter2").unwrap();
    let patroni = patroni.timeout(LONG);
    patroni.ask().await.unwrap();
    let request = seed.requests()[0].to_ascii_lowercase();
    // `reader:hunter2`
    let header = "authorization: basic cmvhzgvyomh1bnrlcji=\r\n";
    assert!(request.contains(header), "{request}");
    let debug = format!("{patroni:?}");
    assert!(
        !debug.contains("hunter2") && !debug.contains("cmVhZGVy"),
        "{debug}"
    );

    drop(seed);
    timeout(LONG, patroni.ask()).await.unwrap().unwrap_err();
    assert_eq!(member.requests().len(), 0);
}

#[tokio::test]
async fn who_was_learnt_before_there_were_credentials_is_not_sent_them() {
    let member = Server::start(answer(TRUE_ANSWER)).await;
    let seed = Server::start(told_of(&member.url())).await;
    let patroni = Patroni::new([seed.url()]).unwrap().timeout(LONG);
    patroni.ask().await.unwrap();
    let patroni = patroni.basic_auth("reader", "hunter2").unwrap();
    drop(seed);
    timeout(LONG, patroni.ask()).await.unwrap().unwrap_err();
    assert_eq!(member.requests().len(), 0);
}

#[test]
fn credentials_that_can_not_be_sent_are_refused_and_not_repeated() {
    let patroni = || Patroni::new(["http://db1:8008"]).unwrap();
    for (user, password, key) in [
        ("hunter2:x", "x", "`user`"),
        ("hunter2\n", "x", "`user`"),
        ("x", "hunter2\r\nX-Evil: 1", "`password`"),
        ("x", "hunter2\0", "`password`"),
    ] {
        let error = patroni().basic_auth(user, password).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(key) && !text.contains("hunter2"), "{text}");
    }
    assert!(patroni().basic_auth("ü", "pässword: with spaces").is_ok());
}

#[tokio::test]
async fn settings_that_are_out_of_range_harm_nobody() {
    let server = Server::start(answer(TRUE_ANSWER)).await;
    let patroni = Patroni::new([server.url()]).unwrap();
    let patroni = patroni.timeout(Duration::MAX);
    assert!(patroni.ask().await.is_ok());
    // Whether the answer is quicker than no time is the machine's affair.
    drop(patroni.timeout(Duration::ZERO).ask().await);
}

#[test]
fn intervals_are_as_set() {
    let patroni = Patroni::new(["http://db1:8008"]).unwrap();
    assert_eq!(patroni.name(), "patroni");
    let intervals = |patroni: &Patroni| {
        let calm = Discovery::refresh_interval(patroni);
        (calm, Discovery::failover_interval(patroni))
    };
    let seconds = Duration::from_secs;
    assert_eq!(intervals(&patroni), (Some(seconds(30)), seconds(1)));
    let patroni = patroni
        .refresh_interval(seconds(7))
        .failover_interval(seconds(2));
    assert_eq!(intervals(&patroni), (Some(seconds(7)), seconds(2)));
}
