//! What the tests share.

use std::time::Duration;

use leadpool_sqlx::{PgPoolOptions, Pool, leadpool::topology::Topology};
use leadpool_testkit::Cluster as Servers;

/// A pool with default settings, and what it follows.
pub(crate) async fn start() -> (Servers, Pool) {
    start_as(PgPoolOptions::new()).await
}

pub(crate) async fn start_as(options: PgPoolOptions) -> (Servers, Pool) {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let pool = options.connect(&servers.url()).await.unwrap();
    (servers, pool)
}

/// The same through proxies.
pub(crate) async fn start_proxied() -> (Servers, Pool) {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.proxied_url()).await.unwrap();
    (servers, pool)
}

/// One host behind a proxy.
pub(crate) async fn one_server() -> Servers {
    let one = Servers::builder().standbys(0).proxies(true);
    let servers = one.start().await.unwrap();
    prepare(&servers).await;
    servers
}

/// A pool of one host behind a proxy.
pub(crate) async fn start_one(options: PgPoolOptions) -> (Servers, Pool) {
    let servers = one_server().await;
    let pool = options.connect(&servers.proxied_url()).await.unwrap();
    (servers, pool)
}

/// Which process of the server answers.
pub(crate) async fn backend(executor: impl sqlx::PgExecutor<'_>) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(executor)
        .await
        .unwrap()
}

/// How many sessions applications have, the monitor's included.
pub(crate) async fn sessions(servers: &Servers) -> i64 {
    let client = servers.connect(0).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND application_name <> 'testkit'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Makes the table that the tests write to.
pub(crate) async fn prepare(servers: &Servers) {
    let client = servers.connect(servers.primary()).await.unwrap();
    client
        .batch_execute("CREATE TABLE t (id bigserial PRIMARY KEY, n bigint)")
        .await
        .unwrap();
    servers.wait_replayed().await.unwrap();
}

/// Where a statement runs.
pub(crate) async fn port(executor: impl sqlx::PgExecutor<'_>) -> u16 {
    let port: i32 = sqlx::query_scalar("SELECT inet_server_port()")
        .fetch_one(executor)
        .await
        .unwrap();
    u16::try_from(port).unwrap()
}

pub(crate) fn port_of(servers: &Servers, host: usize) -> u16 {
    servers.addr(host).unwrap().port()
}

/// How many rows the primary has.
pub(crate) async fn rows(servers: &Servers) -> i64 {
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = "SELECT count(*) FROM t";
    client.query_one(sql, &[]).await.unwrap().get(0)
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

/// Waits until the monitor's picture shows something.
pub(crate) async fn seen(pool: &Pool, what: &str, found: impl Fn(&Topology) -> bool) {
    until(what, async || found(&pool.cluster().topology())).await;
}

/// Waits until the pool's writer is this host.
pub(crate) async fn follows(servers: &Servers, pool: &Pool, host: usize) {
    let port = port_of(servers, host);
    seen(pool, "the new writer", |topology| {
        topology
            .writer
            .as_ref()
            .is_some_and(|host| host.port() == port)
    })
    .await;
}

/// No session of an application is in a transaction, sooner or later.
pub(crate) async fn no_open_transactions(servers: &Servers) {
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE state LIKE 'idle in transaction%' AND application_name <> 'testkit'";
    until("the end of all transactions", async || {
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}
