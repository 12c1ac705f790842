//! `run_tx` and its options.

use std::error::Error as StdError;

use diesel::result::Error as DieselError;
use diesel_async::AsyncPgConnection;
use leadpool::{Replay, adapter::Options, consistency::ConsistencyToken};

use super::{
    Tx,
    attempt::{Carry, attempt},
    func::AsyncFuncOnce,
};
use crate::asynchronous::{
    Error, Pool,
    error::{into_pool, unwrap, wrap},
};

/// The options of one transaction, from [`Pool::tx`].
///
/// ```no_run
/// # async fn f(pool: leadpool_diesel::Pool) -> Result<(), leadpool_diesel::Error> {
/// use std::time::Duration;
/// use leadpool_diesel::{diesel, diesel_async::RunQueryDsl as _, leadpool::IsolationLevel};
/// use diesel::{dsl::sql, sql_types::BigInt};
///
/// let total: i64 = pool.tx()
///     .isolation(IsolationLevel::Serializable)
///     .deadline(Duration::from_secs(5))
///     .run(|mut tx| async move {
///         let sum = sql::<BigInt>("SELECT sum(cents)::int8 FROM orders");
///         sum.get_result(&mut tx).await
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
        Fut: Future<Output = Result<T, DieselError>>,
    {
        match self.attempts(closure, into_pool).await {
            Ok(value) => Ok(value),
            Err(leadpool::Error::User(source)) => Err(match source.downcast::<Error>() {
                Ok(error) => *error,
                Err(source) => Error::Pool(leadpool::Error::User(source)),
            }),
            Err(error) => Err(error.into()),
        }
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
    pub async fn run_with_token<T, F, Fut>(
        mut self,
        closure: F,
    ) -> Result<(T, ConsistencyToken), Error>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, DieselError>>,
    {
        let slot = self.options.ask_for_token();
        let cluster = self.pool.cluster();
        let value = self.run(closure).await?;
        Ok((value, slot.take(cluster)))
    }

    /// Runs the transaction with a closure that gets a `&mut AsyncPgConnection`: see
    /// [`Pool::run_tx_ref`].
    ///
    /// # Errors
    ///
    /// As [`Pool::run_tx`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::run_tx`].
    pub async fn run_ref<T, F>(self, closure: F) -> Result<T, Error>
    where
        F: for<'r> AsyncFuncOnce<&'r mut AsyncPgConnection, Result<T, DieselError>, Fut: Send>
            + for<'r> AsyncFnOnce(&'r mut AsyncPgConnection) -> Result<T, DieselError>
            + Replay,
    {
        self.run(move |mut tx| async move { closure(&mut tx).await })
            .await
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
        self.attempts(closure, wrap).await.map_err(unwrap)
    }

    async fn attempts<T, E, F, Fut>(self, closure: F, carry: Carry<E>) -> Result<T, leadpool::Error>
    where
        F: FnOnce(Tx) -> Fut + Clone,
        Fut: Future<Output = Result<T, E>>,
    {
        let pool = &self.pool.inner;
        let options = &self.options;
        pool.transactions
            .run(&pool.sub_pools, options, |this| {
                attempt(pool, options, closure.clone(), carry, this)
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
    /// statements can't be sent along with others through diesel. So `BEGIN`, and one question
    /// before `COMMIT`, take a round trip each; without
    /// [evidence](TxBuilder::evidence) there is no question, and a COMMIT that is not answered is
    /// [unknown](leadpool::Error::Unknown). A `COMMIT` of a transaction that has failed, which
    /// diesel takes for a success, is an [error](leadpool::Error::RolledBack) either way.
    ///
    /// Nested transactions (`tx.transaction(..)`) are savepoints, as ever. On a connection in a
    /// transaction of a test (`begin_test_transaction`) the whole is a savepoint, and nothing is
    /// committed.
    ///
    /// On a [`reader`](Self::reader) it only reads, on a standby.
    ///
    /// # Errors
    ///
    /// [`Error::Diesel`] is what the closure returned, if repeating does not cure it, with the
    /// SQLSTATE that diesel does not tell; the rest is as in [`leadpool::Pool::run_tx`], in
    /// [`Error::Pool`].
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
    /// # async fn f(pool: leadpool_diesel::Pool) -> Result<(), leadpool_diesel::Error> {
    /// use leadpool_diesel::{diesel, diesel_async::RunQueryDsl as _};
    /// use diesel::{sql_query, sql_types::BigInt};
    ///
    /// let (from, to, cents) = (1_i64, 2_i64, 995_i64);
    /// pool.run_tx(async move |mut tx| {
    ///     let change = "UPDATE accounts SET cents = cents + $2 WHERE id = $1";
    ///     let change = |id: i64, by: i64| sql_query(change).bind::<BigInt, _>(id).bind::<BigInt, _>(by);
    ///     change(from, -cents).execute(&mut tx).await?;
    ///     change(to, cents).execute(&mut tx).await?;
    ///     Ok(())
    /// })
    /// .await
    /// # }
    /// ```
    pub async fn run_tx<T, F, Fut>(&self, closure: F) -> Result<T, Error>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, DieselError>>,
    {
        self.tx().run(closure).await
    }

    /// [`run_tx`](Self::run_tx) for closures that are written as those of diesel-async's
    /// `transaction`: they get a `&mut AsyncPgConnection`.
    ///
    /// # Errors
    ///
    /// As [`run_tx`](Self::run_tx).
    ///
    /// # Cancel safety
    ///
    /// As [`run_tx`](Self::run_tx).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_diesel::Pool) -> Result<(), leadpool_diesel::Error> {
    /// use leadpool_diesel::{diesel, diesel_async::RunQueryDsl};
    ///
    /// // conn.transaction(async |conn| { ... }) before
    /// pool.run_tx_ref(async |conn| {
    ///     diesel::sql_query("INSERT INTO orders DEFAULT VALUES").execute(conn).await
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_tx_ref<T, F>(&self, closure: F) -> Result<T, Error>
    where
        F: for<'r> AsyncFuncOnce<&'r mut AsyncPgConnection, Result<T, DieselError>, Fut: Send>
            + for<'r> AsyncFnOnce(&'r mut AsyncPgConnection) -> Result<T, DieselError>
            + Replay,
    {
        self.tx().run_ref(closure).await
    }

    /// [`run_tx`](Self::run_tx) with an error type of the application's own.
    ///
    /// Whether an error is worth another attempt is found out from diesel's error in its chain of
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
    /// use leadpool_diesel::{diesel, diesel_async::RunQueryDsl as _};
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// enum ShopError {
    ///     #[error("out of stock")]
    ///     OutOfStock,
    ///     #[error(transparent)]
    ///     Pool(#[from] leadpool_diesel::Error),
    ///     #[error("database")]
    ///     Database(#[from] diesel::result::Error),
    /// }
    ///
    /// # async fn f(pool: leadpool_diesel::Pool) -> Result<(), ShopError> {
    /// pool.try_run_tx(|mut tx| async move {
    ///     let sale = diesel::sql_query("UPDATE stock SET n = n - 1 WHERE n > 0");
    ///     match sale.execute(&mut tx).await? {
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
