//! The web services: what they answer, also while the primary dies, and how they end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, body::Bytes, client::conn::http1, http::request};
use hyper_util::rt::TokioIo;
use leadpool::outcome::TokenTable;
use leadpool_testkit::Cluster;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

const SERVICES: &[&str] = &[
    env!("CARGO_BIN_EXE_web_axum"),
    env!("CARGO_BIN_EXE_web_axum_sqlx"),
    env!("CARGO_BIN_EXE_web_axum_diesel"),
    env!("CARGO_BIN_EXE_web_actix_sqlx"),
    #[cfg(feature = "diesel-blocking")]
    env!("CARGO_BIN_EXE_web_actix_diesel"),
];

/// How many notes are written before the primary dies, and after.
const NOTES: usize = 60;

#[tokio::test]
async fn they_serve_and_end_when_they_are_told_to() {
    let cluster = Cluster::start().await.unwrap();
    for program in SERVICES {
        let client = cluster.connect(cluster.primary()).await.unwrap();
        client
            .batch_execute("DROP TABLE IF EXISTS notes")
            .await
            .unwrap();
        let mut service = Service::open(program, &cluster.url()).await;
        let (status, note) = service.add("plums").await;
        assert_eq!(status, 201, "{program}: {note}");
        let id = note["id"].as_i64().unwrap();
        assert_eq!(note, json!({ "id": id, "text": "plums" }));
        let (status, problem) = service.add("").await;
        assert_eq!((status, &problem["code"]), (422, &json!("refused")));
        // A standby may need a moment.
        within("the list", async {
            while service.get("/notes").await != (200, json!([note])) {
                tokio::task::yield_now().await;
            }
            while service.get("/count").await != (200, json!(1)) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(service.remove(id).await.0, 204, "{program}");
        assert_eq!(service.get("/dashboard").await.0, 200, "{program}");
        service.shows_what_was_written(&cluster).await;
        let (status, problem, _) = service.remove(id).await;
        assert_eq!((status, &problem["code"]), (404, &json!("refused")));
        assert_eq!(service.get("/health/ready").await.0, 200);
        assert_eq!(service.get("/health/live").await.0, 200);
        service.end().await;
    }
}

#[tokio::test]
async fn no_request_fails_while_the_primary_dies() {
    for program in SERVICES {
        no_request_of(program).await;
    }
}

async fn no_request_of(program: &str) {
    let cluster = Cluster::builder().synchronous(true).start().await.unwrap();
    // With a table of tokens everything can be proved, whatever the primary's death cuts off.
    let tokens = TokenTable::new("leadpool_token").unwrap();
    let client = cluster.connect(0).await.unwrap();
    client.batch_execute(&tokens.migration()).await.unwrap();
    let url = cluster.url() + "?token_table=leadpool_token";
    let mut service = Service::open(program, &url).await;
    // The standbys have the table too.
    cluster.wait_replayed().await.unwrap();
    let (written, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let there = &service;
    let clients = join_all((0..4).map(async |client| {
        let mut notes = BTreeMap::new();
        while !is_over.load(Ordering::SeqCst) {
            let text = format!("{client}/{}", notes.len());
            let (status, note) = there.add(&text).await;
            assert_eq!(status, 201, "{program}: {note}");
            assert_eq!(there.get("/notes").await.0, 200, "{program}");
            notes.insert(note["id"].as_i64().unwrap(), text);
            let (_, extra) = there.add("extra").await;
            // What is not repeated is told when to come again; or happened, as it was answered.
            let id = extra["id"].as_i64().unwrap();
            loop {
                let (status, answer, headers) = there.remove(id).await;
                match status {
                    204 => break,
                    503 => assert!(headers.contains_key("retry-after"), "{program}: {answer}"),
                    status => panic!("{program}: {status} {answer}"),
                }
            }
            written.fetch_add(1, Ordering::SeqCst);
        }
        notes
    }));
    let failover = async {
        reach(&written, NOTES).await;
        cluster.kill(0).await.unwrap();
        let before = written.load(Ordering::SeqCst);
        cluster.failover().await.unwrap();
        reach(&written, before + NOTES).await;
        is_over.store(true, Ordering::SeqCst);
    };
    let (clients, ()) = within("all notes", async { tokio::join!(clients, failover) }).await;
    assert_ne!(cluster.primary(), 0);
    let answered: BTreeMap<i64, String> = clients.into_iter().flatten().collect();
    let client = cluster.connect(cluster.primary()).await.unwrap();
    let rows = client.query("SELECT id, text FROM notes", &[]).await;
    let rows = rows.unwrap();
    let kept: BTreeMap<i64, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(kept, answered, "{program}: nothing lost, nothing doubled");
    service.end().await;
}

async fn reach(written: &AtomicUsize, number: usize) {
    while written.load(Ordering::SeqCst) < number {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: still waiting after 60 s"),
    }
}

/// The program, and where it listens.
struct Service {
    address: SocketAddr,
    program: Child,
}

impl Service {
    async fn open(program: &str, url: &str) -> Self {
        let mut program = Command::new(program)
            .env("DATABASE_URL", url)
            .env("LISTEN", "127.0.0.1:0")
            .env("TOKEN_KEY", "any 32 bytes are enough for a test")
            .env("DASHBOARD", "everybody")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let line = within("the service", lines.next_line()).await.unwrap();
        let line = line.unwrap_or_default();
        let address = line.strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { address, program }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, body, _) = self.send(Request::get(path), Bytes::new()).await;
        (status, body)
    }

    async fn add(&self, text: &str) -> (u16, Value) {
        let request = Request::post("/notes").header("content-type", "application/json");
        let body = json!({ "text": text }).to_string();
        let (status, body, _) = self.send(request, body.into()).await;
        (status, body)
    }

    /// While no standby replays anything.
    async fn shows_what_was_written(&self, cluster: &Cluster) {
        let standbys = (0..cluster.hosts()).filter(|host| *host != cluster.primary());
        let mut clients = Vec::new();
        for host in standbys {
            let client = cluster.connect(host).await.unwrap();
            client
                .batch_execute("SELECT pg_wal_replay_pause()")
                .await
                .unwrap();
            clients.push(client);
        }
        let request = Request::post("/notes").header("content-type", "application/json");
        let body = json!({ "text": "pears" }).to_string();
        let (status, note, headers) = self.send(request, body.into()).await;
        assert_eq!(status, 201, "{note}");
        let cookie = headers["set-cookie"].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap();
        for path in ["/notes", "/count"] {
            let request = Request::get(path).header("cookie", cookie);
            let (status, seen, _) = self.send(request, Bytes::new()).await;
            assert_eq!(status, 200, "{seen}");
            assert!(seen == json!([note]) || seen == json!(1), "{path}: {seen}");
        }
        for client in clients {
            client
                .batch_execute("SELECT pg_wal_replay_resume()")
                .await
                .unwrap();
        }
        let id = note["id"].as_i64().unwrap();
        assert_eq!(self.remove(id).await.0, 204);
    }

    async fn remove(&self, id: i64) -> (u16, Value, HeaderMap) {
        let request = Request::delete(format!("/notes/{id}"));
        self.send(request, Bytes::new()).await
    }

    /// One request, on a connection of its own. What is no JSON comes back as a string.
    async fn send(&self, request: request::Builder, body: Bytes) -> (u16, Value, HeaderMap) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let request = request
            .header("host", "notes")
            .header("connection", "close")
            .body(Full::new(body))
            .unwrap();
        let exchange = async {
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            (head, body.collect().await.unwrap().to_bytes())
        };
        let ((head, body), connection) = tokio::join!(exchange, connection);
        connection.unwrap();
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
        (head.status.as_u16(), body, head.headers)
    }

    /// Tells it to end, as service managers do.
    async fn end(&mut self) {
        let pid = i32::try_from(self.program.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        let ended = within("the end", self.program.wait()).await.unwrap();
        assert!(ended.success(), "{ended}");
    }
}
