//! `run_tx` and its options.

use std::error::Error as StdError;

use super::{Pool, Tx, attempt};
use crate::{
    consistency::ConsistencyToken,
    error::Error,
    tx::{Options, Replay},
};

/// The options of one transaction, from [`Pool::tx`].
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// use std::time::Duration;
/// use leadpool::{IsolationLevel, Target};
///
/// let total: i64 = pool.tx()
///     .target(Target::PreferStandby)
///     .read_only(true)
///     .isolation(IsolationLevel::RepeatableRead)
///     .deadline(Duration::from_secs(5))
///     .run(|tx| async move { Ok(tx.query_one("SELECT sum(cents) FROM orders", &[]).await?.get(0)) })
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a transaction does nothing until `run` is awaited"]
pub struct TxBuilder<'a> {
    pub(super) pool: &'a Pool,
    pub(super) options: Options,
}

impl<'a> TxBuilder<'a> {
    pub(super) fn new(pool: &'a Pool) -> Self {
        Self {
            options: Options::new(pool.cluster().config().tx()),
            pool,
        }
    }

    tx_setters!("crate");

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
        Fut: Future<Output = Result<T, Error>>,
    {
        let pools = self.pool.sub_pools();
        let sessions = self.pool.sessions();
        let options = &self.options;
        let transactions = self.pool.transactions();
        transactions
            .run(pools, options, |this| {
                attempt::attempt(pools, sessions, options, closure.clone(), this)
            })
            .await
    }

    /// Runs the transaction, and says what a read must have seen in order to see it.
    ///
    /// The position is asked for in the same go as COMMIT, so it takes no round trip. If COMMIT is
    /// answered and this is not, or COMMIT is not and was [found out](crate::manual::commit) to have
    /// happened, the token is one [of the writer](ConsistencyToken::of_writer); so is that of a
    /// transaction that ran on a standby, which has nothing to show.
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
        Fut: Future<Output = Result<T, Error>>,
    {
        let pools = self.pool.sub_pools();
        let sessions = self.pool.sessions();
        let options = &self.options;
        let transactions = self.pool.transactions();
        transactions
            .run(pools, options, |this| {
                attempt::attempt_with_token(pools, sessions, options, closure.clone(), this)
            })
            .await
    }

    /// Runs the transaction with an error type of the application's own: see
    /// [`Pool::try_run_tx`].
    ///
    /// # Errors
    ///
    /// The closure's own error, or a leadpool error turned into its type.
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
            .run(move |tx| {
                let running = closure(tx);
                async move { running.await.map_err(wrap) }
            })
            .await;
        outcome.map_err(unwrap)
    }
}

/// Carries an application's error through the retry loop, which looks for the driver's error in
/// its sources.
fn wrap<E: StdError + Send + Sync + 'static>(error: E) -> Error {
    let boxed: Box<dyn StdError + Send + Sync> = Box::new(error);
    match boxed.downcast::<Error>() {
        Ok(error) => *error,
        Err(boxed) => Error::User(boxed),
    }
}

/// The reverse of [`wrap`].
fn unwrap<E: StdError + From<Error> + 'static>(error: Error) -> E {
    match error {
        Error::User(boxed) => match boxed.downcast::<E>() {
            Ok(error) => *error,
            Err(boxed) => Error::User(boxed).into(),
        },
        error => error.into(),
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
    /// Repeated is only what is known not to have been committed: a transaction that lost its
    /// connection before COMMIT was sent, or that the server refused for a reason that passes
    /// (serialization failure, deadlock, shutdown, a host that is no writer any more;
    /// [all of them](crate::manual::retries)), or whose COMMIT is [proved](crate::manual::commit)
    /// not to have happened. Between
    /// attempts it waits for the topology, not for a fixed time. The number of attempts, the
    /// time, and the share of retries in the whole pool's load are bounded
    /// ([`TxSettings`](crate::config::TxSettings)).
    ///
    /// BEGIN travels with the closure's first statement. A transaction of one prepared statement
    /// takes two round trips, evidence included; the first on each connection one more.
    ///
    /// # Errors
    ///
    /// - [`Error::Unknown`]: COMMIT was sent and never answered, and what became of it can't be
    ///   proved. It is not repeated; the evidence in it can be [asked for](Self::resolve) later.
    /// - [`Error::NotReplicated`]: committed, but perhaps on one server only.
    /// - [`Error::RolledBack`]: a statement had failed, and the closure returned `Ok` all the
    ///   same.
    /// - [`Error::TxDeadline`], [`Error::RetriesExhausted`], [`Error::NoHost`],
    ///   [`Error::QueueFull`]: not in time, or not in so many attempts. Nothing was committed.
    /// - what the closure returned, if repeating does not cure it.
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
    /// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
    /// let (from, to, cents) = (1_i64, 2_i64, 995_i64);
    /// pool.run_tx(|tx| async move {
    ///     let change = tx.prepare_cached("UPDATE accounts SET cents = cents + $2 WHERE id = $1").await?;
    ///     tx.execute(&change, &[&from, &-cents]).await?;
    ///     tx.execute(&change, &[&to, &cents]).await?;
    ///     Ok(())
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_tx<T, F, Fut>(&self, closure: F) -> Result<T, Error>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, Error>>,
    {
        self.tx().run(closure).await
    }

    /// [`run_tx`](Self::run_tx) with an error type of the application's own.
    ///
    /// Whether an error is worth another attempt is found out from the driver's error in its
    /// chain of [`source`](StdError::source)s: an error that hides its source is not repeated.
    ///
    /// # Errors
    ///
    /// The closure's own error, or a leadpool error turned into its type.
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
    ///     Pool(#[from] leadpool::Error),
    ///     #[error("database")]
    ///     Database(#[from] leadpool::tokio_postgres::Error),
    /// }
    ///
    /// # async fn f(pool: leadpool::Pool) -> Result<(), ShopError> {
    /// pool.try_run_tx(|tx| async move {
    ///     match tx.execute("UPDATE stock SET n = n - 1 WHERE n > 0", &[]).await? {
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
        TxBuilder::new(self)
    }
}
