//! Reading one's own writes.

use std::time::Duration;

use leadpool::{
    Target,
    adapter::Purpose,
    consistency::{ConsistencyToken, Served},
};
use sqlx::{Postgres, pool::PoolConnection};

use crate::{Error, Pool, error::into_sqlx};

impl Pool {
    /// What a read must have seen in order to see all that has been committed before this call:
    /// see [`leadpool::Cluster::token`].
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] with [`leadpool::Error::NoHost`] if no writer has answered within the
    /// acquire timeout.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn token(&self) -> Result<ConsistencyToken, Error> {
        let timeout = self.acquire_timeout();
        Ok(self.cluster().timeout_token(timeout).await?)
    }

    /// The same pool as a handle for reads that must see what the token stands for: a standby that
    /// has replayed it serves them, else the writer. Otherwise it is as [`reader`](Self::reader).
    ///
    /// Which one is decided for each checkout, as in [`leadpool::Pool::reader_at`];
    /// [the manual](leadpool::manual::consistency) has the whole of it. A token that nobody here can
    /// serve ends them with [`leadpool::Error::TokenRefused`], [inside](Error::inside) of `Io`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_sqlx::Pool) -> Result<(), leadpool_sqlx::Error> {
    /// let (id, token) = pool
    ///     .tx()
    ///     .run_with_token(|mut tx| async move {
    ///         let insert = "INSERT INTO orders DEFAULT VALUES RETURNING id";
    ///         sqlx::query_scalar::<_, i64>(insert).fetch_one(&mut *tx).await
    ///     })
    ///     .await?;
    ///
    /// // Later, in another request: it is there.
    /// let item: String = sqlx::query_scalar("SELECT item FROM orders WHERE id = $1")
    ///     .bind(id)
    ///     .fetch_one(&pool.reader_at(&token))
    ///     .await?;
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
    /// As [`acquire`](Self::acquire), and `Io` with [`leadpool::Error::TokenRefused`]
    /// [inside](Error::inside).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_sqlx::Pool, token: leadpool_sqlx::leadpool::consistency::ConsistencyToken)
    /// # -> Result<(), sqlx::Error> {
    /// let limit = std::time::Duration::from_secs(2);
    /// let (mut conn, served) = pool.acquire_at(&token, limit).await?;
    /// println!("by {}, {}", served.by, served.standing);
    /// sqlx::query("SELECT * FROM orders").fetch_all(&mut *conn).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire_at(
        &self,
        token: &ConsistencyToken,
        timeout: Duration,
    ) -> Result<(PoolConnection<Postgres>, Served), sqlx::Error> {
        let pools = &self.inner().sub_pools;
        let taken = pools.checkout_at(Purpose::New, token, timeout, |conn, _| conn);
        taken.await.map_err(into_sqlx)
    }
}
