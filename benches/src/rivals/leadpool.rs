//! leadpool itself.

use deadpool_postgres::Client;
use leadpool::Pool;

use super::{Error, INSERT, deadpool, peer::Peer};

pub(super) async fn open(url: &str, size: usize) -> Result<Pool, Error> {
    let pool = Pool::builder(url);
    let pool = pool.configure(|config| config.writer_size(size).reader_size(size));
    Ok(pool.build().await?)
}

pub(super) async fn open_single_shot(url: &str, size: usize) -> Result<SingleShot, Error> {
    Ok(SingleShot(open(url, size).await?))
}

/// The same, with a transaction of one statement as [`Pool::execute_tx`].
#[derive(Clone)]
pub(super) struct SingleShot(Pool);

impl Peer for SingleShot {
    type Conn = Client;

    async fn get(&self) -> Result<Client, Error> {
        Peer::get(&self.0).await
    }

    async fn select_one(client: &mut Client) -> Result<(), Error> {
        deadpool::select_one(client).await
    }

    async fn transaction(&self, inserts: u32) -> Result<(), Error> {
        if inserts != 1 {
            return Err("a single shot has one statement".into());
        }
        self.0.execute_tx(INSERT, &[&1_i64]).await?;
        Ok(())
    }
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
