//! `run_tx` and its options.

use std::error::Error as StdError;

use leadpool::{Replay, adapter::Options, consistency::ConsistencyToken};

use super::{Tx, attempt::attempt};
use crate::{
    Error, Pool,
    error::{into_pool, unwrap, wrap},
};

/// The options of one transaction, from [`Pool::tx`].
///
/// ```no_run
/// # async fn f(pool: leadpool_sqlx::Pool) -> Result<(), leadpool_sqlx::Error> {
/// use std::time::Duration;
/// use leadpool_sqlx::leadpool::IsolationLevel;
///
/// let total: i64 = pool.tx()
///     .isolation(IsolationLevel::Serializable)
///     .deadline(Duration::from_secs(5))
///     .run(|mut tx| async move {
///         sqlx::query_scalar("SELECT sum(cents)::int8 FROM orders").fetch_one(&mut *tx).await
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a transaction does nothing until `run` is awaited"]
pub struct TxBuilder<'a> {
    pool: &'a Pool,
    options: Options,
}

impl TxBuilder<'_> {
    leadpool::tx_setters!("leadpool");

    /// Runs the transaction: see [`Pool::run_tx`].
    ///
    /// # Errors
    ///
    /// As [`Pool::run_tx`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::run_tx`].
    pub async fn run<T, F, Fut>(self, closure: F) -> Result<T, Error>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, sqlx::Error>>,
    {
        let outcome = self
            .attempts(move |tx| {
                let running = closure(tx);
                async move { running.await.map_err(into_pool) }
            })
            .await;
        outcome.map_err(|error| match error {
            // What was not sqlx's came out of one of its errors.
            leadpool::Error::User(source) => match source.downcast::<Error>() {
                Ok(error) => *error,
                Err(source) => Error::Pool(leadpool::Error::User(source)),
            },
            error => error.into(),
        })
    }

    /// Runs the transaction, and says what a read must have seen in order to see it.
    ///
    /// The position is asked for behind COMMIT, as by [`Pool::token`], which takes a round trip. If
    /// it is not answered soon, or by another writer, the token is one [of the
    /// writer](ConsistencyToken::of_writer).
    ///
    /// # Errors
    ///
    /// As [`Pool::run_tx`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::run_tx`].
    ///
    /// # Examples
    ///
    /// See [`Pool::reader_at`].
    pub async fn run_with_token<T, F, Fut>(self, closure: F) -> Result<(T, ConsistencyToken), Error>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, sqlx::Error>>,
    {
        let mut this = self;
        let slot = this.options.ask_for_token();
        let cluster = this.pool.cluster();
        let value = this.run(closure).await?;
        Ok((value, slot.take(cluster)))
    }

    /// Runs the transaction with an error type of the application's own: see
    /// [`Pool::try_run_tx`].
    ///
    /// # Errors
    ///
    /// The closure's own error, or one of this crate turned into its type.
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::run_tx`].
    pub async fn try_run<T, E, F, Fut>(self, closure: F) -> Result<T, E>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, E>>,
        E: StdError + From<Error> + Send + Sync + 'static,
    {
        let outcome = self
            .attempts(move |tx| {
                let running = closure(tx);
                async move { running.await.map_err(wrap) }
            })
            .await;
        outcome.map_err(unwrap)
    }

    async fn attempts<T, F, Fut>(self, closure: F) -> Result<T, leadpool::Error>
    where
        F: FnOnce(Tx) -> Fut + Clone,
        Fut: Future<Output = Result<T, leadpool::Error>>,
    {
        let pool = self.pool.inner();
        let options = &self.options;
        pool.transactions
            .run(&pool.sub_pools, options, |this| {
                attempt(pool, options, closure.clone(), this)
            })
            .await
    }
}

impl Pool {
    /// Runs a transaction on the writer, and runs it again when a failover or another transaction
    /// got in the way.
    ///
    /// The closure gets an open transaction and ends it by returning: `Ok` commits, `Err` rolls
    /// back. It may run several times, so it must not do what a rollback does not undo (send a
    /// mail, charge a card); what it captures is cloned for each run.
    ///
    /// What is repeated and what is not is as in [`leadpool::Pool::run_tx`]. Unlike there,
    /// statements can't be sent along with others through sqlx. So `BEGIN`, and one question
    /// before `COMMIT`, take a round trip each; without
    /// [evidence](TxBuilder::evidence) there is no question, and a COMMIT that is not answered is
    /// [unknown](leadpool::Error::Unknown). A `COMMIT` of a transaction that has failed, which
    /// sqlx takes for a success, is an [error](leadpool::Error::RolledBack) either way.
    ///
    /// On a [`reader`](Self::reader) it only reads, on a standby.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlx`] is what the closure returned, if repeating does not cure it; the rest is as
    /// in [`leadpool::Pool::run_tx`], in [`Error::Pool`]. But
    /// [`NotReplicated`](leadpool::Error::NotReplicated) is not noticed: sqlx keeps the server's
    /// notices to itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection it used: the server rolls back, and nothing of
    /// it reaches the next user of the pool. Once COMMIT has been sent, dropping it leaves
    /// unknown whether it happened.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_sqlx::Pool) -> Result<(), leadpool_sqlx::Error> {
    /// let (from, to, cents) = (1_i64, 2_i64, 995_i64);
    /// pool.run_tx(|mut tx| async move {
    ///     let change = "UPDATE accounts SET cents = cents + $2 WHERE id = $1";
    ///     sqlx::query(change).bind(from).bind(-cents).execute(&mut *tx).await?;
    ///     sqlx::query(change).bind(to).bind(cents).execute(&mut *tx).await?;
    ///     Ok(())
    /// })
    /// .await
    /// # }
    /// ```
    pub async fn run_tx<T, F, Fut>(&self, closure: F) -> Result<T, Error>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, sqlx::Error>>,
    {
        self.tx().run(closure).await
    }

    /// [`run_tx`](Self::run_tx) with an error type of the application's own.
    ///
    /// Whether an error is worth another attempt is found out from sqlx's error in its chain of
    /// [`source`](StdError::source)s: an error that hides its source is not repeated.
    ///
    /// # Errors
    ///
    /// The closure's own error, or one of this crate turned into its type.
    ///
    /// # Cancel safety
    ///
    /// As [`run_tx`](Self::run_tx).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// #[derive(Debug, thiserror::Error)]
    /// enum ShopError {
    ///     #[error("out of stock")]
    ///     OutOfStock,
    ///     #[error(transparent)]
    ///     Pool(#[from] leadpool_sqlx::Error),
    ///     #[error("database")]
    ///     Database(#[from] sqlx::Error),
    /// }
    ///
    /// # async fn f(pool: leadpool_sqlx::Pool) -> Result<(), ShopError> {
    /// pool.try_run_tx(|mut tx| async move {
    ///     let sold = sqlx::query("UPDATE stock SET n = n - 1 WHERE n > 0").execute(&mut *tx).await?;
    ///     match sold.rows_affected() {
    ///         0 => Err(ShopError::OutOfStock),
    ///         _ => Ok(()),
    ///     }
    /// })
    /// .await
    /// # }
    /// ```
    pub async fn try_run_tx<T, E, F, Fut>(&self, closure: F) -> Result<T, E>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, E>>,
        E: StdError + From<Error> + Send + Sync + 'static,
    {
        self.tx().try_run(closure).await
    }

    /// A transaction with options of its own.
    ///
    /// # Examples
    ///
    /// See [`TxBuilder`].
    pub fn tx(&self) -> TxBuilder<'_> {
        let mut options = Options::new(self.cluster().config().tx());
        options.target = self.target();
        options.token = self.token;
        if self.only_reads() {
            options.read_only = Some(true);
        }
        TxBuilder {
            pool: self,
            options,
        }
    }
}
