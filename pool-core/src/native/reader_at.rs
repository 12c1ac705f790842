//! Reading one's own writes.

use std::time::Duration;

use deadpool_postgres::Client;

use super::Pool;
use crate::{
    consistency::{ConsistencyToken, Served},
    error::Error,
    pool::Purpose,
};

impl Pool {
    /// What a read must have seen in order to see all that has been committed before this call:
    /// see [`Cluster::token`](crate::Cluster::token).
    ///
    /// # Errors
    ///
    /// [`Error::NoHost`] if no writer has answered within the checkout timeout.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn token(&self) -> Result<ConsistencyToken, Error> {
        self.cluster().token().await
    }

    /// Takes a connection for reads that must see what the token stands for: to a standby that has
    /// replayed it, else to the writer.
    ///
    /// A standby that is known to have it serves at once. Otherwise one is waited for, for the
    /// [`consistency_wait`](crate::config::PoolSettings::consistency_wait) at most, and then the
    /// writer serves. It also serves what a failover has [lost](crate::consistency::Standing::Lost)
    /// and what can't be told: [`timeout_reader_at`](Self::timeout_reader_at) says so.
    /// [The manual](crate::manual::consistency) has the whole of it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`Error::TokenRefused`]: the token is of another cluster, or of a
    /// timeline that no primary here has shown.
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
    /// let (id, token): (i64, _) = pool
    ///     .tx()
    ///     .run_with_token(|tx| async move {
    ///         let row = tx.query_one("INSERT INTO orders DEFAULT VALUES RETURNING id", &[]).await?;
    ///         Ok(row.get(0))
    ///     })
    ///     .await?;
    ///
    /// let reader = pool.reader_at(&token).await?;
    /// let order = reader.query_one("SELECT * FROM orders WHERE id = $1", &[&id]).await?; // is there
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reader_at(&self, token: &ConsistencyToken) -> Result<Client, Error> {
        let timeout = self.cluster().config().pool().checkout_timeout;
        let (client, _) = self.timeout_reader_at(token, timeout).await?;
        Ok(client)
    }

    /// [`reader_at`](Self::reader_at) within a time of its own; also says who serves, and what
    /// became of the token.
    ///
    /// # Errors
    ///
    /// As [`reader_at`](Self::reader_at).
    ///
    /// # Cancel safety
    ///
    /// As [`reader_at`](Self::reader_at).
    ///
    /// # Examples
    ///
    /// See [`Served`].
    pub async fn timeout_reader_at(
        &self,
        token: &ConsistencyToken,
        timeout: Duration,
    ) -> Result<(Client, Served), Error> {
        self.sub_pools()
            .checkout_at(Purpose::New, token, timeout, |client, _| client)
            .await
    }
}
