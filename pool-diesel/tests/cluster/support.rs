//! What the tests share.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use diesel::{
    QueryResult,
    dsl::sql,
    prelude::*,
    result::{DatabaseErrorKind, Error as DieselError},
    sql_types::{BigInt, Integer, Text},
};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use leadpool_diesel::{
    Pool, PoolError,
    diesel_async::{self, pooled_connection::deadpool::Object},
    leadpool::topology::Topology,
};
use leadpool_testkit::Cluster as Servers;

diesel::table! {
    t (id) {
        id -> BigInt,
        n -> BigInt,
    }
}

pub(crate) type Conn = Object<AsyncPgConnection>;

/// A pool with default settings, and what it follows.
pub(crate) async fn start() -> (Servers, Pool) {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    (servers, pool)
}

/// The same through proxies.
pub(crate) async fn start_proxied() -> (Servers, Pool) {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.proxied_url()).await.unwrap();
    (servers, pool)
}

/// A pool of one host behind a proxy, of this size.
pub(crate) async fn start_one(size: usize) -> (Servers, Pool) {
    let one = Servers::builder().standbys(0).proxies(true);
    let servers = one.start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::builder(&servers.proxied_url()).max_size(size);
    let pool = pool.build().await.unwrap();
    (servers, pool)
}

/// Makes the table that the tests write to.
pub(crate) async fn prepare(servers: &Servers) {
    let client = servers.connect(servers.primary()).await.unwrap();
    client
        .batch_execute("CREATE TABLE t (id bigserial PRIMARY KEY, n bigint NOT NULL)")
        .await
        .unwrap();
    servers.wait_replayed().await.unwrap();
}

/// As an application writes it.
pub(crate) async fn insert(conn: &mut AsyncPgConnection, n: i64) -> QueryResult<i64> {
    diesel::insert_into(t::table)
        .values(t::n.eq(n))
        .returning(t::id)
        .get_result(conn)
        .await
}

pub(crate) async fn backend(conn: &mut AsyncPgConnection) -> i32 {
    let pid = diesel::select(sql::<Integer>("pg_backend_pid()"));
    pid.get_result(conn).await.unwrap()
}

/// Which server a connection leads to.
pub(crate) async fn port(conn: &mut AsyncPgConnection) -> u16 {
    let port = diesel::select(sql::<Integer>("inet_server_port()"));
    let port: i32 = port.get_result(conn).await.unwrap();
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

pub(crate) fn idle(pool: &Pool) -> usize {
    let sub_pools = pool.status().sub_pools;
    sub_pools.iter().map(|sub_pool| sub_pool.counts.idle).sum()
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

/// Not by its method `load`: `RunQueryDsl` has one of that name for every type.
pub(crate) fn count(counter: &AtomicU32) -> u32 {
    AtomicU32::load(counter, Ordering::Relaxed)
}

/// Why there was no connection, which is not `Debug`.
pub(crate) fn refusal(taken: Result<Conn, PoolError>) -> PoolError {
    match taken {
        Ok(_) => panic!("there was a connection"),
        Err(error) => error,
    }
}

/// No session of an application is left, sooner or later; nor of the monitor's.
pub(crate) async fn no_sessions(servers: &Servers) {
    let client = servers.connect(0).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND application_name <> 'testkit'";
    until("the end of all sessions", async || {
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

pub(crate) async fn fail(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    diesel::sql_query("SELECT 1 FROM nowhere")
        .execute(conn)
        .await
}

pub(crate) async fn raise(conn: &mut AsyncPgConnection, code: &str) -> QueryResult<usize> {
    let sql = format!("DO $$ BEGIN RAISE EXCEPTION 'x{code}' USING ERRCODE = '{code}'; END $$");
    diesel::sql_query(sql).execute(conn).await
}

/// All connections can be had at once, and none holds a transaction.
pub(crate) async fn is_whole(servers: &Servers, pool: &Pool) {
    let mut held = Vec::new();
    let most = pool.cluster().config().pool().writer_size;
    while held.len() < most {
        let mut conn = soon("a connection", pool.get()).await.unwrap();
        match conn.transaction(async |conn| insert_none(conn).await).await {
            Ok(_) => held.push(conn),
            // The server has ended it a moment ago.
            Err(DieselError::DatabaseError(
                DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::Unknown,
                _,
            )) => {}
            Err(error) => panic!("{error}"),
        }
    }
    drop(held);
    no_open_transactions(servers).await;
}

pub(crate) async fn insert_none(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    diesel::delete(t::table.filter(t::n.lt(0)))
        .execute(conn)
        .await
}

pub(crate) async fn backend_of(conn: &mut AsyncPgConnection) -> QueryResult<i32> {
    Ok(backend(conn).await)
}

/// What an expression in SQL gives.
pub(crate) async fn number(conn: &mut AsyncPgConnection, expression: &str) -> i64 {
    let asked = diesel::select(sql::<BigInt>(&format!("({expression})::bigint")));
    asked.get_result(conn).await.unwrap()
}

pub(crate) async fn text(conn: &mut AsyncPgConnection, expression: &str) -> String {
    let asked = diesel::select(sql::<Text>(expression));
    asked.get_result(conn).await.unwrap()
}

/// The sessions on the primary, but those of the testkit.
pub(crate) async fn backends(servers: &Servers) -> Vec<i32> {
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = "SELECT pid FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND application_name <> 'testkit'";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
