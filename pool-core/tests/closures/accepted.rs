//! Every shape of closure, and of helper, that people write. To be compiled is all that these are
//! for: none is ever called, and there are no tables for them.

use std::{rc::Rc, sync::Arc};

use leadpool::{Error, Pool, Tx, deadpool_postgres::GenericClient};

async fn with_async_move(pool: &Pool) -> Result<i64, Error> {
    let id = pool
        .run_tx(|tx| async move {
            let row = tx
                .query_one("INSERT INTO orders DEFAULT VALUES RETURNING id", &[])
                .await?;
            Ok(row.get::<_, i64>(0))
        })
        .await?;
    Ok(id)
}

async fn with_async_closures(pool: &Pool, name: String) -> Result<(), Error> {
    pool.run_tx(async |tx| {
        tx.execute("INSERT INTO t (name) VALUES ($1)", &[&name])
            .await?;
        Ok(())
    })
    .await?;
    pool.run_tx(async move |tx| {
        tx.execute("INSERT INTO t (name) VALUES ($1)", &[&name])
            .await?;
        Ok(())
    })
    .await
}

async fn borrowing(pool: &Pool, names: &[String], note: &str) -> Result<u64, Error> {
    pool.run_tx(|tx| async move {
        let mut written = 0;
        for name in names {
            written += tx
                .execute("INSERT INTO t VALUES ($1, $2)", &[&name, &note])
                .await?;
        }
        Ok(written)
    })
    .await
}

async fn named(tx: Tx) -> Result<(), Error> {
    tx.execute("SELECT 1", &[]).await?;
    Ok(())
}

async fn with_a_function(pool: &Pool) -> Result<(), Error> {
    pool.run_tx(named).await
}

async fn helper(client: &impl GenericClient) -> Result<(), tokio_postgres::Error> {
    client.execute("SELECT 1", &[]).await.map(drop)
}

async fn with_a_helper(pool: &Pool) -> Result<(), Error> {
    pool.run_tx(|tx| async move {
        helper(&*tx).await?;
        Ok(())
    })
    .await
}

async fn generic<T: Clone + Send + Sync>(pool: &Pool, value: T) -> Result<T, Error> {
    pool.run_tx(|tx| {
        let value = value.clone();
        async move {
            tx.execute("SELECT 1", &[]).await?;
            Ok(value)
        }
    })
    .await
}

async fn shared(pool: Pool, names: Arc<Vec<String>>) -> Result<(), Error> {
    pool.run_tx(|tx| {
        let names = names.clone();
        async move {
            tx.execute("SELECT $1", &[&names[0]]).await?;
            Ok(())
        }
    })
    .await
}

async fn not_send(pool: &Pool) -> Result<usize, Error> {
    let names = Rc::new(vec![1, 2, 3]);
    pool.run_tx(|tx| {
        let names = names.clone();
        async move {
            tx.execute("SELECT 1", &[]).await?;
            Ok(names.len())
        }
    })
    .await
}

async fn with_anybodys_error(pool: &Pool) -> Result<(), Box<dyn std::error::Error>> {
    pool.run_tx(|tx| async move {
        let n = "12".parse::<i64>().map_err(Error::user)?;
        tx.execute("SELECT $1", &[&n]).await?;
        Ok(())
    })
    .await?;
    Ok(())
}

trait Repository {
    fn save(&self, name: &str) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Repository for Pool {
    async fn save(&self, name: &str) -> Result<(), Error> {
        self.run_tx(|tx| async move {
            tx.execute("INSERT INTO t (name) VALUES ($1)", &[&name])
                .await?;
            Ok(())
        })
        .await
    }
}

fn assert_send<T: Send>(_: T) {}

#[expect(clippy::disallowed_methods, reason = "never called")]
fn all(pool: &'static Pool) {
    assert_send(with_async_move(pool));
    assert_send(with_async_closures(pool, String::new()));
    assert_send(borrowing(pool, &[], ""));
    assert_send(with_a_function(pool));
    assert_send(with_a_helper(pool));
    assert_send(generic(pool, 1));
    assert_send(shared(pool.clone(), Arc::default()));
    assert_send(pool.save("x"));
    assert_send(pool.get());
    assert_send(pool.tx().run(named));
    drop(not_send(pool));
    drop(with_anybodys_error(pool));
    tokio::spawn(shared(pool.clone(), Arc::default()));
}

const _: fn(&'static Pool) = all;
