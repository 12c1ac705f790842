//! sqlx, and leadpool-sqlx.

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection, postgres::PgPoolOptions};

use super::{Error, INSERT, SELECT_ONE, peer::Peer};

pub(super) fn open(url: &str, size: usize, test: bool) -> Result<PgPool, Error> {
    let pool = PgPoolOptions::new().max_connections(u32::try_from(size)?);
    Ok(pool.test_before_acquire(test).connect_lazy(url)?)
}

pub(super) async fn open_leadpool(url: &str, size: usize) -> Result<leadpool_sqlx::Pool, Error> {
    let pool = leadpool_sqlx::PgPoolOptions::new();
    let pool = pool.max_connections(u32::try_from(size)?);
    Ok(pool.connect(url).await?)
}

async fn select_one(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(SELECT_ONE).fetch_one(conn).await?;
    Ok(())
}

impl Peer for PgPool {
    type Conn = PoolConnection<Postgres>;

    async fn get(&self) -> Result<Self::Conn, Error> {
        Ok(self.acquire().await?)
    }

    async fn select_one(conn: &mut Self::Conn) -> Result<(), Error> {
        select_one(conn).await
    }

    async fn transaction(&self, inserts: u32) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        for _ in 0..inserts {
            sqlx::query(INSERT).bind(1_i64).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }
}

impl Peer for leadpool_sqlx::Pool {
    type Conn = PoolConnection<Postgres>;

    async fn get(&self) -> Result<Self::Conn, Error> {
        Ok(self.acquire().await?)
    }

    async fn select_one(conn: &mut Self::Conn) -> Result<(), Error> {
        select_one(conn).await
    }

    async fn transaction(&self, inserts: u32) -> Result<(), Error> {
        self.run_tx(|mut tx| async move {
            for _ in 0..inserts {
                sqlx::query(INSERT).bind(1_i64).execute(&mut *tx).await?;
            }
            Ok(())
        })
        .await?;
        Ok(())
    }
}
