//! Reading one's own writes.

use std::time::Duration;

use leadpool::{
    Target,
    adapter::Purpose,
    consistency::{ConsistencyToken, Served},
};

use super::{Error, Object, Pool, PoolError, error::into_pooled};

impl Pool {
    /// What a read must have seen in order to see all that has been committed before this call:
    /// see [`leadpool::Cluster::token`].
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] with [`leadpool::Error::NoHost`] if no writer has answered within the
    /// checkout timeout.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn token(&self) -> Result<ConsistencyToken, Error> {
        Ok(self.cluster().token().await?)
    }

    /// The same pool as a handle for reads that must see what the token stands for: a standby that
    /// has replayed it serves them, else the writer. Otherwise it is as [`reader`](Self::reader).
    ///
    /// Which one is decided for each checkout, as in [`leadpool::Pool::reader_at`];
    /// [the manual](leadpool::manual::consistency) has the whole of it. A token that nobody here can
    /// serve ends them with [`leadpool::Error::TokenRefused`], [inside](Error::inside) of `Backend`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_diesel::Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// use leadpool_diesel::{diesel, diesel_async::RunQueryDsl as _};
    ///
    /// let (_, token) = pool
    ///     .tx()
    ///     .run_with_token(|mut tx| async move {
    ///         diesel::sql_query("INSERT INTO orders DEFAULT VALUES").execute(&mut tx).await
    ///     })
    ///     .await?;
    ///
    /// // Later, in another request: the order is there.
    /// let mut conn = pool.reader_at(&token).get().await?;
    /// diesel::sql_query("SELECT * FROM orders").execute(&mut conn).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn reader_at(&self, token: &ConsistencyToken) -> Self {
        Self {
            token: Some(*token),
            ..self.targeting(Target::PreferStandby)
        }
    }

    /// Takes a connection for reads that must see what the token stands for, within a time of its
    /// own; also says who serves, and what became of the token.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and `Backend` with [`leadpool::Error::TokenRefused`]
    /// [inside](Error::inside).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_diesel::Pool, token: leadpool_diesel::leadpool::consistency::ConsistencyToken)
    /// # -> Result<(), leadpool_diesel::PoolError> {
    /// let limit = std::time::Duration::from_secs(2);
    /// let (conn, served) = pool.get_at(&token, limit).await?;
    /// println!("by {}, {}", served.by, served.standing);
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_at(
        &self,
        token: &ConsistencyToken,
        timeout: Duration,
    ) -> Result<(Object, Served), PoolError> {
        let pools = &self.inner.sub_pools;
        let got = pools.checkout_at(Purpose::New, token, timeout, |conn, _| conn);
        got.await.map_err(into_pooled)
    }
}
