//! Tests as an application has them.

use std::{env, time::Duration};

use leadpool_sqlx::{PgPool, PgPoolOptions};
use sqlx::{
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions as SqlxOptions},
};
use tokio::time::timeout;

static MIGRATOR: Migrator = sqlx::migrate!("tests/sqlx_test/migrations");

/// What is tested.
async fn order(pool: &PgPool, item: &str) -> Result<i64, leadpool_sqlx::Error> {
    pool.run_tx(async |mut tx| {
        sqlx::query_scalar("INSERT INTO orders (item) VALUES ($1) RETURNING id")
            .bind(item)
            .fetch_one(&mut *tx)
            .await
    })
    .await
}

async fn items(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    let sql = "SELECT item FROM orders ORDER BY id";
    sqlx::query_scalar(sql).fetch_all(pool).await
}

#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "run by `with_servers`"]
async fn begins_empty(_: SqlxOptions, options: PgConnectOptions) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .connect_with(options)
        .await?;
    assert_eq!(order(&pool, "a pear").await?, 1);
    assert_eq!(items(&pool).await?, ["a pear"]);
    pool.close().await;
    Ok(())
}

#[sqlx::test(migrator = "MIGRATOR", fixtures("two_orders"))]
#[ignore = "run by `with_servers`"]
async fn begins_with_fixtures(
    _: SqlxOptions,
    options: PgConnectOptions,
) -> Result<(), sqlx::Error> {
    let pool = PgPool::connect_with(options).await?;
    assert_eq!(order(&pool, "a pear").await?, 3);
    assert_eq!(items(&pool).await?, ["plums", "a melon", "a pear"]);
    pool.close().await;
    Ok(())
}

/// A test that takes sqlx's pool, and needs leadpool's for what it calls.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "run by `with_servers`"]
async fn beside_sqlxs_pool(sqlx: sqlx::PgPool) -> Result<(), sqlx::Error> {
    let pool = PgPool::connect_with(sqlx.connect_options().as_ref().clone()).await?;
    order(&pool, "a pear").await?;
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(&sqlx)
        .await?;
    assert_eq!(n, 1);
    pool.close().await;
    Ok(())
}

/// With all hosts, where a test needs standbys too.
#[sqlx::test(migrator = "MIGRATOR", fixtures("two_orders"))]
#[ignore = "run by `with_servers`"]
async fn on_all_hosts(_: SqlxOptions, options: PgConnectOptions) -> Result<(), sqlx::Error> {
    let database = options.get_database().unwrap_or_default().to_owned();
    let pool = PgPoolOptions::new()
        .configure(move |config| config.dbname(&database))
        .connect(&env::var("CLUSTER_URL").unwrap())
        .await?;
    let position: String = sqlx::query_scalar("SELECT pg_current_wal_lsn()::text")
        .fetch_one(&pool)
        .await?;
    let reader = pool.reader();
    // As long as no standby is known, the writer answers, with NULL.
    let is_replayed = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)";
    let replayed = async {
        loop {
            let asked = sqlx::query_scalar(is_replayed).bind(&position);
            match asked.fetch_one(&reader).await {
                Ok(false) => tokio::task::yield_now().await,
                ended => return ended,
            }
        }
    };
    let is_there: bool = timeout(Duration::from_secs(20), replayed).await.unwrap()?;
    assert!(is_there);
    assert_eq!(items(&reader).await?, ["plums", "a melon"]);
    pool.close().await;
    Ok(())
}

/// Made when it is needed.
#[sqlx::test(migrator = "MIGRATOR")]
#[ignore = "run by `with_servers`"]
async fn lazily(_: SqlxOptions, options: PgConnectOptions) -> Result<(), sqlx::Error> {
    let pool = PgPool::connect_lazy_with(options)?;
    assert_eq!(order(&pool, "a pear").await?, 1);
    pool.close().await;
    Ok(())
}
