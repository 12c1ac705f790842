//! What the tests share.

use std::time::Duration;

use diesel::{PgConnection, QueryableByName, RunQueryDsl as _, sql_types};
use leadpool_diesel::{
    blocking::{
        Builder, Pool,
        r2d2::{ConnectionManager, PooledConnection},
    },
    leadpool::topology::Topology,
};
use leadpool_testkit::Cluster as Servers;
use tokio::task::spawn_blocking;

/// The URL of a cluster, as a manager of r2d2's.
pub(crate) fn manager(url: impl Into<String>) -> ConnectionManager<PgConnection> {
    ConnectionManager::new(url)
}

pub(crate) async fn start() -> (Servers, Pool) {
    start_as(Pool::builder()).await
}

pub(crate) async fn start_as(builder: Builder) -> (Servers, Pool) {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let url = servers.url();
    let pool = blocking(move || builder.build(manager(url)).unwrap()).await;
    (servers, pool)
}

/// The same through proxies.
pub(crate) async fn start_proxied() -> (Servers, Pool) {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let url = servers.proxied_url();
    let pool = blocking(move || Pool::connect(&url).unwrap()).await;
    (servers, pool)
}

/// Runs synchronous code as an application does, in a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    soon("synchronous code", spawn_blocking(run)).await.unwrap()
}

#[derive(QueryableByName)]
pub(crate) struct Number {
    #[diesel(sql_type = sql_types::BigInt)]
    pub(crate) n: i64,
}

/// The answer to a question whose column is `n`.
pub(crate) fn number(conn: &mut PgConnection, sql: &str) -> diesel::QueryResult<i64> {
    Ok(diesel::sql_query(sql).get_result::<Number>(conn)?.n)
}

pub(crate) fn backend(conn: &mut PooledConnection) -> i64 {
    number(conn, "SELECT pg_backend_pid()::int8 AS n").unwrap()
}

/// Where a statement runs.
pub(crate) fn port(conn: &mut PgConnection) -> u16 {
    let port = number(conn, "SELECT inet_server_port()::int8 AS n").unwrap();
    u16::try_from(port).unwrap()
}

diesel::table! {
    t (id) {
        id -> BigInt,
        n -> Nullable<BigInt>,
    }
}

pub(crate) const INSERT: &str = "INSERT INTO t (n) VALUES (1)";

pub(crate) fn insert(conn: &mut PgConnection) -> diesel::QueryResult<usize> {
    diesel::sql_query(INSERT).execute(conn)
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

/// Waits until a statement with this text runs on a host, or sleeps there.
pub(crate) async fn runs(servers: &Servers, host: usize, text: &str) {
    let client = servers.connect(host).await.unwrap();
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{text}%' \
         AND state = 'active' AND pid <> pg_backend_pid()"
    );
    until("the statement", async || {
        client.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0) > 0
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
