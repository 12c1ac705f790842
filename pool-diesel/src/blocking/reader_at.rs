//! Reading one's own writes.

use std::time::Duration;

use leadpool::consistency::{ConsistencyToken, Served};

use super::{Error, Pool, PooledConnection, inner::Wish};

impl<M> Pool<M> {
    /// What a read must have seen in order to see all that has been committed before this call:
    /// see [`leadpool::Cluster::token`].
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] with [`leadpool::Error::NoHost`] if no writer has answered within the
    /// connection timeout.
    pub fn token(&self) -> Result<ConsistencyToken, Error> {
        let (cluster, timeout) = (self.cluster().clone(), self.connection_timeout());
        let runtime = self.shared.runtime()?;
        let asked = runtime.run(async move { cluster.timeout_token(timeout).await });
        Ok(asked.ok_or(leadpool::Error::Closed)??)
    }

    /// A handle for reads that must see what the token stands for: a standby that has replayed it
    /// serves them, else the writer. Otherwise it is as [`reader`](Self::reader).
    ///
    /// Which one is decided for each checkout, as in [`leadpool::Pool::reader_at`];
    /// [the manual](leadpool::manual::consistency) has the whole of it. A token that nobody here can
    /// serve ends them with [`leadpool::Error::TokenRefused`], in [`Error::Pool`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use diesel::prelude::*;
    ///
    /// # fn f(pool: leadpool_diesel::blocking::Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// let (_, token) = pool.tx().run_with_token(|conn| {
    ///     diesel::sql_query("INSERT INTO orders DEFAULT VALUES").execute(conn)
    /// })?;
    ///
    /// // Later, in another request: the order is there.
    /// let mut conn = pool.reader_at(&token).get()?;
    /// diesel::sql_query("SELECT * FROM orders").execute(&mut conn)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn reader_at(&self, token: &ConsistencyToken) -> Self {
        self.with_wish(Wish::Seen(*token))
    }

    /// Takes a connection for reads that must see what the token stands for, within a time of its
    /// own; also says who serves, and what became of the token.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`Error::Pool`] with [`leadpool::Error::TokenRefused`].
    pub fn get_at(
        &self,
        token: &ConsistencyToken,
        timeout: Duration,
    ) -> Result<(PooledConnection<M>, Served), Error> {
        let (inner, token) = (self.shared.inner.clone(), *token);
        let runtime = self.shared.runtime()?;
        // Not in this thread: see `Runtime::begin`.
        let got = runtime.run(async move {
            let got: Result<(PooledConnection, Served), _> =
                inner.checkout_at(&token, timeout).await;
            got
        });
        let (conn, served) = got.ok_or(leadpool::Error::Closed)??;
        Ok((conn.into_named(), served))
    }
}
