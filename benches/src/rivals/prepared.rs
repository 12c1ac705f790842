//! A bare connection that prepares each statement once.

use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::{Error, INSERT, SELECT_ONE};

/// For pools that keep no prepared statements.
pub(super) struct Prepared {
    pub(super) client: Client,
    select_one: OnceCell<Statement>,
    insert: OnceCell<Statement>,
}

impl Prepared {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            select_one: OnceCell::new(),
            insert: OnceCell::new(),
        }
    }

    pub(super) async fn connect(config: &Config) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the client, as in the driver's own examples"
        )]
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self::new(client))
    }

    pub(super) async fn select_one(&self) -> Result<(), Error> {
        let prepare = || self.client.prepare(SELECT_ONE);
        let select_one = self.select_one.get_or_try_init(prepare).await?;
        self.client.query_one(select_one, &[]).await?;
        Ok(())
    }

    /// As users write it by hand.
    pub(super) async fn transaction(&mut self, inserts: u32) -> Result<(), Error> {
        let Self { client, insert, .. } = self;
        let tx = client.transaction().await?;
        let insert = insert.get_or_try_init(|| tx.prepare(INSERT)).await?;
        for _ in 0..inserts {
            tx.execute(insert, &[&1_i64]).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
