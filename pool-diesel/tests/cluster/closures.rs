//! Every shape of closure, and of helper, that people write. To be compiled is all that these are
//! for: none is ever called, and there are no tables for them.

use std::{rc::Rc, sync::Arc};

use diesel::{pg::Pg, prelude::*, sql_query, sql_types::Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use leadpool_diesel::{Error, Pool, Tx};

diesel::table! {
    orders (id) {
        id -> BigInt,
        item -> Text,
    }
}

async fn as_it_is(pool: &Pool) -> Result<usize, Error> {
    pool.run_tx(|mut tx| async move { sql_query("SELECT 1").execute(&mut tx).await })
        .await
}

async fn with_a_value(pool: &Pool) -> Result<i64, Error> {
    let id = pool
        .run_tx(|mut tx| async move {
            let id: i64 = diesel::insert_into(orders::table)
                .values(orders::item.eq("lamp"))
                .returning(orders::id)
                .get_result(&mut *tx)
                .await?;
            Ok(id)
        })
        .await?;
    Ok(id)
}

async fn with_async_closures(pool: &Pool, item: String) -> Result<(), Error> {
    pool.run_tx(async |mut tx| {
        sql_query("SELECT $1")
            .bind::<Text, _>(&item)
            .execute(&mut tx)
            .await?;
        Ok(())
    })
    .await?;
    pool.run_tx(async move |mut tx| {
        sql_query("SELECT $1")
            .bind::<Text, _>(&item)
            .execute(&mut tx)
            .await?;
        Ok(())
    })
    .await
}

async fn borrowing(pool: &Pool, items: &[String], note: &str) -> Result<usize, Error> {
    pool.run_tx(|mut tx| async move {
        let mut written = 0;
        for item in items {
            let row = orders::item.eq(format!("{item} {note}"));
            written += diesel::insert_into(orders::table)
                .values(row)
                .execute(&mut tx)
                .await?;
        }
        Ok(written)
    })
    .await
}

async fn named(mut tx: Tx) -> QueryResult<()> {
    sql_query("SELECT 1").execute(&mut tx).await?;
    Ok(())
}

async fn with_connection(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    sql_query("SELECT 1").execute(conn).await
}

async fn with_any(conn: &mut impl AsyncConnection<Backend = Pg>) -> QueryResult<Vec<i64>> {
    orders::table.select(orders::id).load(conn).await
}

async fn helpers(pool: &Pool) -> Result<(), Error> {
    pool.run_tx(named).await?;
    pool.run_tx(|mut tx| async move {
        with_connection(&mut tx).await?;
        with_any(&mut tx).await?;
        with_any(&mut *tx).await?;
        tx.transaction(async |conn| with_connection(conn).await)
            .await?;
        tx.transaction(async |conn| conn.transaction(async |conn| with_any(conn).await).await)
            .await
    })
    .await?;
    Ok(())
}

async fn spawned(pool: Pool, items: Arc<Vec<String>>) {
    let task = tokio::spawn(async move {
        let conn = &mut pool.get().await.unwrap();
        with_connection(conn).await.unwrap();
        pool.run_tx(|mut tx| {
            let items = items.clone();
            async move {
                for item in items.iter() {
                    sql_query("SELECT $1")
                        .bind::<Text, _>(item)
                        .execute(&mut tx)
                        .await?;
                }
                with_connection(&mut tx).await
            }
        })
        .await
    });
    let _ = task.await;
}

/// On a runtime of one thread, where nothing has to be `Send`.
async fn not_send(pool: &Pool, note: Rc<str>) -> Result<(), Error> {
    pool.run_tx(|mut tx| {
        let note = note.clone();
        async move {
            sql_query("SELECT $1")
                .bind::<Text, _>(&*note)
                .execute(&mut tx)
                .await?;
            Ok(())
        }
    })
    .await
}

/// As closures of diesel-async's `transaction` are written.
async fn by_reference(pool: &Pool, items: &[String]) -> Result<usize, Error> {
    pool.run_tx_ref(async |conn| {
        let mut written = 0;
        for item in items {
            let row = orders::item.eq(item);
            written += diesel::insert_into(orders::table)
                .values(row)
                .execute(conn)
                .await?;
        }
        with_connection(conn).await?;
        conn.transaction(async |conn| with_any(conn).await).await?;
        Ok(written)
    })
    .await
}

async fn by_reference_spawned(pool: Pool, item: String) {
    let task = tokio::spawn(async move {
        pool.run_tx_ref(async |conn| {
            sql_query("SELECT $1")
                .bind::<Text, _>(&item)
                .execute(conn)
                .await?;
            with_connection(conn).await
        })
        .await?;
        pool.tx()
            .read_only(true)
            .run_ref(async move |conn| with_connection(conn).await.map(|done| (done, item)))
            .await
    });
    let _ = task.await;
}

#[derive(Debug, thiserror::Error)]
enum ShopError {
    #[error("sold out")]
    SoldOut,
    #[error(transparent)]
    Database(#[from] diesel::result::Error),
    #[error(transparent)]
    Pool(#[from] Error),
}

async fn own_error(pool: &Pool) -> Result<(), ShopError> {
    pool.try_run_tx(|mut tx| async move {
        match with_connection(&mut tx).await? {
            0 => Err(ShopError::SoldOut),
            _ => Ok(()),
        }
    })
    .await
}

/// `?` in a function that returns diesel's errors.
async fn diesels_error(pool: &Pool) -> QueryResult<()> {
    pool.run_tx(named).await?;
    Ok(())
}

fn assert_send<T: Send>(_: T) {}

fn all(pool: &'static Pool) {
    assert_send(as_it_is(pool));
    assert_send(with_a_value(pool));
    assert_send(with_async_closures(pool, String::new()));
    assert_send(borrowing(pool, &[], ""));
    assert_send(helpers(pool));
    assert_send(spawned(pool.clone(), Arc::default()));
    assert_send(by_reference(pool, &[]));
    assert_send(by_reference_spawned(pool.clone(), String::new()));
    assert_send(own_error(pool));
    assert_send(diesels_error(pool));
    assert_send(pool.get());
    assert_send(pool.tx().run(named));
    drop(not_send(pool, "".into()));
}

const _: fn(&'static Pool) = all;
