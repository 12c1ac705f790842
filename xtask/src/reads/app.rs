//! The same application on each driver.

use std::time::Duration;

use leadpool::{
    Cluster,
    consistency::{ConsistencyToken, ServedBy},
};
use leadpool_diesel::{
    diesel::{self, sql_types::BigInt},
    diesel_async,
};

use super::Driver;
use crate::Result;

const WRITE: &str = "UPDATE reads SET n = $2 WHERE worker = $1";
const READ: &str = "SELECT n, inet_server_port()::int8 AS port FROM reads WHERE worker = $1";
const HIGHEST: &str = "SELECT max(n) FROM reads";
/// Longer than any wait.
const LIMIT: Duration = Duration::from_secs(30);

macro_rules! diesel_write {
    ($worker:expr, $n:expr) => {
        diesel::sql_query(WRITE)
            .bind::<BigInt, _>($worker)
            .bind::<BigInt, _>($n)
    };
}

macro_rules! diesel_read {
    ($worker:expr) => {
        diesel::sql_query(READ).bind::<BigInt, _>($worker)
    };
}

/// What was found, who served, and on which port.
type Found = (i64, ServedBy, u16);

pub(super) enum App {
    Native(leadpool::Pool),
    Sqlx(leadpool_sqlx::Pool),
    Diesel(leadpool_diesel::Pool),
    #[cfg(feature = "diesel-blocking")]
    DieselBlocking(leadpool_diesel::blocking::InteractPool),
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    n: i64,
    #[diesel(sql_type = BigInt)]
    port: i64,
}

impl App {
    pub(super) fn open(driver: Driver, cluster: &Cluster) -> Result<Self> {
        Ok(match driver {
            Driver::TokioPostgres => Self::Native(leadpool::Pool::new(cluster)),
            Driver::Sqlx => {
                Self::Sqlx(leadpool_sqlx::PgPoolOptions::new().connect_cluster(cluster)?)
            }
            Driver::Diesel => Self::Diesel(leadpool_diesel::Pool::new(cluster)),
            #[cfg(feature = "diesel-blocking")]
            Driver::DieselBlocking => {
                let options = leadpool_diesel::blocking::InteractPool::builder();
                Self::DieselBlocking(options.connect_cluster(cluster)?)
            }
        })
    }

    /// The highest number that was ever written.
    pub(super) async fn highest(&self) -> Result<i64> {
        let cluster = match self {
            Self::Native(pool) => pool.cluster(),
            Self::Sqlx(pool) => pool.cluster(),
            Self::Diesel(pool) => pool.cluster(),
            #[cfg(feature = "diesel-blocking")]
            Self::DieselBlocking(pool) => pool.cluster(),
        };
        let client = leadpool::Pool::new(cluster).get().await?;
        Ok(client.query_one(HIGHEST, &[]).await?.get(0))
    }

    pub(super) async fn write(&self, worker: i64, n: i64) -> Result<ConsistencyToken> {
        Ok(match self {
            Self::Native(pool) => {
                let written = pool.tx().run_with_token(move |tx| async move {
                    let write = tx.prepare_cached(WRITE).await?;
                    tx.execute(&write, &[&worker, &n]).await?;
                    Ok(())
                });
                written.await?.1
            }
            Self::Sqlx(pool) => {
                let written = pool.tx().run_with_token(move |mut tx| async move {
                    let write = sqlx::query(WRITE).bind(worker).bind(n);
                    write.execute(&mut *tx).await
                });
                written.await?.1
            }
            Self::Diesel(pool) => {
                use diesel_async::RunQueryDsl as _;

                let written = pool.tx().run_with_token(move |mut tx| async move {
                    diesel_write!(worker, n).execute(&mut tx).await
                });
                written.await?.1
            }
            #[cfg(feature = "diesel-blocking")]
            Self::DieselBlocking(pool) => {
                use diesel::RunQueryDsl as _;

                let written = pool
                    .tx()
                    .run_with_token(move |conn| diesel_write!(worker, n).execute(conn));
                written.await?.1
            }
        })
    }

    /// Reads from whatever standby it is.
    pub(super) async fn read(&self, worker: i64) -> Result<i64> {
        Ok(match self {
            Self::Native(pool) => {
                let client = pool.reader().await?;
                let read = client.prepare_cached(READ).await?;
                client.query_one(&read, &[&worker]).await?.get(0)
            }
            Self::Sqlx(pool) => {
                let read = sqlx::query_as::<_, (i64, i64)>(READ).bind(worker);
                read.fetch_one(&pool.reader()).await?.0
            }
            Self::Diesel(pool) => {
                use diesel_async::RunQueryDsl as _;

                let mut conn = pool.reader().get().await?;
                let row: Row = diesel_read!(worker).get_result(&mut conn).await?;
                row.n
            }
            #[cfg(feature = "diesel-blocking")]
            Self::DieselBlocking(pool) => {
                let conn = pool.reader().get().await?;
                interact(&conn, worker).await?.n
            }
        })
    }

    pub(super) async fn read_at(&self, worker: i64, token: &ConsistencyToken) -> Result<Found> {
        let (n, port, by) = match self {
            Self::Native(pool) => {
                let (client, served) = pool.timeout_reader_at(token, LIMIT).await?;
                let read = client.prepare_cached(READ).await?;
                let row = client.query_one(&read, &[&worker]).await?;
                (row.get(0), row.get(1), served.by)
            }
            Self::Sqlx(pool) => {
                let (mut conn, served) = pool.acquire_at(token, LIMIT).await?;
                let read = sqlx::query_as::<_, (i64, i64)>(READ).bind(worker);
                let (n, port) = read.fetch_one(&mut *conn).await?;
                (n, port, served.by)
            }
            Self::Diesel(pool) => {
                use diesel_async::RunQueryDsl as _;

                let (mut conn, served) = pool.get_at(token, LIMIT).await?;
                let row: Row = diesel_read!(worker).get_result(&mut conn).await?;
                (row.n, row.port, served.by)
            }
            #[cfg(feature = "diesel-blocking")]
            Self::DieselBlocking(pool) => {
                let (conn, served) = pool.get_at(token, LIMIT).await?;
                let row = interact(&conn, worker).await?;
                (row.n, row.port, served.by)
            }
        };
        Ok((n, by, u16::try_from(port)?))
    }
}

#[cfg(feature = "diesel-blocking")]
async fn interact(conn: &leadpool_diesel::blocking::Object, worker: i64) -> Result<Row> {
    use diesel::RunQueryDsl as _;

    let read = conn.interact(move |conn| diesel_read!(worker).get_result(conn));
    Ok(read.await.map_err(|error| error.to_string())??)
}
