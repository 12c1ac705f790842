//! Every shape of closure, and of helper, that people write. To be compiled is all that these are
//! for: none is ever called, and there are no tables for them.

use std::{rc::Rc, sync::Arc};

use leadpool_sqlx::{Error, PgPool, Pool, Tx};
use sqlx::{Acquire, Connection, Executor, PgConnection, PgExecutor, Postgres, Transaction};

async fn as_it_is(pool: &Pool) -> Result<u64, Error> {
    let done = pool
        .run_tx(|mut tx| async move { sqlx::query("SELECT 1").execute(&mut *tx).await })
        .await?;
    Ok(done.rows_affected())
}

async fn with_async_move(pool: &Pool) -> Result<i64, Error> {
    let id = pool
        .run_tx(|mut tx| async move {
            let id: i64 = sqlx::query_scalar("INSERT INTO orders DEFAULT VALUES RETURNING id")
                .fetch_one(&mut *tx)
                .await?;
            Ok(id)
        })
        .await?;
    Ok(id)
}

async fn with_async_closures(pool: &Pool, name: String) -> Result<(), Error> {
    pool.run_tx(async |mut tx| {
        sqlx::query("INSERT INTO t (name) VALUES ($1)")
            .bind(&name)
            .execute(&mut *tx)
            .await?;
        Ok(())
    })
    .await?;
    pool.run_tx(async move |mut tx| {
        sqlx::query("INSERT INTO t (name) VALUES ($1)")
            .bind(&name)
            .execute(&mut tx)
            .await?;
        Ok(())
    })
    .await
}

async fn borrowing(pool: &Pool, names: &[String], note: &str) -> Result<u64, Error> {
    pool.run_tx(|mut tx| async move {
        let mut written = 0;
        for name in names {
            let done = sqlx::query("INSERT INTO t VALUES ($1, $2)")
                .bind(name)
                .bind(note)
                .execute(&mut *tx)
                .await?;
            written += done.rows_affected();
        }
        Ok(written)
    })
    .await
}

async fn named(mut tx: Tx) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT 1").execute(&mut *tx).await?;
    Ok(())
}

async fn with_a_function(pool: &Pool) -> Result<(), Error> {
    pool.run_tx(named).await
}

async fn on_connection(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT 1").execute(conn).await.map(drop)
}

async fn on_executor(executor: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT 1").execute(executor).await.map(drop)
}

async fn on_any_executor<'e>(
    executor: impl Executor<'e, Database = Postgres>,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT 1").execute(executor).await.map(drop)
}

async fn on_acquire<'a>(acquire: impl Acquire<'a, Database = Postgres>) -> Result<(), sqlx::Error> {
    let mut conn = acquire.acquire().await?;
    on_connection(&mut conn).await
}

#[expect(clippy::explicit_auto_deref, reason = "as people write it")]
async fn on_transaction(tx: &mut Transaction<'_, Postgres>) -> Result<(), sqlx::Error> {
    on_connection(&mut **tx).await
}

async fn with_helpers(pool: &PgPool) -> Result<(), Error> {
    pool.run_tx(|mut tx| async move {
        on_connection(&mut tx).await?;
        on_executor(&mut *tx).await?;
        on_executor(&mut tx).await?;
        on_any_executor(&mut *tx).await?;
        let mut nested = tx.begin().await?;
        on_transaction(&mut nested).await?;
        nested.commit().await?;
        let mut nested = Connection::begin(&mut *tx).await?;
        on_transaction(&mut nested).await?;
        nested.rollback().await?;
        Ok(())
    })
    .await
}

/// Not in a task: sqlx's own `impl Acquire` is not general enough there either.
async fn with_acquire(pool: &PgPool) -> Result<(), Error> {
    on_acquire(pool).await?;
    on_acquire(&pool.reader()).await?;
    pool.run_tx(|mut tx| async move {
        on_acquire(&mut *tx).await?;
        on_acquire(&mut tx).await
    })
    .await
}

async fn on_the_pool(pool: &PgPool) -> Result<(), sqlx::Error> {
    on_executor(pool).await?;
    on_any_executor(pool).await?;
    on_executor(&pool.reader()).await?;
    let mut conn = pool.acquire().await?;
    on_connection(&mut conn).await?;
    let mut tx = pool.begin().await?;
    on_transaction(&mut tx).await?;
    tx.commit().await?;
    // `?` turns its errors into sqlx's.
    pool.run_tx(named).await?;
    Ok(())
}

async fn generic<T: Clone + Send + Sync>(pool: &Pool, value: T) -> Result<T, Error> {
    pool.run_tx(|mut tx| {
        let value = value.clone();
        async move {
            sqlx::query("SELECT 1").execute(&mut *tx).await?;
            Ok(value)
        }
    })
    .await
}

async fn shared(pool: Pool, names: Arc<Vec<String>>) -> Result<(), Error> {
    pool.run_tx(|mut tx| {
        let names = names.clone();
        async move {
            sqlx::query("SELECT $1")
                .bind(&names[0])
                .execute(&mut *tx)
                .await?;
            Ok(())
        }
    })
    .await
}

async fn not_send(pool: &Pool) -> Result<usize, Error> {
    let names = Rc::new(vec![1, 2, 3]);
    pool.run_tx(|mut tx| {
        let names = names.clone();
        async move {
            sqlx::query("SELECT 1").execute(&mut *tx).await?;
            Ok(names.len())
        }
    })
    .await
}

trait Repository {
    fn save(&self, name: &str) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Repository for Pool {
    async fn save(&self, name: &str) -> Result<(), Error> {
        self.run_tx(|mut tx| async move {
            sqlx::query("INSERT INTO t (name) VALUES ($1)")
                .bind(name)
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await
    }
}

fn assert_send<T: Send>(_: T) {}

fn all(pool: &'static Pool) {
    assert_send(as_it_is(pool));
    assert_send(with_async_move(pool));
    assert_send(with_async_closures(pool, String::new()));
    assert_send(borrowing(pool, &[], ""));
    assert_send(with_a_function(pool));
    assert_send(with_helpers(pool));
    assert_send(on_the_pool(pool));
    assert_send(generic(pool, 1));
    assert_send(shared(pool.clone(), Arc::default()));
    assert_send(pool.save("x"));
    assert_send(pool.acquire());
    assert_send(pool.begin());
    assert_send(pool.tx().run(named));
    drop(not_send(pool));
    drop(with_acquire(pool));
    tokio::spawn(shared(pool.clone(), Arc::default()));
    tokio::spawn(on_the_pool(pool));
}

const _: fn(&'static Pool) = all;
