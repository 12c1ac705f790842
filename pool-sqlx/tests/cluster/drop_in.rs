//! Code that was written for `sqlx::PgPool` runs on the pool as it is.

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;
use leadpool_sqlx::{PgPool, PgPoolOptions, Pool, leadpool};
use sqlx::{
    Acquire, Executor as _, FromRow, PgConnection, PgExecutor, Postgres, Row as _, Transaction,
    pool::PoolConnection,
};

use crate::support::*;

#[derive(Debug, FromRow, PartialEq)]
struct Entry {
    id: i64,
    n: i64,
}

async fn with_connection(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let sql = "INSERT INTO t (n) VALUES (1) RETURNING id";
    sqlx::query_scalar(sql).fetch_one(conn).await
}

async fn with_executor(executor: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM t")
        .fetch_one(executor)
        .await
}

async fn with_any_executor<'e>(
    executor: impl sqlx::Executor<'e, Database = Postgres>,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("INSERT INTO t (n) VALUES ($1)")
        .bind(7_i64)
        .execute(executor)
        .await?;
    Ok(done.rows_affected())
}

async fn with_acquire<'a>(
    acquire: impl Acquire<'a, Database = Postgres>,
) -> Result<i64, sqlx::Error> {
    let mut conn = acquire.acquire().await?;
    with_connection(&mut conn).await
}

async fn with_transaction(tx: &mut Transaction<'_, Postgres>) -> Result<i64, sqlx::Error> {
    with_connection(tx).await
}

#[tokio::test]
async fn every_way_to_run_a_statement() {
    let (_servers, pool) = start().await;
    let done = sqlx::query("INSERT INTO t (n) VALUES (1), (2), (3)")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(done.rows_affected(), 3);
    let all: Vec<Entry> = sqlx::query_as("SELECT id, n FROM t ORDER BY id")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(all[2], Entry { id: 3, n: 3 });
    let of_two: (i64,) = sqlx::query_as("SELECT id FROM t WHERE n = $1")
        .bind(2_i64)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(of_two, (2,));
    let none = sqlx::query("SELECT 1 FROM t WHERE n = 9")
        .fetch_optional(&pool)
        .await
        .unwrap();
    assert!(none.is_none());
    let error = sqlx::query("SELECT 1 FROM t WHERE n = 9")
        .fetch_one(&pool)
        .await
        .unwrap_err();
    assert!(matches!(error, sqlx::Error::RowNotFound));
    let numbers: Vec<i64> = sqlx::query("SELECT n FROM t ORDER BY n")
        .fetch(&pool)
        .map_ok(|row| row.get::<i64, _>(0))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(numbers, [1, 2, 3]);
    sqlx::raw_sql("INSERT INTO t (n) VALUES (4); DELETE FROM t WHERE n = 4")
        .execute(&pool)
        .await
        .unwrap();
    let done = pool.execute("DELETE FROM t").await.unwrap();
    assert_eq!(done.rows_affected(), 3);
    let prepared = pool
        .prepare(sqlx::SqlStr::from_static("SELECT $1::int8 + 1"))
        .await
        .unwrap();
    let sum: i64 = sqlx::Statement::query_scalar(&prepared)
        .bind(1_i64)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(sum, 2);
    assert_eq!(
        pool.describe(sqlx::SqlStr::from_static("SELECT 1"))
            .await
            .unwrap()
            .columns()
            .len(),
        1
    );
}

#[tokio::test]
async fn every_signature_that_helpers_have() {
    let (_servers, pool) = start().await;
    with_executor(&pool).await.unwrap();
    with_any_executor(&pool).await.unwrap();
    with_acquire(&pool).await.unwrap();
    let mut conn: PoolConnection<Postgres> = pool.acquire().await.unwrap();
    with_connection(&mut conn).await.unwrap();
    with_executor(&mut *conn).await.unwrap();
    with_acquire(&mut conn).await.unwrap();
    drop(conn);
    let mut tx: Transaction<'static, Postgres> = pool.begin().await.unwrap();
    with_transaction(&mut tx).await.unwrap();
    with_executor(&mut *tx).await.unwrap();
    with_acquire(&mut tx).await.unwrap();
    let mut nested = tx.begin().await.unwrap();
    with_transaction(&mut nested).await.unwrap();
    nested.rollback().await.unwrap();
    tx.commit().await.unwrap();
    let tx = pool.begin_with("BEGIN READ ONLY").await.unwrap();
    drop(tx);
    // Both through the trait: as `impl Acquire` would.
    let tx = Acquire::begin(&pool).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(with_executor(&pool).await.unwrap(), 6);
}

#[tokio::test]
async fn in_a_task_and_as_shared_state() {
    let (_servers, pool) = start().await;
    let state = Arc::new(pool);
    let theirs = state.clone();
    let task = tokio::spawn(async move {
        with_any_executor(&*theirs).await?;
        let mut tx = theirs.begin().await?;
        with_transaction(&mut tx).await?;
        tx.commit().await?;
        theirs
            .run_tx(|mut tx| async move { with_connection(&mut tx).await })
            .await?;
        Ok::<(), sqlx::Error>(())
    });
    task.await.unwrap().unwrap();
    assert_eq!(with_executor(&*state).await.unwrap(), 3);
}

#[tokio::test]
async fn handles_choose_the_role() {
    let (servers, pool) = start().await;
    let primary = port_of(&servers, 0);
    assert_eq!(port(&pool).await, primary);
    assert_eq!(port(&pool.writer()).await, primary);
    assert_eq!(port(&pool.reader().writer()).await, primary);
    let reader: PgPool = pool.reader();
    for _ in 0..4 {
        assert_ne!(port(&reader).await, primary);
    }
    let mut conn = reader.acquire().await.unwrap();
    assert_ne!(port(&mut *conn).await, primary);
    let error = with_any_executor(&reader).await.unwrap_err();
    let code = error
        .as_database_error()
        .unwrap()
        .code()
        .unwrap()
        .into_owned();
    assert_eq!(code, "25006");
}

#[tokio::test]
async fn a_readers_transaction_only_reads_on_a_standby() {
    let (servers, pool) = start().await;
    let port: i32 = pool
        .reader()
        .run_tx(|mut tx| async move {
            sqlx::query_scalar("SELECT inet_server_port()")
                .fetch_one(&mut *tx)
                .await
        })
        .await
        .unwrap();
    assert_ne!(u16::try_from(port).unwrap(), port_of(&servers, 0));
}

#[tokio::test]
async fn one_monitor_for_two_pools() {
    let servers = leadpool_testkit::Cluster::start().await.unwrap();
    prepare(&servers).await;
    let config = leadpool::Config::from_url(&servers.url()).unwrap();
    let cluster = leadpool::Cluster::connect(config).await.unwrap();
    let native = leadpool::Pool::new(&cluster);
    let pool = PgPoolOptions::new().connect_cluster(&cluster).unwrap();
    let client = servers.connect(0).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND application_name <> 'testkit'";
    let sessions: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(sessions, 1, "the monitor's");
    with_any_executor(&pool).await.unwrap();
    // Closing one leaves the other alone.
    pool.close_within(Duration::from_secs(1)).await;
    assert!(!cluster.is_closed());
    drop(native.get().await.unwrap());
}

#[tokio::test]
async fn what_an_application_may_ask_of_its_pool() {
    let options = PgPoolOptions::new().max_connections(3).min_connections(0);
    let (_servers, pool) = start_as(options).await;
    assert_eq!((pool.size(), pool.num_idle()), (0, 0));
    assert!(pool.try_acquire().is_none());
    assert!(pool.try_begin().await.unwrap().is_none());
    drop(pool.acquire().await.unwrap());
    until("its return", async || pool.num_idle() == 1).await;
    assert_eq!(pool.size(), 1);
    let conn = pool.try_acquire().unwrap();
    assert_eq!((pool.size(), pool.num_idle()), (1, 0));
    drop(conn);
    assert_eq!(pool.options().get_max_connections(), 3);
    assert!(!pool.options().get_test_before_acquire());
    assert!(!pool.is_closed());
    assert!(format!("{pool:?}").contains("Primary"));
}

#[tokio::test]
async fn errors_of_construction_name_the_key() {
    let refused = async |url: &str| Pool::connect(url).await.unwrap_err().to_string();
    assert!(
        refused("postgres://db1/x?sslmod=disable")
            .await
            .contains("sslmod")
    );
    let error = Pool::connect("postgres://u@127.0.0.1:1/x?options=-d%203").await;
    drop(error);
    let quick =
        PgPoolOptions::new().configure(|config| config.startup_timeout(Duration::from_millis(300)));
    let error = quick
        .connect("postgres://u@127.0.0.1:1/x")
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1"), "{text}");
    assert!(matches!(error, sqlx::Error::Io(_)), "{error:?}");
    let inner = leadpool_sqlx::Error::inside(&error).unwrap();
    assert!(matches!(
        inner,
        leadpool_sqlx::Error::Pool(leadpool::Error::NoHost(_))
    ));
}

#[tokio::test]
async fn a_lazy_pool_waits_when_it_is_used() {
    let servers = leadpool_testkit::Cluster::builder()
        .standbys(0)
        .start()
        .await
        .unwrap();
    let pool = Pool::connect_lazy(&servers.url()).unwrap();
    assert_eq!(port(&pool).await, port_of(&servers, 0));
    let error = Pool::connect_lazy("postgres://db1/x?options=-d%203").unwrap_err();
    assert!(error.to_string().contains("options"), "{error}");
}

#[tokio::test]
async fn settings_of_a_session_reach_it() {
    let servers = leadpool_testkit::Cluster::builder()
        .standbys(0)
        .start()
        .await
        .unwrap();
    let url = format!(
        "{}?options=-c%20work_mem%3D77kB&application_name=till",
        servers.url()
    );
    let options = sqlx::postgres::PgConnectOptions::new().options([("lock_timeout", "7s")]);
    let pool = PgPoolOptions::new()
        .connect_options(options)
        .connect(&url)
        .await
        .unwrap();
    let sql = "SELECT concat_ws(' ', current_setting('work_mem'), current_setting('lock_timeout'), \
               current_setting('application_name'))";
    let found: String = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
    assert_eq!(found, "77kB 7s till");
}

/// Code that insists on sqlx's own type.
async fn third_party(pool: &sqlx::PgPool) -> Result<u16, sqlx::Error> {
    let sql = "INSERT INTO t (n) VALUES (1) RETURNING inet_server_port()";
    let port: i32 = sqlx::query_scalar(sql).fetch_one(pool).await?;
    Ok(u16::try_from(port).unwrap())
}

#[tokio::test]
async fn a_real_pg_pool_follows_the_writer() {
    let (servers, pool) = start().await;
    let real = pool.pg_pool();
    assert_eq!(third_party(real).await.unwrap(), port_of(&servers, 0));
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(real.acquire().await.unwrap());
    }
    drop(held);
    servers.switchover(1).await.unwrap();
    follows(&servers, &pool, 1).await;
    for _ in 0..8 {
        let found = soon("a statement", third_party(real)).await.unwrap();
        assert_eq!(found, port_of(&servers, 1));
    }
    let kept = real.clone();
    drop(pool);
    let error = third_party(&kept).await.unwrap_err();
    assert!(matches!(error, sqlx::Error::PoolClosed), "{error}");
}

#[tokio::test]
async fn a_real_pg_pool_waits_for_a_writer() {
    let (servers, pool) = start().await;
    let real = pool.pg_pool();
    third_party(real).await.unwrap();
    servers.kill(0).await.unwrap();
    seen(&pool, "the loss", |topology| topology.writer.is_none()).await;
    // What was idle is closed first; sqlx then tries until there is somebody.
    let (found, promoted) =
        tokio::join!(soon("a statement", third_party(real)), servers.failover());
    assert_eq!(found.unwrap(), port_of(&servers, promoted.unwrap()));
}

#[tokio::test]
async fn a_live_connection_of_a_real_pg_pool_to_a_former_writer_is_not_handed_out() {
    let (servers, pool) = start().await;
    let real = pool.pg_pool();
    third_party(real).await.unwrap();
    until("its return", async || real.num_idle() == 1).await;
    // The old primary lives on, and would take writes.
    servers.promote(1).await.unwrap();
    follows(&servers, &pool, 1).await;
    for _ in 0..4 {
        let found = soon("a statement", third_party(real)).await.unwrap();
        assert_eq!(found, port_of(&servers, 1));
    }
}
