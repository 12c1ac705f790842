//! mobc, with a manager like that of `mobc-postgres`, which stays with an older mobc.

use mobc::{Connection, Pool, async_trait};
use tokio_postgres::Config;

use super::{Error, peer::Peer, prepared::Prepared};

pub(super) struct Manager(Config);

pub(super) fn open(url: &str, size: usize, test: bool) -> Result<Pool<Manager>, Error> {
    let size = u64::try_from(size)?;
    // By default it closes all but two idle connections.
    let pool = Pool::builder().max_open(size).max_idle(size);
    Ok(pool.test_on_check_out(test).build(Manager(url.parse()?)))
}

#[async_trait]
impl mobc::Manager for Manager {
    type Connection = Prepared;
    type Error = tokio_postgres::Error;

    async fn connect(&self) -> Result<Prepared, Self::Error> {
        Prepared::connect(&self.0).await
    }

    async fn check(&self, conn: Prepared) -> Result<Prepared, Self::Error> {
        conn.client.simple_query("").await?;
        Ok(conn)
    }

    fn validate(&self, conn: &mut Prepared) -> bool {
        !conn.client.is_closed()
    }
}

impl Peer for Pool<Manager> {
    type Conn = Connection<Manager>;

    async fn get(&self) -> Result<Self::Conn, Error> {
        Ok(Self::get(self).await?)
    }

    async fn select_one(conn: &mut Self::Conn) -> Result<(), Error> {
        conn.select_one().await
    }

    async fn transaction(&self, inserts: u32) -> Result<(), Error> {
        Self::get(self).await?.transaction(inserts).await
    }
}
