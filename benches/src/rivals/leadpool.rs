//! leadpool itself.

use deadpool_postgres::Client;
use leadpool::Pool;

use super::{Error, INSERT, deadpool, peer::Peer};

pub(super) async fn open(url: &str, size: usize) -> Result<Pool, Error> {
    let pool = Pool::builder(url);
    let pool = pool.configure(|config| config.writer_size(size).reader_size(size));
    Ok(pool.build().await?)
}

impl Peer for Pool {
    type Conn = Client;

    async fn get(&self) -> Result<Client, Error> {
        Ok(Self::get(self).await?)
    }

    async fn select_one(client: &mut Client) -> Result<(), Error> {
        deadpool::select_one(client).await
    }

    async fn transaction(&self, inserts: u32) -> Result<(), Error> {
        self.run_tx(|tx| async move {
            let insert = tx.prepare_cached(INSERT).await?;
            for _ in 0..inserts {
                tx.execute(&insert, &[&1_i64]).await?;
            }
            Ok(())
        })
        .await?;
        Ok(())
    }
}
