//! bb8-postgres.

use bb8_postgres::{
    PostgresConnectionManager,
    bb8::{ManageConnection, Pool, PooledConnection},
};
use tokio_postgres::NoTls;

use super::{Error, peer::Peer, prepared::Prepared};

/// bb8-postgres' own manager, and the statements of each connection.
pub(super) struct Manager(PostgresConnectionManager<NoTls>);

pub(super) fn open(url: &str, size: usize, test: bool) -> Result<Pool<Manager>, Error> {
    let manager = PostgresConnectionManager::new_from_stringlike(url, NoTls)?;
    let pool = Pool::builder().max_size(u32::try_from(size)?);
    Ok(pool
        .test_on_check_out(test)
        .build_unchecked(Manager(manager)))
}

impl ManageConnection for Manager {
    type Connection = Prepared;
    type Error = tokio_postgres::Error;

    async fn connect(&self) -> Result<Prepared, Self::Error> {
        self.0.connect().await.map(Prepared::new)
    }

    async fn is_valid(&self, conn: &mut Prepared) -> Result<(), Self::Error> {
        self.0.is_valid(&mut conn.client).await
    }

    fn has_broken(&self, conn: &mut Prepared) -> bool {
        self.0.has_broken(&mut conn.client)
    }
}

impl Peer for Pool<Manager> {
    type Conn = PooledConnection<'static, Manager>;

    async fn get(&self) -> Result<Self::Conn, Error> {
        Ok(self.get_owned().await?)
    }

    async fn select_one(conn: &mut Self::Conn) -> Result<(), Error> {
        conn.select_one().await
    }

    async fn transaction(&self, inserts: u32) -> Result<(), Error> {
        Self::get(self).await?.transaction(inserts).await
    }
}
