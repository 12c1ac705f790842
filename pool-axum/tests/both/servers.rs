//! Servers, and the wait for what they do.

use std::time::Duration;

use leadpool::{Pool, config::ConfigBuilder, consistency::SigningKeys};
use leadpool_testkit::Cluster as Servers;

use crate::support::{App, send};

/// What a client sends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }
}

/// An answer that has been read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(found, _)| found == name)?;
        Some(value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// It is a problem of this kind, and tells nothing of what is inside.
    pub(crate) fn assert_problem(&self, status: u16, code: &str, servers: &Servers) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let body = self.json();
        assert_eq!(body["code"], code, "{self:?}");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], "about:blank");
        let retries = matches!(code, "unavailable" | "overloaded" | "try_again");
        assert_eq!(self.header("retry-after").is_some(), retries, "{self:?}");
        for host in 0..servers.hosts() {
            let addr = servers.addr(host).unwrap();
            for inner in [addr.port().to_string(), addr.ip().to_string()] {
                assert!(!self.body.contains(&inner), "{self:?}");
            }
        }
        for inner in [
            "INSERT",
            "SELECT",
            "relation",
            "connection",
            "postgres",
            "leadpool",
        ] {
            assert!(!self.body.contains(inner), "{self:?}");
        }
    }
}

pub(crate) async fn get(app: &App, path: &str) -> Answer {
    send(app, Asked::new("GET", path)).await
}

pub(crate) async fn post(app: &App, path: &str) -> Answer {
    send(app, Asked::new("POST", path)).await
}

/// That sign the tokens of all applications here.
pub(crate) fn keys() -> SigningKeys {
    SigningKeys::new([[7; 32]]).unwrap()
}

/// A cluster with the table that the handlers write to.
pub(crate) async fn start() -> Servers {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    servers
}

/// The same through proxies.
pub(crate) async fn start_proxied() -> Servers {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    servers
}

async fn prepare(servers: &Servers) {
    let client = servers.connect(servers.primary()).await.unwrap();
    let table = "CREATE TABLE t (id bigserial PRIMARY KEY, n bigint)";
    client.batch_execute(table).await.unwrap();
    servers.wait_replayed().await.unwrap();
}

pub(crate) async fn pool_with(
    servers: &Servers,
    change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> Pool {
    let pool = Pool::builder(&servers.url()).configure(change);
    pool.build().await.unwrap()
}

/// How many rows the primary has.
pub(crate) async fn rows(servers: &Servers) -> i64 {
    count(servers, "SELECT count(*) FROM t").await
}

/// How many transactions of the application are open.
pub(crate) async fn open(servers: &Servers) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE xact_start IS NOT NULL AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()";
    count(servers, sql).await
}

async fn count(servers: &Servers, sql: &str) -> i64 {
    let client = servers.connect(servers.primary()).await.unwrap();
    client.query_one(sql, &[]).await.unwrap().get(0)
}

pub(crate) fn port_of(servers: &Servers, host: usize) -> String {
    servers.addr(host).unwrap().port().to_string()
}

/// Fails a test that hangs, with a name for what hung.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: still waiting after 20 s"),
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
