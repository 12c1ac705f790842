//! The shop in its two forms: what the migration guide shows is what makes one of the other, and
//! both serve. The second also while its primary dies.

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
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use leadpool_testkit::Cluster;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

/// A form of the shop on a pool that follows no leader, the other one, and what the guide shows of
/// the way between them.
struct Forms {
    before: &'static str,
    after: &'static str,
    diff: &'static str,
    guide: &'static str,
}

const FORMS: [Forms; 3] = [
    Forms {
        before: include_str!("../src/bin/shop_sqlx.rs"),
        after: include_str!("../src/bin/shop_leadpool.rs"),
        diff: include_str!("../../pool-sqlx/src/migration_guide.diff"),
        guide: include_str!("../../pool-sqlx/src/migration_guide.md"),
    },
    Forms {
        before: include_str!("../src/bin/shop_diesel.rs"),
        after: include_str!("../src/bin/shop_leadpool_diesel.rs"),
        diff: include_str!("../../pool-diesel/src/asynchronous/migration_guide.diff"),
        guide: include_str!("../../pool-diesel/src/asynchronous/migration_guide.md"),
    },
    Forms {
        before: include_str!("../src/bin/shop_diesel_r2d2.rs"),
        after: include_str!("../src/bin/shop_leadpool_diesel_r2d2.rs"),
        diff: include_str!("../../pool-diesel/src/blocking/migration_guide.diff"),
        guide: include_str!("../../pool-diesel/src/blocking/migration_guide.md"),
    },
];

#[test]
fn the_diff_makes_one_form_of_the_other() {
    for forms in FORMS {
        let patch = diffy::Patch::from_str(forms.diff).unwrap();
        assert_eq!(diffy::apply(forms.before, &patch).unwrap(), forms.after);
        // Nothing that is not shown: the other way leads back.
        let back = diffy::apply(forms.after, &patch.reverse()).unwrap();
        assert_eq!(back, forms.before);
    }
}

#[test]
fn the_guide_shows_this_diff_and_counts_its_lines() {
    for Forms { diff, guide, .. } in FORMS {
        assert!(guide.contains(&format!("```diff\n{diff}```\n")), "{guide}");
        assert_eq!(guide.matches("```diff").count(), 1);
        let patch = diffy::Patch::from_str(diff).unwrap();
        let lines = patch.hunks().iter().flat_map(|hunk| hunk.lines());
        let changed = lines.filter(|line| !matches!(line, diffy::Line::Context(_)));
        let counted = format!(", {} lines:\n", changed.count());
        assert!(guide.contains(&counted), "not{counted}");
    }
}

#[tokio::test]
async fn the_forms_on_other_pools_serve() {
    for program in OTHERS {
        let cluster = Cluster::builder().standbys(0).start().await.unwrap();
        let url = cluster.host_url(0).unwrap();
        serves(&Shop::open(program, &url).await).await;
    }
}

#[tokio::test]
async fn the_forms_on_leadpools_serve() {
    for program in LEADPOOLS {
        let cluster = Cluster::start().await.unwrap();
        serves(&Shop::open(program, &cluster.url()).await).await;
    }
}

const OTHERS: &[&str] = &[
    env!("CARGO_BIN_EXE_shop_sqlx"),
    env!("CARGO_BIN_EXE_shop_diesel"),
    #[cfg(feature = "diesel-blocking")]
    env!("CARGO_BIN_EXE_shop_diesel_r2d2"),
];

const LEADPOOLS: &[&str] = &[
    env!("CARGO_BIN_EXE_shop_leadpool"),
    env!("CARGO_BIN_EXE_shop_leadpool_diesel"),
    #[cfg(feature = "diesel-blocking")]
    env!("CARGO_BIN_EXE_shop_leadpool_diesel_r2d2"),
];

/// What both forms answer.
async fn serves(shop: &Shop) {
    assert_eq!(shop.get("/health").await.0, StatusCode::OK);
    let (status, order) = shop.order("Ada", "plums", 3).await;
    assert_eq!(status, StatusCode::CREATED, "{order}");
    let id = order["id"].as_i64().unwrap();
    let expected = json!({ "id": id, "customer": "Ada", "item": "plums", "pieces": 3 });
    assert_eq!(order, expected);
    assert_eq!(shop.get(&format!("/orders/{id}")).await.1, expected);
    // A standby may need a moment.
    within("the list", async {
        while shop.get("/orders").await != (StatusCode::OK, json!([expected])) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(shop.get("/orders/99").await.0, StatusCode::NOT_FOUND);
    let (status, _) = shop.order("Ada", "moons", 1).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, _) = shop.order("Ada", "the last melon", 1).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, _) = shop.order("Bob", "the last melon", 1).await;
    assert_eq!(status, StatusCode::CONFLICT);
}

/// How many orders are written before the primary dies, and after.
const ORDERS: usize = 60;

#[tokio::test]
async fn no_request_fails_while_the_primary_dies() {
    for program in LEADPOOLS {
        no_request_of(program).await;
    }
}

async fn no_request_of(program: &str) {
    let cluster = Cluster::builder().synchronous(true).start().await.unwrap();
    let (url, is_asked) = (cluster.url(), cluster.url().contains('?'));
    let url = format!(
        "{url}{}token_table=leadpool_token",
        if is_asked { '&' } else { '?' }
    );
    let shop = Shop::open(program, &url).await;
    // The standbys have the tables too.
    cluster.wait_replayed().await.unwrap();
    let (written, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let customers = join_all((0..8).map(async |customer| {
        let mut ids = BTreeMap::new();
        while !is_over.load(Ordering::SeqCst) {
            let name = format!("{customer}/{}", ids.len());
            let (status, order) = shop.order(&name, "plums", 1).await;
            assert_eq!(status, StatusCode::CREATED, "{order}");
            let path = format!("/orders/{}", order["id"]);
            assert_eq!(shop.get(&path).await, (StatusCode::OK, order.clone()));
            assert_eq!(shop.get("/orders").await.0, StatusCode::OK);
            assert_eq!(shop.get("/health").await.0, StatusCode::OK);
            ids.insert(order["id"].as_i64().unwrap(), name);
            written.fetch_add(1, Ordering::SeqCst);
        }
        ids
    }));
    let failover = async {
        reach(&written, ORDERS).await;
        cluster.kill(0).await.unwrap();
        let before = written.load(Ordering::SeqCst);
        cluster.failover().await.unwrap();
        reach(&written, before + ORDERS).await;
        is_over.store(true, Ordering::SeqCst);
    };
    let (customers, ()) = within("all orders", async { tokio::join!(customers, failover) }).await;
    assert_ne!(cluster.primary(), 0);
    let answered: BTreeMap<i64, String> = customers.into_iter().flatten().collect();
    let client = cluster.connect(cluster.primary()).await.unwrap();
    let rows = client.query("SELECT id, customer FROM orders", &[]).await;
    let rows = rows.unwrap();
    let kept: BTreeMap<i64, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(kept, answered, "nothing lost, nothing doubled");
    let taken = "SELECT 1000000 - pieces FROM stock WHERE item = 'plums'";
    let taken: i32 = client.query_one(taken, &[]).await.unwrap().get(0);
    assert_eq!(usize::try_from(taken).unwrap(), answered.len());
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
struct Shop {
    address: SocketAddr,
    _program: Child,
}

impl Shop {
    async fn open(program: &str, url: &str) -> Self {
        let mut program = Command::new(program)
            .env("DATABASE_URL", url)
            .env("LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let line = within("the shop", lines.next_line()).await.unwrap();
        let line = line.unwrap_or_default();
        let address = line.strip_prefix("listening on ").unwrap().parse().unwrap();
        Self {
            address,
            _program: program,
        }
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Request::get(path), Bytes::new()).await
    }

    async fn order(&self, customer: &str, item: &str, pieces: i32) -> (StatusCode, Value) {
        let order = json!({ "customer": customer, "item": item, "pieces": pieces });
        let request = Request::post("/orders").header("content-type", "application/json");
        self.send(request, order.to_string().into()).await
    }

    /// One request, on a connection of its own. What is no JSON comes back as a string.
    async fn send(
        &self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> (StatusCode, Value) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let request = request
            .header("host", "shop")
            .header("connection", "close")
            .body(Full::new(body))
            .unwrap();
        let exchange = async {
            let answer = sender.send_request(request).await.unwrap();
            let status = answer.status();
            (
                status,
                answer.into_body().collect().await.unwrap().to_bytes(),
            )
        };
        let (answer, connection) = tokio::join!(exchange, connection);
        connection.unwrap();
        let (status, body) = answer;
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        (
            status,
            serde_json::from_slice(&body).unwrap_or_else(|_| text()),
        )
    }
}
