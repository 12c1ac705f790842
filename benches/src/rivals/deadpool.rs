//! deadpool-postgres.

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::NoTls;

use super::{Error, INSERT, SELECT_ONE, peer::Peer};

pub(super) fn open(
    url: &str,
    size: usize,
    recycling_method: RecyclingMethod,
) -> Result<Pool, Error> {
    let config = ManagerConfig { recycling_method };
    let manager = Manager::from_config(url.parse()?, NoTls, config);
    let pool = Pool::builder(manager).max_size(size);
    Ok(pool.runtime(Runtime::Tokio1).build()?)
}

pub(super) async fn select_one(client: &Client) -> Result<(), Error> {
    let select_one = client.prepare_cached(SELECT_ONE).await?;
    client.query_one(&select_one, &[]).await?;
    Ok(())
}

impl Peer for Pool {
    type Conn = Client;

    async fn get(&self) -> Result<Client, Error> {
        Ok(Self::get(self).await?)
    }

    async fn select_one(client: &mut Client) -> Result<(), Error> {
        select_one(client).await
    }

    async fn transaction(&self, inserts: u32) -> Result<(), Error> {
        let mut client = Self::get(self).await?;
        let tx = client.transaction().await?;
        let insert = tx.prepare_cached(INSERT).await?;
        for _ in 0..inserts {
            tx.execute(&insert, &[&1_i64]).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
